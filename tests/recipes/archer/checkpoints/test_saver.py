"""A disk that refuses a checkpoint: said in a line, counted, and the earlier ones stay loadable."""

import errno
import json
import os
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipes.archer.checkpoints.reading import read
from recipes.archer.checkpoints.saver import CheckpointSaver
from recipes.archer.checkpoints.store import BestBy, CheckpointStore
from recipes.archer.ending import DISK, FINISHED, TERMINATED, Ending
from recipes.archer.reports.live import Report
from recipes.archer.runs.log import RunLog
from recipes.archer.runs.trackers import Trackers

Usage = namedtuple("Usage", "total used free")
FULL = f"[Errno {errno.ENOSPC}] No space left on device"


class Run:
    """A run folder, its report, and what saves into it."""

    def __init__(self, folder: Path, first_size: int = 0, least_size: int = 0):
        self.log = RunLog(folder)
        self.log.open(OmegaConf.create({}), {}, 0)
        settings = OmegaConf.create({"logger": [], "samples_freq": 1, "samples_per_step": 1, "console_metrics": "main"})
        self.report = Report(self.log, Trackers([], folder, {}, "p", "n", 1), settings, 100)
        self.store = CheckpointStore(folder, keep_last=2, best_by=BestBy("val/accuracy"))
        self.saver = CheckpointSaver(self.store, {"model": {}}, first_size, least_size, max_failed_saves=3)

    def save(self, step: int, refused: str | None = None, row: dict | None = None) -> None:
        def write(path: str) -> list[str | None]:
            (Path(path) / "weights.bin").write_bytes(bytes(1000))
            return [None, refused]

        self.saver.save({"step": step, "row": row}, write, self.report)

    def newest(self) -> int | None:
        checkpoint, skipped = CheckpointStore(self.store.folder).newest_whole()
        assert skipped == []
        return checkpoint and checkpoint.step

    def facts(self) -> dict:
        return json.loads((self.store.folder / "run.json").read_text())


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


def test_a_save_is_told_and_says_what_it_belongs_to(run, capsys):
    run.save(0)  # nothing was trained yet
    assert run.newest() is None
    run.save(20, row={"val/accuracy": 0.5})
    state = read(run.store.folder / "global_step_20").state
    assert state == {"step": 20, "row": {"val/accuracy": 0.5}, "identity": {"model": {}}}
    facts = run.facts()
    assert (facts["last_checkpoint"], facts["best_checkpoint"], facts["failed_saves"]) == (20, "global_step_20", 0)
    assert run.saver.ending() is None and capsys.readouterr().err == ""


def test_the_same_state_is_not_saved_twice(run):
    run.save(20)
    before = (run.store.folder / "global_step_20").stat().st_ino
    run.save(20)
    assert (run.store.folder / "global_step_20").stat().st_ino == before
    run.saver.continue_after(30)
    run.save(30)
    assert run.newest() == 20


def test_what_a_worker_could_not_write_is_warned_of_and_the_run_goes_on(run, capsys):
    run.save(20)
    run.save(40, refused="the disk is full")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: checkpoint of step 40 not saved: the disk is full (")
    assert line.endswith("free when it failed); 1 in a row, trainer.max_failed_saves=3")
    assert run.newest() == 20 and run.saver.ending() is None
    assert [p.name for p in run.store.folder.glob(".*partial*")] == []
    assert run.facts()["failed_saves"] == 1
    run.save(60)
    assert run.newest() == 60 and run.facts()["failed_saves"] == 0


def test_too_many_in_a_row_end_the_run_with_a_way_out(run):
    run.save(20)
    for step in (40, 60):
        run.save(step, refused="no room")
    run.save(80)
    for step in (100, 120, 140):
        assert run.saver.ending() is None
        run.save(step, refused="no room")
    ending = run.saver.ending()
    assert (ending.status, ending.exit_code) == ("failed", DISK)
    assert ending.reason.startswith("3 checkpoints in a row could not be written (trainer.max_failed_saves): no room (")
    assert ending.reason.endswith(
        f"the newest whole one is of step 80; make room in {run.store.folder}, then start the same command again"
    )
    assert run.saver.closing(ending) == ending


def test_a_run_whose_last_state_is_lost_does_not_end_as_if_all_were_well(run):
    finished = Ending("finished", "all 60 steps done", FINISHED)
    run.save(40)
    assert run.saver.closing(finished) == finished
    run.save(60, refused="no room")
    ending = run.saver.closing(finished)
    assert (ending.status, ending.exit_code) == ("failed", DISK)
    assert ending.reason.startswith("all 60 steps done, but the last checkpoint could not be written: no room")
    stopped = run.saver.closing(Ending("stopped", "SIGTERM received", TERMINATED))
    assert (stopped.status, stopped.exit_code) == ("stopped", TERMINATED)  # whoever asked for the end waits for this
    assert stopped.reason.startswith("SIGTERM received; its last state could not be saved: no room")


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch, capsys):
    """By the first estimate, then by what the last one took."""
    run, free = Run(tmp_path, first_size=10_000), [10_999]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, free[0]))
    written = []

    def write(path):
        written.append(path)
        (Path(path) / "weights.bin").write_bytes(bytes(3000))
        return [None]

    run.saver.save({"step": 1}, write, run.report)
    assert written == [] and run.newest() is None
    assert f"it needs 10.7 KiB, {tmp_path} has 10.7 KiB free; 1 in a row" in capsys.readouterr().err
    free[0] = 11_000
    run.saver.save({"step": 2}, write, run.report)
    free[0] = 4000  # a tenth more than 3000 and a few hundred of state
    run.saver.save({"step": 3}, write, run.report)
    assert run.newest() == 3
    run.saver.least_size = 5000  # from now on with a reference, which the last one had not
    run.saver.save({"step": 4}, write, run.report)
    assert run.newest() == 3 and "it needs 5.4 KiB" in capsys.readouterr().err
    free[0] = 3300
    run.saver.save({"step": 4}, write, run.report)
    assert run.newest() == 3 and len(written) == 2


