"""A worker's share of a checkpoint: model, optimizer, schedule and random state.

torch's distributed checkpoint is used rather than verl's one-file-a-rank format, because it is read back by
any number of workers.
"""

import io
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim.lr_scheduler import LRScheduler

from recipes.archer.checkpoints.manifest import listed
from verl.utils.device import get_torch_device

# how the tokenizer's writer, which is not Python's, tells ENOSPC, EDQUOT, EIO and EROFS: in a bare Exception
FOREIGN_ERRORS = re.compile(r"\(os error (28|122|5|30)\)")
ARCHIVE_ERRORS = ("inline_container", "iostream error", "PytorchStreamWriter")  # of a file that cannot be written


@dataclass
class WorkerState:
    """What a worker saves."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    rank: int

    def host_state(self) -> dict[str, Any]:
        """State that is each rank's own, and the schedule."""
        return {
            "scheduler": self.scheduler.state_dict(),
            "torch": torch.get_rng_state(),
            "device": get_torch_device().get_rng_state(),
            "numpy": np.random.get_state(),
            "python": random.getstate(),
        }

    def set_host_state(self, state: dict[str, Any], with_rng: bool) -> None:
        self.scheduler.load_state_dict(state["scheduler"])
        if with_rng:
            torch.set_rng_state(state["torch"])
            get_torch_device().set_rng_state(state["device"])
            np.random.set_state(state["numpy"])
            random.setstate(state["python"])


def written_by_all(write: Callable[[], None]) -> str | None:
    """Lets this rank write; every rank calls it, and learns what the disk refused on any of them.

    Without that, one rank would go on and wait for ever for another that failed.

    Returns:
        What was refused, the same on every rank; None when all was written.

    Raises:
        RuntimeError: writing failed on some rank for another reason than the disk.
    """
    refused: str | None = None
    failed: str | None = None
    cause: BaseException | None = None
    try:
        write()
    except (Exception, CheckpointException) as error:
        refused, cause = refused_by_disk(error), error
        failed = None if refused else f"{type(error).__name__}: {error}"
    found = [(refused, failed)] * dist.get_world_size()
    dist.all_gather_object(found, (refused, failed))
    if others := [failed for _, failed in found if failed]:
        raise RuntimeError(f"a checkpoint could not be written: {others[0]}") from cause
    return next((refused for refused, _ in found if refused), None)


def refused_by_disk(error: BaseException) -> str | None:
    """What the disk had against a write, in one line; None when the error is of another kind.

    torch's writer of archives loses the reason: a full disk shows as a position that it did not expect.
    """
    if isinstance(error, CheckpointException):  # each rank's own error
        reasons = [refused_by_disk(cause) for cause, _ in error.failures.values()]
        return reasons[0] if reasons and all(reasons) else None
    from_archive = isinstance(error, RuntimeError) and any(sign in str(error) for sign in ARCHIVE_ERRORS)
    is_refusal = isinstance(error, OSError) or from_archive or FOREIGN_ERRORS.search(str(error))
    return str(error).splitlines()[0] if is_refusal else None


def save_shards(path: str, state: WorkerState) -> None:
    """Writes this rank's part into the folder ``path``; every rank calls it, inside :func:`written_by_all`."""
    model, optimizer = get_state_dict(state.model, state.optimizer)
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    content = io.BytesIO()  # not straight into the file: see refused_by_disk
    torch.save(state.host_state(), content)
    with open(_host_file(path, state.rank), "wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load_shards(path: str, state: WorkerState) -> None:
    """Reads the finished folder ``path`` into model, optimizer, schedule and, where this rank has one, random state.

    With another number of workers than saved, ranks without a state of their own take rank 0's schedule and
    keep their fresh random state: rollouts are seeded by response, so nothing else depends on it.
    """
    model, optimizer = get_state_dict(state.model, state.optimizer)
    try:
        dcp.load({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    except CheckpointException as error:  # no Exception: it would take the worker's process with it
        raise RuntimeError(f"{path} cannot be loaded: {error}") from None
    set_state_dict(state.model, state.optimizer, model_state_dict=model, optim_state_dict=optimizer)
    own = _host_file(path, state.rank)
    # by the manifest, whose hashes were verified: a file that only lies there is not ours to unpickle
    has_own = own.name in listed(Path(path))
    host = torch.load(own if has_own else _host_file(path, 0), weights_only=False)  # numpy and Python state in it
    state.set_host_state(host, with_rng=has_own)
    dist.barrier()


def _host_file(path: str, rank: int) -> Path:
    return Path(path) / f"host_{rank}.pt"
