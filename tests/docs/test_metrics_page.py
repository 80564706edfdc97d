"""docs/metrics.md explains every key that a run emits, and no other.

The row is made by the functions that make a run's, on tiny inputs. Keys that only a literal in the trainer, the actor
or a worker brings in are found in the sources, so that a new one fails here without a run.
"""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from metrics_page import PAGE, SOURCE, documented
from recipes.archer.grading.grades import Grade
from recipes.archer.metrics import batch as batch_metrics
from recipes.archer.metrics.row import step_row
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.reward.group_filter import judge_groups
from recipes.archer.reward.manager import ArcherRewardManager
from recipes.archer.step import Step
from recipes.archer.text.metrics import text_metrics

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile(r"[a-z]\w*(/[a-z]\w*)+")
# Where a key can be born. verl's is read for one function: what its worker adds to the actor's metrics.
WORKER_OF_VERL = ROOT / "verl" / "workers" / "fsdp_workers.py"
SOURCES = [
    ROOT / "recipes" / "archer" / f"{name}.py"
    for name in (
        "trainer",
        "metrics/measure",
        "workers/calls",
        "workers/worker",
        "workers/actor",
        "losses/objective",
        "losses/token_stats",
        "metrics/batch",
        "metrics/row",
    )
]


def graded(correct: list[bool], switch: float):
    """Rewards of as many responses, with every part of the reward that can be switched on (1) or off (0)."""
    settings = SimpleNamespace(
        correct=1.0,
        incorrect=0.0,
        overlong_buffer_len=1,
        overlong_penalty_factor=1.0,
        format_bonus=switch,
        repetition_penalty=switch,
    )
    grades = [Grade(float(c), "correct" if c else "wrong") for c in correct]
    manager = ArcherRewardManager(None, None, settings, max_response_length=3)
    return manager.shape(["so it is"] * len(correct), torch.full((len(correct),), 3), grades)


def emitted(correct: list[bool], switch: float = 1.0) -> dict[str, float | None]:
    """The row of a step with so many responses, in which everything was measured that a step measures."""
    rewards = graded(correct, switch)
    mask = torch.ones(len(correct), 3, dtype=torch.long)
    batch = {"response_mask": mask, "attention_mask": torch.ones(len(correct), 5, dtype=torch.long)}
    batch["ended"] = torch.ones(len(correct), dtype=torch.bool)
    step = Step(1)
    step.timing["step"] = 1.0
    step.metrics |= batch_metrics.reward_metrics(rewards)
    step.metrics |= batch_metrics.length_metrics(batch, rewards.correct, 3)
    step.metrics |= text_metrics(rewards.texts, correct, [False] * len(correct))
    step.metrics |= batch_metrics.group_metrics([judge_groups(rewards.correct, rewards.total, len(correct))], 1)
    step.metrics |= batch_metrics.advantage_metrics(torch.ones(mask.shape), mask)
    step.metrics |= batch_metrics.engine_metrics(batch, None)
    step.metrics["actor/entropy"] = batch_metrics.masked_mean(torch.ones(mask.shape), mask)
    return step_row(step, PromptStream(2, seed=1), [SOURCE])


def literals(tree: ast.AST) -> set[str]:
    """Metric keys that a source names, as regular expressions; what an f-string fills in may be anything."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
            if "/" in "".join(parts) and re.fullmatch(r"[\w/\0]+", "".join(parts)):
                found.add("".join(".*" if part == "\0" else part for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found |= {node.value} if KEY.fullmatch(node.value) else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "timed":
            found.add(f"timing_s/{ast.literal_eval(node.args[0])}")
    return found


def function(path: Path, name: str) -> ast.AST:
    """The first function of that name in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def test_the_page_has_the_keys_of_a_row_and_no_others():
    page, row = set(documented(PAGE.read_text(encoding="utf-8"))), set(emitted([True, False]))
    assert row - page == set(), "emitted, but docs/metrics.md does not explain them"
    assert page - row == set(), "docs/metrics.md explains them, but no run emits them"


def test_a_key_is_explained_once():
    keys = documented(PAGE.read_text(encoding="utf-8"))
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("correct", [[True, True], [False, False]])
def test_a_row_has_every_key_when_a_class_or_a_part_of_the_reward_is_missing(correct):
    assert set(emitted(correct, switch=0.0)) == set(emitted([True, False]))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_what_the_code_names_has_a_place_in_the_row(path):
    _check(literals(ast.parse(path.read_text(encoding="utf-8"))))


def test_what_verls_worker_adds_has_a_place_in_the_row():
    _check(literals(function(WORKER_OF_VERL, "update_actor")))


def _check(names: set[str]) -> None:
    row = emitted([True, False])
    assert [name for name in sorted(names) if not any(re.fullmatch(name, key) for key in row)] == []


def test_a_key_is_found_however_the_code_writes_it():
    source = """
metrics["batch/new"] = 1
metrics[f"val/best/{source}"] = f"step {number} of a/b"
with step.timed("lunch"):
    read("some file/of ours")
"""
    assert literals(ast.parse(source)) == {"batch/new", "val/best/.*", "timing_s/lunch"}


def test_the_page_is_read_as_it_is_written():
    page = """
| family |  |
|---|---|
| `words` | `no` |
| `more_words` | |

| key | what it is |
|---|---|
| `step` | beside `other` |
| `a/max`, `a/min` | |
| `<family>/mean` | |

| what happens | what shows it |
|---|---|
| `not/a/key` | |
"""
    assert documented(page) == ["step", "a/max", "a/min", "words/mean", "more_words/mean"]
