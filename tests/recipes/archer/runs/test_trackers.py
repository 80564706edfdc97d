"""Where metrics go besides the run folder; a tracker that fails or hangs never stops or slows training."""

import errno
import logging
import math
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from recipes.archer.runs import trackers as module
from recipes.archer.runs.trackers import Trackers

ROW = {"step": 3, "actor/entropy": 0.5, "val/accuracy": None, "actor/grad_norm": math.nan, "batch/valid": 4}
EXISTING = {"step": 3, "actor/entropy": 0.5, "batch/valid": 4}
GRACE_S = 20.0


def _make(names, folder, first_step: int = 1) -> Trackers:
    return Trackers(names, folder, {"seed": 1}, "project", "name", first_step)


def _scalars(folder, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_gets_every_value_that_exists(tmp_path):
    trackers = _make(["console", "tensorboard"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(0, GRACE_S)
    assert _scalars(tmp_path, "actor/entropy") == [(3, 0.5)]
    assert _scalars(tmp_path, "batch/valid") == [(3, 4.0)]
    for name in ("val/accuracy", "actor/grad_norm"):
        with pytest.raises(KeyError):
            _scalars(tmp_path, name)


def test_tensorboard_forgets_the_steps_that_are_done_again(tmp_path):
    first = _make(["tensorboard"], tmp_path)
    for step in range(1, 6):
        first.log({"actor/entropy": 0.5}, step)
    first.finish(143, GRACE_S)
    second = _make(["tensorboard"], tmp_path, first_step=4)
    second.log({"actor/entropy": 0.25}, 4)
    second.finish(0, GRACE_S)
    assert _scalars(tmp_path, "actor/entropy") == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25)]


def test_a_course_is_a_run_of_its_own_in_tensorboard(tmp_path):
    for course, first_step in ((0, 1), (1, 3)):
        trackers = Trackers(["tensorboard"], tmp_path, {}, "project", "name", first_step, course)
        for step in range(first_step, 6):
            trackers.log({"actor/entropy": 0.5 + course}, step)
        trackers.finish(0, GRACE_S)
    (tmp_path / "course").mkdir()
    (tmp_path / "tensorboard/course_1").rename(tmp_path / "course/tensorboard")
    assert _scalars(tmp_path / "course", "actor/entropy") == [(3, 1.5), (4, 1.5), (5, 1.5)]
    assert _scalars(tmp_path, "actor/entropy") == [(step, 0.5) for step in range(1, 6)], "the branch is still there"


@pytest.mark.parametrize(
    ("action", "course", "expected"),
    [
        ("warn", 0, {"name": "n"}),
        ("rollback", 0, {"name": "n", "group": "n"}),
        ("rollback", 2, {"name": "n-course-2", "group": "n"}),
    ],
)
def test_wandb_gets_a_run_for_each_course_in_one_group(tmp_path, monkeypatch, action, course, expected):
    given = []
    monkeypatch.setattr(module, "_wandb_run", lambda mode, arguments: given.append(arguments))
    config = {"guard": {"action": action}}
    module.WeightsAndBiases(folder=tmp_path, config=config, project="p", name="n", course=course, first_step=1)
    assert {name: value for name, value in given[0].items() if name in ("name", "group")} == expected


@pytest.mark.parametrize("jump_s", [-7200, -1, 0])
def test_a_clock_that_was_put_back_does_not_hide_a_continuation(tmp_path, monkeypatch, jump_s):
    """TensorBoard reads files in the order of the times in their names."""
    true_time, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: true_time() + offset[0])
    for attempt, first_step in enumerate((1, 3, 3)):
        offset[0] = attempt * jump_s
        trackers = _make(["tensorboard"], tmp_path, first_step)
        for step in range(first_step, 5):
            trackers.log({"actor/entropy": float(attempt)}, step)
        trackers.finish(0, GRACE_S)
    assert _scalars(tmp_path, "actor/entropy") == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3


