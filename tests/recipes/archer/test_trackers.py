"""Where metrics go besides the run folder; a tracker that fails never stops training."""

import logging
import math
import sys
from types import SimpleNamespace

import pytest

from recipes.archer import trackers as module
from recipes.archer.trackers import Trackers

ROW = {"step": 3, "actor/entropy": 0.5, "val/accuracy": None, "actor/grad_norm": math.nan, "batch/valid": 4}
EXISTING = {"step": 3, "actor/entropy": 0.5, "batch/valid": 4}


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
    assert _scalars(tmp_path, "actor/entropy") == [(3, 0.5)]  # on disk at once
    trackers.finish(0)
    assert _scalars(tmp_path, "batch/valid") == [(3, 4.0)]
    for name in ("val/accuracy", "actor/grad_norm"):
        with pytest.raises(KeyError):
            _scalars(tmp_path, name)


def test_tensorboard_forgets_the_steps_that_are_done_again(tmp_path):
    first = _make(["tensorboard"], tmp_path)
    for step in range(1, 6):
        first.log({"actor/entropy": 0.5}, step)
    first.finish(143)
    second = _make(["tensorboard"], tmp_path, first_step=4)
    second.log({"actor/entropy": 0.25}, 4)
    second.finish(0)
    assert _scalars(tmp_path, "actor/entropy") == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25)]


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

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **settings: settings))
    return told


@pytest.mark.parametrize(("mode", "passed"), [(None, None), ("offline", "offline"), ("nonsense", None)])
def test_wandb(wandb, tmp_path, monkeypatch, mode, passed):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    trackers = _make(["wandb"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(20)
    (_, arguments), *rest = wandb
    assert rest == [("log", EXISTING, 3), ("finish", 20)]
    assert (arguments["project"], arguments["name"], arguments["config"]) == ("project", "name", {"seed": 1})
    assert (arguments["dir"], arguments["mode"]) == (str(tmp_path), passed)


def test_a_tracker_that_fails_is_reported_once_and_the_others_go_on(tmp_path, monkeypatch, caplog):
    class Broken:
        def __init__(self, **_): ...

        def log(self, row, step):
            raise ConnectionError("no route to host")

        finish = log

    monkeypatch.setattr(module, "WeightsAndBiases", Broken)
    trackers = _make(["wandb", "tensorboard"], tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            trackers.log({"actor/entropy": 0.5}, step)
        trackers.finish(0)
    assert [record.message for record in caplog.records] == [
        "tracker wandb failed and misses steps from here on: no route to host"
    ]
    assert [step for step, _ in _scalars(tmp_path, "actor/entropy")] == [1, 2]


def test_a_tracker_that_cannot_start_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        _make(["tensorboard"], tmp_path)
    with pytest.raises(ValueError, match=r"trainer.logger: mlflow is not known; use console, tensorboard, wandb"):
        _make(["mlflow"], tmp_path)


def test_the_console_is_not_a_tracker(tmp_path):
    trackers = _make(["console"], tmp_path)
    trackers.log(ROW, 3)
    trackers.finish(0)
    assert list(tmp_path.iterdir()) == []
