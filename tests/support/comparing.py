"""What has to be the same in two runs of which one was disturbed."""

import json
import time
from pathlib import Path

import numpy as np
import torch

from launching import Launch, lasting, left_behind, tensors
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
    got, expected = (torch.load(folder / "host_0.pt", weights_only=False) for folder in (ours, theirs))
    assert _same(got, expected) and got["scheduler"]["last_epoch"] > 0
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


def _same(one, other) -> bool:
    """Equality of nested values that may hold tensors and arrays."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray | torch.Tensor) else one == other


def _state(checkpoint: Path) -> dict:
    """The driver's state, without what a clock has measured."""
    state = json.loads((checkpoint / "state.json").read_text())
    state["row"] = lasting([state["row"]])
    monitor = state["guard"]["monitor"]
    monitor["detectors"].pop("step_time")
    return state


def _samples(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "samples").glob("step_*.jsonl")}
