"""Checkpoints of one worker and of two, written and read by each other; run in two processes of their own."""

import random
import resource
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from actor_cases import join
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.checkpoints.shards import WorkerState, load_shards, save_shards, written_by_all


class Model(torch.nn.Module):
    """Sizes that do not divide by two, a buffer, and a weight that is used twice."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 5)
        self.hidden = torch.nn.Linear(5, 5)
        self.norm = torch.nn.LayerNorm(5)
        self.head = torch.nn.Linear(5, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(3))

    def forward(self, ids):
        return self.head(self.norm(torch.relu(self.hidden(self.embed(ids)))))


def worker(seed: int) -> WorkerState:
    """A fresh one, its model sharded over all ranks."""
    torch.manual_seed(seed)
    model = Model()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    return WorkerState(model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9), dist.get_rank())


def train(state: WorkerState, steps: int) -> None:
    """The same data on every rank, so that one worker and two compute the same gradient up to rounding."""
    data = torch.Generator().manual_seed(5)
    for _ in range(steps):
        ids = torch.randint(0, 11, (4, 6), generator=data)
        loss = torch.nn.functional.cross_entropy(state.model(ids).flatten(0, 1), ids.flatten())
        loss.backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.scheduler.step()


def whole(state: WorkerState) -> dict:
    """Everything but random state, not sharded."""

    def full(tensor):
        return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()

    found = {f"model.{name}": full(tensor) for name, tensor in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state[parameter]
        found |= {f"optimizer.{name}.{key}": full(value) for key, value in moments.items()}
    return found | {"schedule": state.scheduler.state_dict(), "lr": state.optimizer.param_groups[0]["lr"]}


def draws() -> list[float]:
    """What each random generator gives next."""
    return [float(torch.rand(1)), float(np.random.rand()), random.random()]


def save(path: Path, state: WorkerState) -> dict:
    """Saves, and returns what the checkpoint must hold; draws from the generators only afterwards."""
    assert written_by_all(lambda: save_shards(str(path), state)) is None
    if state.rank == 0:
        write_manifest(path)
    dist.barrier()
    return whole(state) | {"draws": draws()}


def load(path: Path, seed: int) -> dict:
    """What a fresh worker holds after loading, and then after one more step."""
    state = worker(seed)
    random.seed(seed)
    np.random.seed(seed)
    load_shards(str(path), state)
    found = whole(state) | {"draws": draws()}
    train(state, 1)
    return {"loaded": found, "one step on": whole(state)}


def limited(path: Path, rank: int) -> list[str | None]:
    """What each write says when files of rank 1 cannot grow beyond a size: as a full disk shows to one of two."""
    found = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = worker(1)
    train(state, 1)
    for number, size in enumerate((0, 100, 700, 2000, 10_000, 1_000_000)):
        folder = path / str(number)
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        found.append(written_by_all(lambda folder=folder: save_shards(str(folder), state)))
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return found


def broken(rank: int) -> str:
    """What every rank hears of an error on one of them that is not the disk's."""

    def write():
        if rank == 1:
            raise TypeError("of rank 1")

    try:
        written_by_all(write)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def run(rank: int, folder: str) -> None:
    """Process ``rank`` of two; results go to ``<folder>/<name>.<rank>``."""
    path, results = Path(folder), {}
    if rank == 0:
        results["saved by one"] = _alone(path, lambda: _trained_and_saved(path / "one"))
        (path / "one.done").touch()
        (path / "one" / "host_1.json").write_text('{"not": "of this checkpoint"}')
    join(rank, 2, str(path / "meeting-two"))
    dist.barrier()
    results["one in two"] = load(path / "one", seed=2)
    results["saved by two"] = _trained_and_saved(path / "two")
    results["two in two"] = load(path / "two", seed=3)
    results["limited"] = limited(path / "limited", rank)
    results["broken"] = broken(rank)
    dist.destroy_process_group()
    if rank == 0:
        results["two in one"] = _alone(path, lambda: load(path / "two", seed=4))
        results["one in one"] = _alone(path, lambda: load(path / "one", seed=5))
    torch.save(results, path / f"results.{rank}")


def _trained_and_saved(path: Path) -> dict:
    state = worker(1)
    train(state, 3)
    torch.manual_seed(100 + dist.get_rank())
    return {"saved": save(path, state), "one step on": train(state, 1) or whole(state)}


def _alone(path: Path, work):
    join(0, 1, str(path / f"meeting-{len(list(path.glob('meeting-*')))}-alone"))
    try:
        return work()
    finally:
        dist.destroy_process_group()
