"""A model under FSDP of either version, as verl's worker wraps it, and what it holds, not sharded."""

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType

# what a run is sharded with: FSDP1 with the GPUs' lock, FSDP2 with the CPUs'
STRATEGY = "fsdp" if torch.version.cuda else "fsdp2"
BF16 = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}


def wrap(model: torch.nn.Module, strategy: str, keep_whole: bool = True, precision: dict | None = None):
    """The model in shards over all ranks.

    Args:
        strategy: ``fsdp`` or ``fsdp2``.
        keep_whole: leave parameters gathered after the forward pass.
        precision: what is computed in; None: as the parameters are.
    """
    from verl.utils.fsdp_utils import MixedPrecisionPolicy, apply_fsdp2, fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("fsdp",))
    if strategy == "fsdp":
        return _fsdp1(model, mesh, keep_whole, precision)
    policy = MixedPrecisionPolicy(**(precision or {}), cast_forward_inputs=True)
    wrapping = {"mesh": mesh, "mp_policy": policy, "reshard_after_forward": not keep_whole}
    if hasattr(model, "_no_split_modules"):
        apply_fsdp2(model, wrapping, OmegaConf.create({}))
    else:
        fully_shard(model, **wrapping)
    return model


def _fsdp1(model, mesh, keep_whole: bool, precision: dict | None):
    """All as verl's worker has it, but ``sync_module_states``, which needs a GPU."""
    from torch.distributed.fsdp import MixedPrecision

    from recipes.archer.workers.fsdp import kept_whole
    from verl.utils.fsdp_utils import get_fsdp_wrap_policy
    from verl.workers import fsdp_workers

    with kept_whole(keep_whole):
        sharding = fsdp_workers.get_sharding_strategy(mesh)
    return FullyShardedDataParallel(
        model,
        auto_wrap_policy=get_fsdp_wrap_policy(module=model, config=None, is_lora=False),
        sharding_strategy=sharding,
        mixed_precision=precision and MixedPrecision(**precision, buffer_dtype=torch.float32),
        device_id=torch.device("cpu"),
        device_mesh=mesh,
        use_orig_params=False,
        forward_prefetch=False,
    )


def plain_module(module):
    """The model below FSDP1's wrapper."""
    return getattr(module, "_fsdp_wrapped_module", module)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Of FSDP2's."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def whole_parameters(module) -> dict[str, torch.Tensor]:
    """By their names in the plain model; every rank calls it."""
    if not isinstance(module, FullyShardedDataParallel):
        return {name: whole(parameter) for name, parameter in module.named_parameters()}
    config = FullStateDictConfig(offload_to_cpu=False, rank0_only=False)
    with FullyShardedDataParallel.state_dict_type(module, StateDictType.FULL_STATE_DICT, config):
        state = module.state_dict()
    tied = getattr(getattr(plain_module(module), "config", None), "tie_word_embeddings", False)
    return {name: value.clone() for name, value in state.items() if not (tied and name == "lm_head.weight")}


def whole_gradients(module) -> dict[str, torch.Tensor]:
    """By the parameters' names in the plain model; every rank calls it."""
    if not isinstance(module, FullyShardedDataParallel):
        return {name: whole(parameter.grad) for name, parameter in module.named_parameters()}
    kept = [parameter.detach().clone() for parameter in module.parameters()]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.grad)
        found = whole_parameters(module)
        for parameter, value in zip(module.parameters(), kept, strict=True):
            parameter.copy_(value)
    return found
