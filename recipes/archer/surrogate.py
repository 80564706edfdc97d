"""The importance ratio and the clipped PPO surrogate that several losses share."""

from __future__ import annotations

import torch
from torch import Tensor

# exp(20) is 5e8: far outside every trust region, and far from overflow in float32 (upstream clamps there too).
LOG_RATIO_BOUND = 20.0

Clip = tuple[float, float]  # (lower, upper): the ratio is held within [1 - lower, 1 + upper]


def bounded_log_ratio(old_log_prob: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """log π − log π_old, clamped to ±20, and 0 (ratio 1) outside the mask whatever stands there.

    Args: all (batch, response_length), `mask` boolean. Returns the same shape, with a gradient to `log_prob`.
    """
    difference = log_prob - old_log_prob.detach()
    inside = torch.where(mask, difference, torch.zeros_like(difference))
    return inside.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def class_bounds(low_entropy: Tensor, clip_low: Clip, clip_high: Clip, like: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest ratio of each token by its class, in the dtype of `like`; shape of `low_entropy`."""
    low = low_entropy.bool()
    least = torch.where(low, like.new_tensor(1 - clip_low[0]), like.new_tensor(1 - clip_high[0]))
    greatest = torch.where(low, like.new_tensor(1 + clip_low[1]), like.new_tensor(1 + clip_high[1]))
    return least, greatest


def outside_trust_region(
    ratio: Tensor, advantages: Tensor, least: Tensor | float, greatest: Tensor | float
) -> Tensor:
    """Tokens the clip stops: the ratio has already moved too far in the direction the advantage points to."""
    return ((advantages > 0) & (ratio > greatest)) | ((advantages < 0) & (ratio < least))


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, least: Tensor | float, greatest: Tensor | float, cap: float
) -> Tensor:
    """Per-token PPO loss with dual clip, −A·(pessimistic ratio), as upstream's `compute_policy_loss`.

    The maximum over the negated products of upstream is written as a choice of ratio by the sign of A; the two are
    equal bit for bit, and this one stays finite with `cap` infinite (dual clip off).

    Args:
        ratio, advantages: (batch, response_length).
        least, greatest: bounds of the ratio.
        cap: dual clip's c > 1, bounding the ratio where A < 0 (arXiv 1912.09729).
    """
    held = torch.clamp(ratio, least, greatest)
    pessimistic = torch.where(
        advantages < 0, torch.maximum(ratio, held).clamp(max=cap), torch.minimum(ratio, held)
    )
    return -advantages * pessimistic
