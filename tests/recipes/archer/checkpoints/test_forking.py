"""What a new run takes over from another one's checkpoint, and what stays its own."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict

from recipes.archer.checkpoints.forking import fork_shards
from recipes.archer.checkpoints.shards import WorkerState
from recipes.archer.ending import UserError


def _worker(seed: int, lr: float, weight_decay: float) -> WorkerState:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return WorkerState(model, optimizer, schedule, 0)


def _step(state: WorkerState) -> None:
    state.model(torch.ones(4, 3)).square().sum().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.scheduler.step()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A worker after three steps, and its checkpoint."""
    state, folder = _worker(1, lr=0.1, weight_decay=0.5), tmp_path_factory.mktemp("forking")
    for _ in range(3):
        _step(state)
    model, optimizer = get_state_dict(state.model, state.optimizer)
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=str(folder))
    return state, str(folder)


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_parameters_come_along_and_settings_stay(saved, with_optimizer):
    theirs, folder = saved
    ours = _worker(2, lr=0.01, weight_decay=0.0)
    fork_shards(folder, ours, with_optimizer)
    for name, tensor in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor)
    (group,) = ours.optimizer.param_groups
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.01, 0.01, 0.0)
    _step(ours)
    assert group["lr"] == 0.005


def test_moments_come_along_only_when_wanted(saved):
    theirs, folder = saved
    for with_optimizer in (False, True):
        ours = _worker(2, lr=0.01, weight_decay=0.0)
        fork_shards(folder, ours, with_optimizer)
        found = [ours.optimizer.state.get(p, {}) for p in ours.model.parameters()]
        if not with_optimizer:  # a first step without a moment, as with any new optimizer
            assert found == [{}] * 4
            continue
        for moments, p in zip(found, theirs.model.parameters(), strict=True):
            expected = theirs.optimizer.state[p]
            assert all(torch.equal(moments[key], expected[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_another_model_is_not_loaded(saved):
    other = _worker(1, 0.1, 0.0)
    other.model[0] = torch.nn.Linear(3, 6)
    with pytest.raises((UserError, RuntimeError), match="checkpoint|cannot be loaded"):
        fork_shards(saved[1], other, False)
