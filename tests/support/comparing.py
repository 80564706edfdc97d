"""What has to be the same in two runs of which one was disturbed."""

import json
import time
from pathlib import Path

import torch

from launching import Launch, lasting, left_behind, tensors
from recipes.archer.checkpoints.host import HostState
from recipes.archer.checkpoints.store import CheckpointStore

REAPED_S = 20  # the reaper works after the driver has gone


def assert_nothing_stays_behind() -> None:
    deadline = time.monotonic() + REAPED_S
    while (found := left_behind()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found == []


def assert_same_end(run: Launch, straight: Launch, step: int = 4) -> None:
    """Metrics, samples, parameters, optimizer, schedule, generators, place in the data, monitor; bit for bit.

    And that each step is in TensorBoard once.
    """
    assert run.code == 0, run.output[-3000:]
    assert (run.run["status"], run.run["steps"], run.run["exit_code"]) == ("finished", step, 0)
    assert lasting(run.rows) == lasting(straight.rows), "not the same metrics"
    ours, theirs = (r.folder / f"global_step_{step}" for r in (run, straight))
    got, expected = tensors(ours), tensors(theirs)
    assert got.keys() == expected.keys() and len(expected) > 30
    assert not [name for name in expected if not torch.equal(expected[name], got[name])]
    got, expected = (HostState.read(folder, 0) for folder in (ours, theirs))
    assert (got.schedule, got.facts) == (expected.schedule, expected.facts) and got.schedule["last_epoch"] > 0
    assert all(torch.equal(words, got.generators[name]) for name, words in expected.generators.items())
    got, expected = (_state(folder) for folder in (ours, theirs))
    assert got == expected
    assert _samples(run.folder) == _samples(straight.folder)
    assert steps_in_tensorboard(run.folder) == list(range(1, step + 1))


def steps_in_tensorboard(folder: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [event.step for event in board.Scalars("actor/entropy")]


def newest_step(folder: Path) -> int:
    """Step of the newest whole checkpoint, 0 where there is none."""
    newest, _ = CheckpointStore(folder).newest_whole()
    return newest.step if newest else 0


def _state(checkpoint: Path) -> dict:
    """The driver's state, without what a clock has measured."""
    state = json.loads((checkpoint / "state.json").read_text())
    state["row"] = lasting([state["row"]])
    monitor = state["guard"]["monitor"]
    monitor["detectors"].pop("step_time")
    return state


def _samples(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "samples").glob("step_*.jsonl")}
