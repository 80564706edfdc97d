"""A worker's share of a checkpoint: model, optimizer, schedule and random state.

torch's distributed checkpoint is used rather than verl's one-file-a-rank format, because it is read back by
any number of workers.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from verl.utils.device import get_torch_device


@dataclass
class WorkerState:
    """What a worker saves."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: object
    rank: int

    def host_state(self) -> dict:
        """State that is each rank's own, and the schedule."""
        return {
            "scheduler": self.scheduler.state_dict(),
            "torch": torch.get_rng_state(),
            "device": get_torch_device().get_rng_state(),
            "numpy": np.random.get_state(),
            "python": random.getstate(),
        }

    def set_host_state(self, state: dict, with_rng: bool) -> None:
        self.scheduler.load_state_dict(state["scheduler"])
        if with_rng:
            torch.set_rng_state(state["torch"])
            get_torch_device().set_rng_state(state["device"])
            np.random.set_state(state["numpy"])
            random.setstate(state["python"])


def save_shards(path: str, state: WorkerState) -> None:
    """Writes this rank's part into the folder ``path``; every rank calls it."""
    model, optimizer = get_state_dict(state.model, state.optimizer)
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    torch.save(state.host_state(), _host_file(path, state.rank))
    dist.barrier()


def load_shards(path: str, state: WorkerState) -> None:
    """Reads the folder ``path`` into model, optimizer, schedule and, where this rank has one, random state.

    With another number of workers than saved, ranks without a state of their own take rank 0's schedule and
    keep their fresh random state: rollouts are seeded by response, so nothing else depends on it.
    """
    model, optimizer = get_state_dict(state.model, state.optimizer)
    dcp.load({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    set_state_dict(state.model, state.optimizer, model_state_dict=model, optim_state_dict=optimizer)
    own = _host_file(path, state.rank)
    # our own file, from a checkpoint whose hashes were verified; it holds numpy and Python state
    host = torch.load(own if own.exists() else _host_file(path, 0), weights_only=False)
    state.set_host_state(host, with_rng=own.exists())
    dist.barrier()


def _host_file(path: str, rank: int) -> Path:
    return Path(path) / f"host_{rank}.pt"
