"""A step: its rounds as one batch, and its row, which has the same keys whatever happened."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recipes.archer.losses.token_stats import empty_stats
from recipes.archer.metrics import batch as batch_metrics
from recipes.archer.metrics.row import TIMINGS, step_row
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.reward.group_filter import judge_groups
from recipes.archer.reward.manager import Rewards
from recipes.archer.step import Round, Step
from verl import DataProto

STREAM = PromptStream(10, seed=1, epoch=2)
VALIDATION = {"val/accuracy": 0.5, "val/response_length/mean": 4.0, "val/accuracy/aime": 0.5, "val/accuracy/math": None}


def _round(correct: list[bool], width: int, n: int = 2, first: int = 0) -> Round:
    """Two prompt tokens and responses of the full width, numbered from ``first``."""
    rows = len(correct)
    tensors = {
        "input_ids": torch.arange(rows * (2 + width)).view(rows, -1) + first,
        "attention_mask": torch.ones(rows, 2 + width, dtype=torch.long),
        "responses": torch.arange(rows * width).view(rows, -1) + first,
        "response_mask": torch.ones(rows, width, dtype=torch.long),
        "row": torch.arange(rows),
    }
    numbers = np.arange(rows) // n + first
    verdicts = np.array(correct)
    parts = {"accuracy": verdicts.astype(float)}
    rewards = Rewards(["so"] * rows, ["correct" if c else "wrong" for c in correct], [None] * rows, verdicts, parts)
    verdict = judge_groups(verdicts, rewards.total, n)
    batch = DataProto.from_dict(tensors, {"prompt_number": numbers})
    return Round(batch, rewards, verdict, np.flatnonzero(verdict.valid), [False] * rows)


def _step(**metrics) -> Step:
    step = Step(7, rounds=[_round([True, False, True, True], 3)], metrics=metrics)
    step.timing |= {"step": 2.0, "gen": 1.5}
    return step


def test_row_of_a_step_with_everything():
    updates = {"actor/grad_norm": torch.tensor(0.5), "actor/num_updates": 2, "actor/lr": np.float64(1e-6)}
    row = step_row(_step(**updates, **VALIDATION), STREAM, ["aime", "math"])
    assert (row["step"], row["training/global_step"], row["training/epoch"]) == (7, 7, 2)
    assert row["actor/grad_norm"] == 0.5
    assert row["actor/num_updates"] == 2
    assert row["val/accuracy"] == 0.5
    assert row["perf/total_num_tokens"] == 4 * 5
    assert row["perf/throughput"] == 10.0
    assert (row["timing_s/step"], row["timing_s/gen"], row["timing_s/testing"]) == (2.0, 1.5, None)


def test_a_row_has_the_same_keys_when_nothing_was_learned():
    """No valid group, no validation: what does not exist is null, what was counted is zero."""
    updates = {name: 0.1 for name in empty_stats().metrics()} | {"actor/pg_loss": 0.1, "actor/num_skipped": 0}
    full = step_row(_step(**updates, **VALIDATION), STREAM, ["aime", "math"])
    empty = step_row(_step(), STREAM, ["aime", "math"])
    assert list(empty) == list(full)
    assert (empty["actor/num_updates"], empty["actor/num_skipped"]) == (0, 0)
    for name in ("actor/pg_loss", "actor/kl_loss", "actor/grad_norm", "val/accuracy", "val/accuracy/aime"):
        assert empty[name] is None
    assert empty["perf/total_num_tokens"] == 20


def test_a_row_is_plain_json():
    step = _step(a=np.float32(0.5), b=np.int64(3), c=torch.tensor(1.5), d=np.bool_(True), e=None, f=float("nan"))
    row = json.loads(json.dumps(step_row(step, STREAM, [])))
    assert (row["a"], row["b"], row["c"], row["d"], row["e"]) == (0.5, 3, 1.5, True, None)
    assert row["f"] != row["f"]


def test_every_timing_has_a_place():
    row = step_row(_step(), STREAM, [])
    assert {f"timing_s/{name}" for name in TIMINGS} == {name for name in row if name.startswith("timing_s/")}


def test_rounds_of_a_step_become_one_batch():
    step = Step(1, rounds=[_round([True, False, True, True], 3), _round([False, True, False, True], 5, first=100)])
    batch = step.batch()
    assert len(batch) == 8
    assert batch.batch["responses"].shape == (8, 5)
    assert batch.batch["attention_mask"].sum(-1).tolist() == [5] * 4 + [7] * 4
    assert batch.batch["response_mask"].sum(-1).tolist() == [3] * 4 + [5] * 4
    assert torch.equal(batch.batch["responses"][:4, :3], step.rounds[0].batch.batch["responses"])
    assert batch.non_tensor_batch["prompt_number"].tolist() == [0, 0, 1, 1, 100, 100, 101, 101]
    assert step.num_kept == 3
    assert step.kept_rows(2).tolist() == [0, 1, 4, 5, 6, 7]


def test_a_step_may_keep_nothing():
    step = Step(1, rounds=[_round([True, True], 3), _round([False, False], 2)])
    assert step.num_kept == 0
    assert step.kept_rows(2).tolist() == []
    metrics = batch_metrics.group_metrics([r.verdict for r in step.rounds], step.num_kept)
    assert (metrics["batch/solve_none"], metrics["batch/solve_all"], metrics["batch/valid"]) == (1, 1, 0)


def test_one_rounds_batch_is_taken_as_it_is():
    only = _round([True, False], 3)
    assert Step(1, rounds=[only]).batch() is only.batch


def test_timings_add_up(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 12.5])
    monkeypatch.setattr("recipes.archer.step.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    step = Step(1)
    for _ in range(2):
        with step.timed("gen"):
            pass
    assert step.timing == {"gen": pytest.approx(3.5)}