@pytest.fixture
def wandb(monkeypatch):
    """In the place of the client: what it was told."""
    told = []
    run = SimpleNamespace(
        log=lambda row, step: told.append(("log", row, step)),
        finish=lambda exit_code: told.append(("finish", exit_code)),
    )

    def init(**arguments):
        told.append(("init", arguments))
        return run

    def teardown(exit_code):
        told.append(("teardown", exit_code))

    stand_in = SimpleNamespace(init=init, run=None, teardown=teardown, Settings=lambda **settings: settings, told=told)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


@pytest.mark.parametrize(("mode", "passed"), [(None, None), ("offline", "offline"), ("nonsense", None)])
def test_wandb(wandb, tmp_path, monkeypatch, mode, passed):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    trackers = _make(["wandb"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(20, GRACE_S)
    (_, arguments), *rest = wandb.told
    assert rest == [("log", EXISTING, 3), ("finish", 20), ("teardown", 20)]
    assert (arguments["project"], arguments["name"], arguments["config"]) == ("project", "name", {"seed": 1})
    assert (arguments["dir"], arguments["mode"]) == (str(tmp_path), passed)


def test_wandb_that_cannot_be_reached_goes_offline_and_says_so(wandb, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "online")
    init = wandb.init

    def unreachable(mode, **arguments):
        if mode != "offline":
            raise ConnectionError("no route to api.wandb.ai\nfor 60 s")
        return init(mode=mode, **arguments)

    wandb.init = unreachable
    trackers = _make(["wandb"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(0, GRACE_S)
    assert [call[0] for call in wandb.told] == ["init", "log", "finish", "teardown"]
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("W&B: no route to api.wandb.ai; the run stays offline in ")


def test_a_wandb_run_that_broke_is_not_handed_out_again(wandb, tmp_path):
    wandb.run = "the one that broke"
    trackers = _make(["wandb"], tmp_path)
    trackers.finish(0, GRACE_S)
    assert wandb.told[0] == ("teardown", 1) and wandb.told[1][0] == "init"


def test_a_tracker_that_is_down_costs_the_others_and_training_nothing(tmp_path, monkeypatch, caplog):
    class Down:
        def __init__(self, **_):
            raise ConnectionError("no route to host")

    class Hangs(Down):
        def __init__(self, **_):
            time.sleep(1000)

    for broken in (Down, Hangs):
        folder = tmp_path / broken.__name__
        monkeypatch.setattr(module, "WeightsAndBiases", broken)
        start = time.monotonic()
        trackers = _make(["wandb", "tensorboard"], folder)
        for step in (1, 2):
            trackers.log({"actor/entropy": 0.5}, step)
        assert time.monotonic() - start < 1.0
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            trackers.finish(0, 3.0)
        assert time.monotonic() - start < 15.0
        assert [step for step, _ in _scalars(folder, "actor/entropy")] == [1, 2]
        last = caplog.records[-1].message
        assert last.startswith("tracker wandb misses 2 steps, the last of them 1 to 2")
        assert last.endswith("metrics.jsonl has every step")


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    trackers = _make(["tensorboard"], tmp_path)
    trackers.log({"actor/entropy": 0.5}, 1)
    trackers.finish(0, 1.0)
    assert "tracker tensorboard misses 1 step, the last of them 1 to 1: " in caplog.text


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trainer.logger: mlflow is not known; use console, tensorboard, wandb"):
        _make(["mlflow"], tmp_path)


def test_the_console_is_not_a_tracker(tmp_path):
    trackers = _make(["console"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(0, GRACE_S)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_the_tracker_and_no_traceback_of_its_thread(tmp_path, monkeypatch, capfd):
    from tensorboard.summary.writer.record_writer import RecordWriter

    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not pytest's, which would hide it
    board = module.TensorBoard(tmp_path, first_step=1, course=0)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        for step in range(1, 100):
            board.log({"actor/entropy": 0.5}, step)
    board._writer.file_writer.event_writer._async_writer._worker.join(20)
    assert "Traceback" not in capfd.readouterr().err
