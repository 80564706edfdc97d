"""The model card says what is known and nothing else, and nothing in it is anybody's markup."""

from pathlib import Path

import pytest
import yaml

from exporting import save_run
from recipes.archer.export.card import card
from recipes.archer.export.choosing import choose
from run_folders import scores_of, write_scores

RECORD = {
    "name": "v9",
    "title": "Ninth",
    "parent": "v5_mended",
    "problem": "It stalls.",
    "hypothesis": "It need not.",
    "changes": [{"key": "actor.lr", "why": "Smaller steps."}],
}
FACTS = {
    "host": "secret-host",
    "command": ["/home/somebody/main.py", "x=/home/somebody/data"],
    "val_before": {"val/accuracy": 0.125},
    "git": {"commit": "c" * 40, "dirty": True},
    "versions": {"archer": "0.1.0", "torch": "2.5.1", "vllm": None},
    "experiment": "v9",
    "seed": 1,
}


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "run", {4: 0.75}, **FACTS)


def _configure(run: Path, model: object = None, record: object = None) -> str:
    """The card of the run's step with a model and a record in its configuration."""
    config = {"actor_rollout_ref": {"model": {"path": str(model) if model else None}}, "record": record}
    config |= {"actor": {"lr": 1e-7}, "trainer": {"total_training_steps": 9}, "data": {"train_files": "/home/x/t.json"}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return card(choose(run), "bfloat16", 1234567)


def _front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_what_is_known_is_said(run):
    text = _configure(run, record=RECORD)
    for said in ("# a run, step 4", "1,234,567 parameters in bfloat16", "## Experiment v9: Ninth", "It need not."):
        assert said in text
    assert r"| actor.lr | 1e-07 | Smaller steps. |" in text and r"What differs from v5\_mended" in text
    assert "| val/accuracy | 0.125 | 0.75 |" in text and "Step 4 of 9." in text
    assert f"commit: {'c' * 40}, with changes that were not committed" in text
    assert "versions: archer 0.1.0, torch 2.5.1" in text and "training prompts: t.json" in text


def test_nothing_private_is_said(run):
    text = _configure(run, "/home/somebody/models/Base", RECORD)
    assert "home" not in text and "secret-host" not in text and "base model: Base" in text


def test_what_is_not_known_is_not_invented(run):
    text = _configure(run, "/nowhere/Qwen3-0.6B-Base")
    assert "licence of the base model: not known" in text
    assert not {"license", "base_model"} & set(_front(text))
    (run / "config.yaml").unlink()
    (run / "run.json").unlink()
    text = card(choose(run), "float32", 1)
    assert "base model: not known" in text and "## Experiment" not in text and "None" not in text


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# Base\n", "apache-2.0"),
        ("---\nlicense: [mit, x]\n---\n", None),
        ("---\nlicense: 'a b\n\n# injected'\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.system [touch /tmp/never]\n---\n", None),
        ("license: mit", None),
        ("---\n{\n---\n", None),
    ],
)
def test_the_licence_is_the_base_models_own_word(run, tmp_path, front, licence):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text(front)
    assert _front(_configure(run, base)).get("license") == licence


def test_a_base_model_out_of_the_hubs_cache_has_its_name(run):
    text = _configure(run, "/cache/models--Qwen--Qwen3-0.6B-Base/snapshots/abc")
    assert _front(text)["base_model"] == "Qwen/Qwen3-0.6B-Base" and "base model: Qwen/Qwen3-0.6B-Base" in text


def test_the_figures_are_those_of_the_step_and_evaluations_go_along(run):
    write_scores(run, "best/math500", scores_of([2, 1, 3] * 10, step=4))
    write_scores(run, "other", scores_of([4, 4, 3, 3, 4], step=2))
    write_scores(run, "torn", '{"avg": ')
    write_scores(run, "odd", scores_of([1, 2]) | {"avg": "x", "avg_ci95": 3})
    text = _configure(run)
    assert "| best/math500 | 30 | 4 | 0.5 \\[0.42" in text
    assert "0.9" not in text and "torn" not in text and "odd" not in text


def test_links_among_evaluations_are_not_followed(run, tmp_path):
    secret = tmp_path / "elsewhere" / "x"
    secret.mkdir(parents=True)
    (secret / "scores.json").write_text('{"avg": 0.123}')
    (run / "evaluations").symlink_to(tmp_path / "elsewhere")
    assert "0.123" not in _configure(run)
    (run / "evaluations").unlink()
    (run / "evaluations/one").mkdir(parents=True)
    (run / "evaluations/one/scores.json").symlink_to(secret / "scores.json")
    (run / "evaluations/two").symlink_to(secret)
    assert "0.123" not in _configure(run)


def test_text_of_others_is_text(run):
    hostile = "x\n\n# Heading <script>|`\x1b[2J\u202e[a](b)"
    record = {key: hostile for key in ("name", "title", "parent", "problem", "hypothesis")}
    text = _configure(run, record=record | {"changes": [{"key": hostile, "why": hostile}, 3]})
    assert "\x1b" not in text and "\u202e" not in text and "<script>" not in text.replace(r"\<script\>", "")
    assert not [line for line in text.splitlines() if line.startswith("# Heading")]
    assert _front(text).keys() == {"library_name", "pipeline_tag", "tags"}


def test_the_lines_name_where_it_goes(run):
    assert "from_pretrained('owner/name'" in card(choose(run), "float32", 1, "owner/name")
