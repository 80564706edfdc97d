"""What a save and a checkpoint leave of an optimizer: its count of steps, its moments, its place in a schedule."""

import pytest
import torch

from recipes.archer.checkpoints import shards
from recipes.archer.checkpoints.shards import OwnSettings, WorkerState, load_shards, reset_moments, save_shards

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def worker(schedule=lambda step: 1.0) -> WorkerState:
    torch.manual_seed(2)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return WorkerState(model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule), 0)


def step(state: WorkerState) -> None:
    state.model(torch.arange(6.0).view(2, 3)).square().sum().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()


def assert_same(ours: WorkerState, theirs: WorkerState) -> None:
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(one, other)
        for name, value in theirs.optimizer.state[other].items():
            assert torch.equal(ours.optimizer.state[one][name], value), name


@pytest.mark.parametrize("steps", [0, 2])
def test_a_save_changes_nothing(tmp_path, monkeypatch, steps):
    """Also before the first update: neither the run that goes on nor the one that continues has made a step more."""
    monkeypatch.setattr(shards.dist, "barrier", lambda: None)  # one process
    monkeypatch.setattr(shards, "_host_state", lambda *_: (host, True))
    saved, undisturbed, continued = worker(), worker(), worker()
    host = shards.HostState.of_this_process(saved.scheduler)
    for _ in range(steps):
        step(saved)
        step(undisturbed)
    save_shards(str(tmp_path), saved)
    load_shards(str(tmp_path), continued)
    for _ in range(3):
        step(saved)
        step(undisturbed)
        step(continued)
    assert_same(saved, undisturbed)
    assert_same(continued, undisturbed)


def test_one_that_was_reset_is_as_new():
    used, fresh = worker(), worker()
    for _ in range(3):
        step(used)
    reset_moments(used.optimizer)
    fresh.model.load_state_dict(used.model.state_dict())
    for _ in range(2):
        step(used)
        step(fresh)
    assert_same(used, fresh)


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_a_schedule_that_was_changed_is_the_runs_own_from_the_first_step_on(rate):
    """A run of ten steps whose rate has come down to 0 goes on for ten more."""
    old = worker(lambda step: max(0.0, 1 - step / 10))
    for _ in range(10):
        old.optimizer.step()
        old.scheduler.step()
    longer = worker(lambda step: max(0.0, 1 - step / 20))
    longer.scheduler.base_lrs = [rate]
    own = OwnSettings(longer)
    longer.scheduler.load_state_dict(old.scheduler.state_dict())
    own.restore(longer)
    (group,) = longer.optimizer.param_groups
    assert group["lr"] == longer.scheduler.get_last_lr()[0] == rate * (1 - 10 / 20)
    longer.optimizer.step()
    longer.scheduler.step()
    assert group["lr"] == rate * (1 - 11 / 20)
