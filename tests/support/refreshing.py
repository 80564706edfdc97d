"""A reference refreshed by one worker and by two, and its checkpoints; run in two processes of their own."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel

from actor_cases import join
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.checkpoints.reference import load_reference, save_reference
from recipes.archer.checkpoints.shards import save_shards
from recipes.archer.workers.refresh import refresh
from sharding import Model, worker
from wrapping import STRATEGY

# FSDP2 of the GPUs' torch makes no pass without a GPU
OURS = "fsdp1" if STRATEGY == "fsdp" else "fsdp2"
WAYS = ("plain", "fsdp1") if OURS == "fsdp1" else ("plain", "fsdp2", "fsdp2 after a pass", "fsdp1")
MIXES = (1.0, 0.25)
POLICY, REFERENCE = 1, 2  # seeds of their parameters


def model(seed: int) -> Model:
    torch.manual_seed(seed)
    return Model()


def mixture(mix: float) -> dict[str, torch.Tensor]:
    """What the reference must be."""
    policy, reference = model(POLICY).state_dict(), model(REFERENCE).state_dict()
    return {name: policy[name] if mix == 1 else torch.lerp(old, policy[name], mix) for name, old in reference.items()}


def wrapped(seed: int, way: str) -> torch.nn.Module:
    module, mesh = model(seed), init_device_mesh("cpu", (dist.get_world_size(),))
    if way == "plain":
        return module
    if way == "fsdp1":
        return FullyShardedDataParallel(module, device_mesh=mesh, device_id=torch.device("cpu"))
    from verl.utils.fsdp_utils import fully_shard

    fully_shard(module, mesh=mesh)
    if way == "fsdp2 after a pass":  # which leaves the parameters whole
        with torch.no_grad():
            module(torch.zeros(1, 2, dtype=torch.long))
    return module


def whole(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = get_model_state_dict(module, options=StateDictOptions(full_state_dict=True))
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def refreshed(way: str, mix: float) -> torch.nn.Module:
    policy, reference = wrapped(POLICY, way), wrapped(REFERENCE, way)
    refresh(policy, reference, mix)
    return reference


def read(path: Path) -> dict[str, torch.Tensor]:
    reference = wrapped(3, OURS)
    assert load_reference(str(path), reference)
    return whole(reference)


def cases(workers: int) -> dict:
    return {(workers, way, mix): whole(refreshed(way, mix)) for way in WAYS for mix in MIXES}


def run(rank: int, folder: str) -> None:
    """Process ``rank`` of two; results go to ``<folder>/results.<rank>``."""
    path, results = Path(folder), {}
    join(rank, 2, str(path / "meeting-two"))
    results |= cases(2)
    policy, reference = wrapped(POLICY, OURS), wrapped(REFERENCE, OURS)
    refresh(policy, reference, 0.25)
    expected = model(POLICY).state_dict()
    results["policy"] = all(torch.equal(value, expected[name]) for name, value in whole(policy).items())
    for name in ("with", "without"):
        save_shards(str(path / name), worker(1))
        if name == "with":
            save_reference(str(path / name), reference)
        dist.barrier()
        if rank == 0:
            write_manifest(path / name)
        dist.barrier()
    results["read by two"] = read(path / "with")
    before = wrapped(REFERENCE, OURS)
    results["there was none"] = not load_reference(str(path / "without"), before)
    dist.destroy_process_group()
    if rank == 0:
        join(0, 1, str(path / "meeting-one"))
        results |= cases(1)
        results["read by one"] = read(path / "with")
        dist.destroy_process_group()
    torch.save(results, path / f"results.{rank}")
