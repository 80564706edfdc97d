"""KL to the reference policy, per token, with a coefficient that may depend on the token class."""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.archer.losses.constants import KL_TYPES
from recipes.archer.losses.surrogate import LOG_RATIO_BOUND, widened


def token_kl(log_prob: Tensor, ref_log_prob: Tensor, kl_type: str = "low_var_kl") -> Tensor:
    """Estimate of KL(π ‖ π_ref) at each sampled token, as upstream's `kl_penalty` (joschu.net/blog/kl-approx.html).

    Args:
        log_prob, ref_log_prob: (batch, response_length).
        kl_type: `k1`/`kl`: log π − log π_ref; `k2`/`mse`: half its square; `abs`: its magnitude;
            `k3`/`low_var_kl`: π_ref/π − 1 − log(π_ref/π), never negative, bounded to 10.

    Raises:
        ValueError: unknown type.
    """
    difference = widened(log_prob) - widened(ref_log_prob.detach())
    if kl_type in ("kl", "k1"):
        return difference
    if kl_type == "abs":
        return difference.abs()
    if kl_type in ("mse", "k2"):
        return 0.5 * difference.square()
    if kl_type in ("low_var_kl", "k3"):
        # exp(20) cannot overflow, and one token a thousand nats away may not decide the step.
        reverse = (-difference).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
        return (reverse.exp() - reverse - 1).clamp(-10.0, 10.0)
    raise ValueError(f"kl_loss_type is {kl_type!r}; use one of {', '.join(KL_TYPES)}")


def kl_token_loss(
    log_prob: Tensor,
    ref_log_prob: Tensor,
    low_entropy: Tensor | None,
    coef_low: float,
    coef_high: float,
    kl_type: str = "low_var_kl",
) -> Tensor:
    """`token_kl` times the coefficient of the token's class; without classes, `coef_low` for every token.

    Returns:
        (batch, response_length), to be aggregated with the response mask; padding is not zeroed here.
    """
    kl = token_kl(log_prob, ref_log_prob, kl_type)
    if low_entropy is None:
        return coef_low * kl
    return torch.where(low_entropy.bool(), kl.new_tensor(coef_low), kl.new_tensor(coef_high)) * kl
