"""Rows and samples when a run goes back: they come back with their checkpoints until the new attempt has saved."""

import json
import os
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from crashing import Crash, Crashing
from recipes.archer.runs.history import go_on_after
from recipes.archer.runs.log import RunLog


def _start(folder: Path, last_step: int = 0, row: dict | None = None) -> RunLog:
    log = RunLog(folder)
    log.open(OmegaConf.create({}), {}, last_step, row)
    log._lock.close()
    return log


def _row(step: int, attempt: int) -> dict:
    return {"step": step, "attempt": attempt, "actor/entropy": 1 / step, "val/accuracy": float("nan")}


def _train(log: RunLog, steps, attempt: int) -> None:
    for step in steps:
        log.write(_row(step, attempt))
        log.samples(step, [{"step": step, "attempt": attempt}])


def _found(folder: Path) -> dict[int, int]:
    """Attempt by step, of the rows; samples are of the same steps and attempts."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = {row["step"]: row["attempt"] for row in lines}
    samples = [json.loads(path.read_text()) for path in (folder / "samples").glob("step_*.jsonl")]
    assert len(found) == len(lines) and {row["step"]: row["attempt"] for row in samples} == found
    return found


@pytest.fixture
def at_6(tmp_path) -> Path:
    """A run that came to step 6; it has checkpoints of 2, 4 and 6."""
    _train(_start(tmp_path / "run"), range(1, 7), 1)
    return tmp_path / "run"


def test_killed_before_its_first_save_the_attempt_that_went_back_costs_nothing(at_6, capsys):
    _train(_start(at_6, 2, _row(2, 1)), (3, 4), 2)
    assert _found(at_6) == {1: 1, 2: 1, 3: 2, 4: 2}
    _start(at_6, 2, _row(2, 1))  # the same once more
    assert _found(at_6) == {1: 1, 2: 1}
    _start(at_6, 6, _row(6, 1))  # the normal command: the newest checkpoint is still that of 6
    assert _found(at_6) == dict.fromkeys(range(1, 7), 1)
    assert [p.name for p in at_6.glob(".behind*")] == [] and capsys.readouterr().err == ""


def test_what_comes_after_a_checkpoint_in_between_stays_aside(at_6):
    _train(_start(at_6, 2, _row(2, 1)), (3,), 2)
    _start(at_6, 4, _row(4, 1))  # that of 6 cannot be read just now
    assert _found(at_6) == dict.fromkeys(range(1, 5), 1)
    _start(at_6, 6, _row(6, 1))
    assert _found(at_6) == dict.fromkeys(range(1, 7), 1)


def test_further_back_in_two_steps(at_6):
    _train(_start(at_6, 4, _row(4, 1)), (5,), 2)
    _train(_start(at_6, 2, _row(2, 1)), (3,), 3)
    _start(at_6, 6, _row(6, 1))
    assert _found(at_6) == dict.fromkeys(range(1, 7), 1)


def test_after_the_first_save_nothing_comes_back(at_6):
    log = _start(at_6, 2, _row(2, 1))
    _train(log, (3, 4, 5), 2)
    log.saved()
    assert [p.name for p in at_6.glob(".behind*")] == []
    _start(at_6, 5, _row(5, 2))
    assert _found(at_6) == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}


def test_killed_between_the_first_save_and_its_tidying_up(at_6):
    _train(_start(at_6, 2, _row(2, 1)), (3, 4, 5), 2)
    _start(at_6, 4, _row(4, 2))  # a checkpoint of the new attempt
    assert _found(at_6) == {1: 1, 2: 1, 3: 2, 4: 2}


@pytest.mark.parametrize(("back", "then"), [(2, 6), (2, 4), (4, 2), (2, 2), (6, 4), (0, 6)])
def test_a_kill_in_the_middle_of_it_loses_nothing(at_6, tmp_path, monkeypatch, back, then):
    """Gone back to one step and then on from another, killed at each change of the disk in the second start."""
    _train(_start(at_6, back, _row(back, 1) if back else None), (back + 1,), 2)
    row = _row(then, 1)
    for at in range(1, 60):
        folder = shutil.copytree(at_6, tmp_path / str(at))
        with monkeypatch.context() as patch:
            Crashing(patch, at)
            try:
                go_on_after(folder, then, row)
                died = False
            except Crash:
                died = True
        assert go_on_after(folder, then, row) == list(range(1, then + 1))
        assert _found(folder) == dict.fromkeys(range(1, then + 1), 1)
        go_on_after(folder, 6, _row(6, 1))
        assert _found(folder) == dict.fromkeys(range(1, 7), 1), f"call {at}"
        if not died:
            break
    assert not died and at > 2


def test_rows_that_are_lost_are_missed(at_6, capsys):
    lines = (at_6 / "metrics.jsonl").read_text().splitlines(keepends=True)
    (at_6 / "metrics.jsonl").write_text("".join(lines[:2] + lines[5:]))
    _start(at_6, 5)
    assert capsys.readouterr().err == "warning: metrics.jsonl lacks 3 rows of steps 3 to 5\n"


def test_a_run_that_began_with_the_checkpoint_of_another_lacks_nothing(tmp_path, capsys):
    log = _start(tmp_path, 20)
    _train(log, (21, 22), 1)
    _start(tmp_path, 22)
    assert capsys.readouterr().err == ""


def test_what_else_lies_among_the_samples(at_6):
    """A copy made by hand stays; what a kill in the middle of a write left behind goes."""
    names = {"step_10_copy.jsonl", "notes.txt"}
    for name in (*names, f".step_6.jsonl.{os.getpid() + 1}.tmp"):
        (at_6 / "samples" / name).touch()
    go_on_after(at_6, 1)
    assert {path.name for path in (at_6 / "samples").iterdir()} == names | {"step_1.jsonl"}
