"""`archer runs` shows where a run was forked from."""

import json

from typer.testing import CliRunner

from recipes.archer.commands.cli import app


def test_the_lineage_of_a_fork_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, facts in {"first": {}, "second": {"forked_from": {"run": "first\x1b", "step": 40}}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"name": name} | facts))
    result = CliRunner().invoke(app, ["runs", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0 and result.output.count("↳") == 1
    assert "↳ first�, step 40" in result.output and "\x1b" not in result.output
