"""What the actor asks of FSDP, of either version: when gradients are added up, and when parameters are given back."""

from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.algorithms._comm_hooks import default_hooks
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.fsdp._runtime_utils import _reshard

from verl.utils.fsdp_utils import FSDPModule
from verl.workers import fsdp_workers

WHOLE = {  # FSDP1's strategies, and those that keep parameters whole between forward and backward pass
    ShardingStrategy.FULL_SHARD: ShardingStrategy.SHARD_GRAD_OP,
    ShardingStrategy.HYBRID_SHARD: ShardingStrategy._HYBRID_SHARD_ZERO2,
}


@contextmanager
def kept_whole(keep: bool):
    """While verl wraps a model: FSDP1 heeds ``reshard_after_forward: false`` too, which verl gives to FSDP2 alone."""
    chosen = fsdp_workers.get_sharding_strategy
    with patch.object(
        fsdp_workers, "get_sharding_strategy", lambda mesh: WHOLE[chosen(mesh)] if keep else chosen(mesh)
    ):
        yield


def reshard(module: torch.nn.Module) -> None:
    """Gives back the parameters that a pass without a backward pass leaves whole.

    They would take memory during the rollout, and be stale where the sharded ones change.
    """
    if isinstance(module, FullyShardedDataParallel):
        for unit in FullyShardedDataParallel.fsdp_modules(module):
            used = unit._is_root is not None  # before its first pass a unit has no shard to go back to
            if used and unit._handle is not None and unit._handle.uses_sharded_strategy:
                _reshard(unit, unit._handle, True)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


class GradientExchange:
    """Adds the workers' gradients up after an optimizer step's last micro-batch, or after each.

    Delayed, the gradients of the micro-batches before stay whole on each worker and are summed in the precision of the
    exchange, fp32: 4 bytes a parameter. FSDP2 does so by itself. FSDP1's ``no_sync`` would sum in the parameters'
    bf16, so that the gradient came to depend on the number of micro-batches; its communication hook sees fp32.

    One worker has nothing to exchange; FSDP1 over a mesh of two dimensions takes no hook, and exchanges after each.
    """

    def __init__(self, module: torch.nn.Module, delay: bool, keep_whole: bool):
        self.module, self.keep_whole, self.is_last = module, keep_whole, True
        self.delay = delay and dist.get_world_size() > 1
        self.units: list[_Unit] = []
        if not isinstance(module, FullyShardedDataParallel):
            return
        for unit in FullyShardedDataParallel.fsdp_modules(module):
            # not register_comm_hook, which gives every unit the same state
            unit._comm_hook = unit._comm_hook_state = None
            if self.delay and unit.sharding_strategy in (ShardingStrategy.FULL_SHARD, ShardingStrategy.SHARD_GRAD_OP):
                self.units.append(_Unit(self, unit.process_group))
                unit._comm_hook, unit._comm_hook_state = _exchange, self.units[-1]

    def begin(self) -> None:
        """Before an optimizer step: forgets what a step that failed has left."""
        for unit in self.units:
            unit.held = None

    def before_backward(self, is_last: bool) -> None:
        """Says whether the backward pass to come is the optimizer step's last."""
        self.is_last = is_last
        if self.delay and isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(is_last)
            self.module.set_reshard_after_backward(is_last or not self.keep_whole)


class _Unit:
    """The gradient that one of FSDP1's units, a layer or the rest, has so far."""

    def __init__(self, exchange: GradientExchange, group):
        self.exchange, self.reduction = exchange, default_hooks.DefaultState(group)
        self.held: torch.Tensor | None = None


def _exchange(unit: _Unit, gradient: torch.Tensor, share: torch.Tensor) -> None:
    """FSDP1's communication hook: from the whole gradient of this worker to its share of all workers' mean.

    Args:
        gradient: (padded size,) of this backward pass; may be overwritten.
        share: (padded size / workers,) is filled; FSDP adds it to what the passes before gave.
    """
    if not unit.exchange.is_last:
        unit.held = gradient.clone() if unit.held is None else unit.held.add_(gradient)
        share.zero_()
        return
    if unit.held is not None:
        gradient.add_(unit.held)
        unit.held = None
    default_hooks.reduce_scatter_hook(unit.reduction, gradient, share)
