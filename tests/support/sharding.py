"""Checkpoints of one worker and of two, written and read by each other; run in two processes of their own."""

import functools
import json
import pickle
import random
import resource
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy

from actor_cases import join
from forging import Running, archive, forge
from recipes.archer.checkpoints.host import HostState
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.checkpoints.shards import WorkerState, aliases, load_shards, save_shards, written_by_all
from recipes.archer.ending import UserError
from wrapping import STRATEGY, whole_parameters, wrap


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
    model = wrap(Model(), STRATEGY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    return WorkerState(model, optimizer, schedule, dist.get_rank())


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

    model, optimizer = get_state_dict(state.model, state.optimizer, options=StateDictOptions(full_state_dict=True))
    found = {f"model.{name}": tensor.clone() for name, tensor in model.items()}
    for name, moments in optimizer["state"].items():
        found |= {f"optimizer.{name}.{key}": value.clone() for key, value in moments.items()}
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


def load(path: Path, seed: int, trust_old: bool = False) -> dict:
    """What a fresh worker holds after loading, and then after one more step."""
    state = worker(seed)
    random.seed(seed)
    np.random.seed(seed)
    load_shards(str(path), state, trust_old)
    found = whole(state) | {"draws": draws()}
    train(state, 1)
    return {"loaded": found, "one step on": whole(state)}


def changed(path: Path, fresh_optimizer: bool) -> dict:
    """What a worker with other settings of its own holds after loading, and its rates after a step."""
    state = worker(9)
    for group in state.optimizer.param_groups:
        group |= {"lr": 0.02, "initial_lr": 0.02, "weight_decay": 0.3}
    state.scheduler.base_lrs = [0.02]
    load_shards(str(path), state, fresh_optimizer=fresh_optimizer)
    moments = sum(len(moments) for moments in state.optimizer.state.values())
    group = state.optimizer.param_groups[0]
    found = {"lr": group["lr"], "weight_decay": group["weight_decay"], "moments": moments}
    parameters = {f"model.{name}": value for name, value in whole_parameters(state.model).items()}
    train(state, 1)
    return found | {"model": parameters, "lr one step on": group["lr"], "epoch": state.scheduler.last_epoch}


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


def refused(path: Path, change) -> str:
    """What every rank hears of a copy of a checkpoint that rank 0 has changed."""
    folder = path.with_name(f"{path.name}, {change.__name__}")
    if dist.get_rank() == 0:
        shutil.copytree(path, folder)
        change(folder)
        (folder / "manifest.json").unlink()
        write_manifest(folder)
    dist.barrier()
    try:
        load_shards(str(folder), worker(6))
    except UserError as error:
        return str(error).removeprefix(f"checkpoint {folder}: ")
    return "nothing"


def runs_code(folder: Path) -> None:
    forge(folder, "model.norm.weight", archive(Running(folder.with_name("ran"))))


def runs_code_as_a_value(folder: Path) -> None:
    forge(folder, "optimizer.param_groups.0.lr", archive(Running(folder.with_name("ran"))))


def lacks_a_tensor(folder: Path) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    del metadata.state_dict_metadata["model.norm.bias"]
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def lacks_a_place(folder: Path) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.storage_data = {key: v for key, v in metadata.storage_data.items() if key.fqn != "model.norm.bias"}
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def has_another_size(folder: Path) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.state_dict_metadata["model.norm.bias"] = metadata.state_dict_metadata["model.embed.weight"]
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def has_a_generator_of_another_size(folder: Path) -> None:
    for rank in range(2):
        file = folder / f"host_{rank}.safetensors"
        file.write_bytes(safetensors.torch.save(safetensors.torch.load(file.read_bytes()) | {"torch": SHORT}))


def has_a_schedule_of_text(folder: Path) -> None:
    for file in folder.glob("host_*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"schedule": content["schedule"] | {"last_epoch": "3"}}))


SHORT = torch.zeros(7, dtype=torch.uint8)
CHANGES = (
    runs_code,
    runs_code_as_a_value,
    lacks_a_tensor,
    lacks_a_place,
    has_another_size,
    has_a_generator_of_another_size,
    has_a_schedule_of_text,
)


def as_format_1(path: Path) -> Path:
    """A copy of a checkpoint as an earlier version wrote it."""
    folder = shutil.copytree(path, path.with_name("format 1"))
    host = HostState.read(folder, 0)
    words, numbers = (host.generators[name] for name in ("numpy", "python"))
    facts = host.facts["numpy"]
    numpy_state = ("MT19937", words.numpy().astype(np.uint32), facts["position"], facts["has_gauss"], facts["gauss"])
    state = {
        "scheduler": host.schedule,
        "torch": host.generators["torch"],
        "device": host.generators["device"],
        "numpy": numpy_state,
        "python": (3, tuple(numbers.tolist()), host.facts["python"]["gauss_next"]),
    }
    for file in folder.glob("host_*"):
        file.unlink()
    torch.save(state, folder / "host_0.pt")
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    return folder


def old(path: Path) -> dict:
    """What of an earlier version's checkpoint is refused, and read."""
    folder = as_format_1(path)
    try:
        load_shards(str(folder), worker(7))
        said = "nothing"
    except UserError as error:
        said = str(error)
    return {"said": said, "read": load(folder, seed=8, trust_old=True)}


def aliases_under_fsdp1() -> dict[str, str]:
    """As a GPU run wraps the model: each layer, and around them what is left."""
    layers = functools.partial(lambda_auto_wrap_policy, lambda_fn=lambda module: isinstance(module, torch.nn.LayerNorm))
    return aliases(FullyShardedDataParallel(Model(), auto_wrap_policy=layers, device_id=torch.device("cpu")))


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
    results["names"] = sorted(pickle.loads((path / "two" / ".metadata").read_bytes()).state_dict_metadata)
    results["changed"] = {fresh: changed(path / "two", fresh) for fresh in (False, True)}
    results["limited"] = limited(path / "limited", rank)
    results["broken"] = broken(rank)
    results["refused"] = {change.__name__: refused(path / "two", change) for change in CHANGES}
    dist.destroy_process_group()
    if rank == 0:
        results["two in one"] = _alone(path, lambda: load(path / "two", seed=4))
        results["old in one"] = _alone(path, lambda: old(path / "one"))
        results["aliases of fsdp1"] = _alone(path, aliases_under_fsdp1)
        results["one in one"] = _alone(path, lambda: load(path / "one", seed=5))
    results["ran"] = (path / "ran").exists()
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