@pytest.mark.parametrize("call", ["mkdir", "replace", "fsync", "write_text", "disk_usage"])
def test_a_disk_that_refuses_the_driver(run, monkeypatch, capsys, call):
    """At whichever call of the commit it comes, each time: nothing is lost and nothing is left over."""

    class Refusing:
        def __init__(self, function, at):
            self.function, self.at, self.calls = function, at, 0

        def __call__(self, *arguments, **keywords):
            self.calls += 1
            if self.calls == self.at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.function(*arguments, **keywords)

    owner = {"write_text": Path, "disk_usage": shutil}.get(call, os)
    run.save(1)
    step = 2
    for at in range(1, 20):
        refusing = Refusing(getattr(owner, call), at)
        with monkeypatch.context() as patch:
            patch.setattr(owner, call, (lambda f: lambda *a, **k: f(*a, **k))(refusing))
            run.save(step)
        err = capsys.readouterr().err
        if refusing.calls < at:
            break
        if run.saver.num_failed:
            assert f"warning: checkpoint of step {step} not saved: {FULL}" in err
            assert run.newest() == step - 1
        else:  # the new one was whole already
            assert run.newest() == step
        assert list(run.store.folder.glob(".*partial")) == []
        run.save(step + 1)
        assert run.newest() == step + 1
        step += 2
    assert at > 1


def test_another_error_of_a_worker_is_no_refusal_of_the_disk(run):
    def write(path):
        raise RuntimeError("the worker died")

    with pytest.raises(RuntimeError, match="the worker died"):
        run.saver.save({"step": 1}, write, run.report)


def test_rows_that_a_full_disk_did_not_take_come_with_the_next(run, capsys, monkeypatch):
    """And no checkpoint is whole before they are there; the limit on a file's size plays the full disk."""
    path = run.store.folder / "metrics.jsonl"
    run.report.step(1, {"step": 1}, [])
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4, limits[1]))
        run.report.step(2, {"step": 2, "actor/entropy": 0.5}, [])
        assert path.stat().st_size == size + 4, "a torn row"
        assert [row["step"] for row in run.log.rows()] == [1]
        run.save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert f"warning: step 2 could not be written into {run.store.folder}: File too large" in err
    assert "warning: checkpoint of step 2 not saved: [Errno 27] File too large" in err
    assert run.newest() is None
    run.report.step(3, {"step": 3}, [])
    assert [row["step"] for row in run.log.rows()] == [1, 2, 3]
    run.save(3)
    assert run.newest() == 3


def test_the_first_save_of_an_attempt_ends_what_it_went_back_behind(run):
    for step in (1, 2, 3):
        run.report.step(step, {"step": step}, [])
    run.log.open(OmegaConf.create({}), {}, 1)
    run.save(1, refused="no room")
    assert (run.store.folder / ".behind_1").is_dir()
    run.report.step(2, {"step": 2}, [])
    run.save(2)
    assert not (run.store.folder / ".behind_1").exists()


def test_a_disk_that_does_not_let_the_pointers_be_put_right_is_warned_of(run, capsys, monkeypatch):
    run.save(20)
    (run.store.folder / "latest_checkpointed_iteration.txt").write_text("10")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        run.saver.repair(run.report)
    assert capsys.readouterr().err == f"warning: what surrounds the checkpoints is not up to date: {FULL}\n"
    run.saver.repair(run.report)
    assert (run.store.folder / "latest_checkpointed_iteration.txt").read_text() == "20"
