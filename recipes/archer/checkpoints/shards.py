"""A worker's share of a checkpoint: model, optimizer, schedule and random state.

torch's distributed checkpoint is used rather than verl's one-file-a-rank format, because it is read back by
any number of workers.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.optim.lr_scheduler import LambdaLR

from recipes.archer.checkpoints.host import HostState
from recipes.archer.checkpoints.manifest import old_refused, read_manifest
from recipes.archer.checkpoints.reader import DataReader
from recipes.archer.ending import UserError

# how the tokenizer's writer, which is not Python's, tells ENOSPC, EDQUOT, EIO and EROFS: in a bare Exception
FOREIGN_ERRORS = re.compile(r"\(os error (28|122|5|30)\)")
ARCHIVE_ERRORS = ("inline_container", "iostream error", "PytorchStreamWriter")  # of a file that cannot be written
_WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


@dataclass
class WorkerState:
    """What a worker saves."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    rank: int


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
    if not state.optimizer.state:  # before the first update: torch makes one up by a step, which would count
        get_state_dict(state.model, state.optimizer)
        reset_moments(state.optimizer)
    model, optimizer = get_state_dict(state.model, state.optimizer)
    for alias in aliases(state.model):
        del model[alias]
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=path)
    HostState.of_this_process(state.scheduler).write(Path(path), state.rank)


@torch.no_grad()
def reset_moments(optimizer: torch.optim.Optimizer) -> None:
    """Adam's moments and its count of steps become those of a new optimizer.

    In place: a state that is taken away would be made anew by the next checkpoint, and as one of the first step.
    """
    for moments in optimizer.state.values():
        for value in moments.values():
            own_part(value).zero_()


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of it."""
    return getattr(tensor, "_local_tensor", tensor)


def load_shards(path: str, state: WorkerState, trust_old: bool = False, fresh_optimizer: bool = False) -> None:
    """Reads the finished folder ``path`` into model, optimizer, schedule and, where this rank has one, random state.

    Learning rate, weight decay and whatever else a group of parameters has are this run's own, the place in the
    schedule is the checkpoint's.  With another number of workers than saved, ranks without a state of their own take
    rank 0's schedule and keep their fresh random state: rollouts are seeded by response, so nothing else depends on it.

    Args:
        trust_old: whether a folder of an earlier format may be read, which runs what its pickles hold.
        fresh_optimizer: whether the optimizer's moments stay as they are, those of one that has done nothing.

    Raises:
        UserError: the folder holds anything else than tensors and plain values.
        RuntimeError: it cannot be read for another reason.
    """
    folder, settings = Path(path), OwnSettings(state)
    try:
        host, is_own = _host_state(folder, state.rank, trust_old)  # before what all ranks do together
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    if fresh_optimizer:  # whose state would come to be if it were only asked for
        model = get_model_state_dict(state.model)
        read_into({"model": model}, folder, aliases(state.model))
        set_model_state_dict(state.model, model)
    else:
        model, optimizer = get_state_dict(state.model, state.optimizer)
        read_into({"model": model, "optimizer": optimizer}, folder, aliases(state.model))
        set_state_dict(state.model, state.optimizer, model_state_dict=model, optim_state_dict=optimizer)
    try:
        host.set_schedule(state.scheduler)
        settings.restore(state)
        if is_own:
            host.set_generators()
    except ValueError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    dist.barrier()


class OwnSettings:
    """What the configuration, and not a checkpoint, says of an optimizer: taken before the checkpoint is read."""

    def __init__(self, state: WorkerState):
        self.groups = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in state.optimizer.param_groups
        ]
        self.rates = list(state.scheduler.base_lrs)

    def restore(self, state: WorkerState) -> None:
        """Puts it in force again, at the place in the schedule that the checkpoint has."""
        scheduler = state.scheduler
        factors = [schedule(scheduler.last_epoch) for schedule in scheduler.lr_lambdas]
        rates = [rate * factor for rate, factor in zip(self.rates, factors, strict=True)]
        for group, own, rate in zip(state.optimizer.param_groups, self.groups, rates, strict=True):
            group.update(own, lr=rate)
        scheduler.load_state_dict(scheduler.state_dict() | {"base_lrs": self.rates, "_last_lr": rates})


def aliases(model: torch.nn.Module) -> dict[str, str]:
    """Second names of parameters, and the first of each: a tied head is the embedding, and is written once."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (one := first.setdefault(id(parameter), name)) != name:
            found[name] = one
    for prefix, module in model.named_modules():  # FSDP1 keeps a parameter of many in one, and what shares them apart
        for info in getattr(getattr(getattr(module, "_handle", None), "flat_param", None), "_shared_param_infos", ()):
            found[f"{prefix}.{info.module_name}.{info.param_name}"] = (
                f"{prefix}.{info.prim_module_name}.{info.prim_param_name}"
            )
    return {_plain(alias): _plain(name) for alias, name in found.items()}


def _plain(name: str) -> str:
    """A parameter's name in a state, without what wraps the modules on its way."""
    return ".".join(part for part in name.split(".") if part and part not in _WRAPPERS)


def read_into(state: dict[str, Any], folder: Path, alike: Mapping[str, str]) -> None:
    """Fills the tensors of ``model`` and, if it is there, ``optimizer`` from a finished folder; every rank calls it.

    Args:
        alike: the model's :func:`aliases`.

    Raises:
        UserError: the folder holds anything else than this state as tensors and plain values.
        RuntimeError: it cannot be read for another reason.
    """
    for alias in alike:
        del state["model"][alias]
    try:
        dcp.load(state, storage_reader=DataReader(folder))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"checkpoint {folder}: {error}") from None
    except CheckpointException as error:  # no Exception: it would take the worker's process with it
        if strange := next(filter(_is_of_content, (cause for cause, _ in error.failures.values())), None):
            raise UserError(f"checkpoint {folder}: {str(strange).splitlines()[0]}") from None
        raise RuntimeError(f"{folder} cannot be loaded: {error}") from None
    state["model"] |= {alias: state["model"][name] for alias, name in alike.items()}


def _is_of_content(error: BaseException) -> bool:
    """Whether a rank's error says that the checkpoint holds something else than this model's state."""
    return type(error) is ValueError or "Missing key in checkpoint" in str(error)


def _host_state(folder: Path, rank: int, trust_old: bool) -> tuple[HostState, bool]:
    """A rank's own state, or where it has none rank 0's; and whether it is its own.

    By the manifest, whose hashes were verified: a file that only lies there is not ours to read.
    """
    manifest = read_manifest(folder)
    if manifest.is_old and not trust_old:
        raise old_refused(folder)
    suffix, read = ("pt", HostState.read_old) if manifest.is_old else ("json", HostState.read)
    is_own = f"host_{rank}.{suffix}" in manifest.files
    return read(folder, rank if is_own else 0), is_own
