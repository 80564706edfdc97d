"""The reference policy brought up to the policy."""

import torch
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from recipes.archer.checkpoints.shards import own_part


@torch.no_grad()
def refresh(policy: torch.nn.Module, reference: torch.nn.Module, mix: float) -> None:
    """reference ← mix · policy + (1 − mix) · reference; every rank calls it.

    Through torch's own state dicts, which FSDP of either version fills, whether its parameters are sharded, gathered or
    on the host.  Computed in fp32 at least, then rounded to the reference's dtype.

    Args:
        policy, reference: the same architecture, wrapped and sharded alike; dtype and device may differ.
        mix: in (0, 1]; 1 copies the policy.
    """
    news, olds = get_model_state_dict(policy), get_model_state_dict(reference)
    # beside the old ones and not in their place: a tied weight is there under two names
    mixed = {name: _mixed(news[name], old, mix) for name, old in olds.items()}
    set_model_state_dict(reference, mixed)


def _mixed(new: torch.Tensor, old: torch.Tensor, mix: float) -> torch.Tensor:
    result = old.clone()
    ours, theirs = own_part(result), own_part(new).to(own_part(result).device)
    if mix == 1 or not ours.is_floating_point():
        ours.copy_(theirs)
        return result
    wide = torch.promote_types(torch.promote_types(ours.dtype, theirs.dtype), torch.float32)
    ours.copy_(torch.lerp(ours.to(wide), theirs.to(wide), mix))
    return result
