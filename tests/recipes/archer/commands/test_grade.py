"""`archer grade`."""

import json

import pytest
import typer
from typer.testing import CliRunner

from recipes.archer.commands import cli
from recipes.archer.commands.grade import grade_command
from recipes.archer.ending import UserError

app = typer.Typer()
app.command("grade")(grade_command)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_come_back_in_order_with_their_grades(tmp_path):
    rows = [
        {"response": r"\boxed{1/2}", "ground_truth": "0.5", "step": 3},
        {"response": "the answer is 0.5 \ud800", "ground_truth": ["0.5"], "extra": {"a": [1]}},
        {"response": r"\boxed{9!!}", "ground_truth": 7},
        {"response": r"\boxed{7}", "ground_truth": 7, "score": -1},
    ]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    result = invoke(source, target, "--workers", 1)
    assert result.exit_code == 0, result.output
    graded = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["outcome"] for row in graded] == ["correct", "no_answer", "unparseable", "correct"]
    assert [row["score"] for row in graded] == [1.0, 0.0, 0.0, 1.0]
    assert [row["answer"] for row in graded] == ["1/2", None, "9!!", "7"]
    for before, after in zip(rows, graded, strict=True):
        assert {**after, **before, "score": 0} == {**after, "score": 0}, "a field of the input was changed"
    assert "4 responses" in result.output and "50.0%" in result.output
    result = invoke(source, target, "--workers", 1, "--answer-format", "any")
    assert [json.loads(line)["outcome"] for line in target.read_text().splitlines()][1] == "correct"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


GOOD = json.dumps({"response": "", "ground_truth": 1})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"ground_truth": 1}', "no field 'response'"),
        ('{"response": "a"}', "no field 'ground_truth'"),
        ('{"response": 5, "ground_truth": 1}', "'response' is not a string"),
        ('{"response": "a", "ground_truth": null}', "'ground_truth': None is not"),
        ('{"response": "a", "ground_truth": ""}', "'ground_truth': it is empty"),
    ],
)
def test_a_malformed_row_is_named_before_anything_is_graded(tmp_path, line, what, monkeypatch):
    monkeypatch.setattr("recipes.archer.commands.grade.GradingPool", lambda *_, **__: pytest.fail("graded"))
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    error = invoke(source, target).exception
    # recipes.archer.commands.cli.main shows it in one line and exits with 2.
    assert isinstance(error, UserError)
    assert f"in.jsonl line 3: {what}" in str(error)
    assert not target.exists()


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path):
    source = write(tmp_path / "in.jsonl", [])
    assert "no.jsonl: no such file" in str(invoke(tmp_path / "no.jsonl", tmp_path / "out.jsonl").exception)
    assert "its folder does not exist" in str(invoke(source, tmp_path / "no" / "out.jsonl").exception)


def test_no_rows_are_no_error(tmp_path):
    result = invoke(write(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl")
    assert result.exit_code == 0 and (tmp_path / "out.jsonl").read_text() == ""


@pytest.mark.parametrize("option", [("--workers", 0), ("--workers", 10**6), ("--answer-format", "all")])
def test_an_option_out_of_range_exits_with_2(tmp_path, option):
    assert invoke(write(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl", *option).exit_code == 2


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0", "86401", "-inf", "9" * 400])
def test_a_timeout_that_is_no_time_to_wait_is_refused_in_one_line(tmp_path, value):
    error = invoke(write(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl", "--timeout", value).exception
    assert isinstance(error, UserError) and str(error).endswith("use seconds, from 0.01 to 86400")
    assert "\n" not in str(error) and len(str(error)) < 80


@pytest.mark.parametrize("command", [["monitor", "no-run"], ["search", "show", "no-search"]])
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "9" * 400])
def test_so_is_an_interval(command, value):
    error = CliRunner().invoke(cli.app, [*command, "--follow", "--interval", value]).exception
    assert isinstance(error, UserError) and str(error).endswith("use seconds, from 0.1 to 86400")
