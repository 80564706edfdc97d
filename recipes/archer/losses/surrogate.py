"""The importance ratio and the clipped PPO surrogate that several losses share."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

# exp(20) is 5e8: far outside every trust region, and far from overflow in float32 (upstream clamps there too).
LOG_RATIO_BOUND = 20.0

Clip = tuple[float, float]  # (lower, upper): the ratio is held within [1 - lower, 1 + upper]
Bound = TypeVar("Bound", Tensor, float)  # of the ratio: one a token, or one for all


def widened(values: Tensor) -> Tensor:
    """fp32 of anything narrower: the ratio of two log-probabilities with bf16's three digits is off by a percent."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def inside(values: Tensor, mask: Tensor) -> Tensor:
    """Values of the boolean mask, 0 elsewhere, in at least fp32; NaN in padding reaches neither value nor gradient."""
    return torch.where(mask, widened(values), 0.0)


def log_ratio_inside(old_log_prob: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """log π − log π_old, 0 outside the mask; arguments and result as of `bounded_log_ratio`."""
    return inside(log_prob, mask) - inside(old_log_prob.detach(), mask)


def bounded_log_ratio(old_log_prob: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """log π − log π_old, clamped to ±20, and 0 (ratio 1) outside the mask whatever stands there.

    Args: all (batch, response_length), `mask` boolean. Returns the same shape, with a gradient to `log_prob`.
    """
    return log_ratio_inside(old_log_prob, log_prob, mask).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def prepared(
    old_log_prob: Tensor, log_prob: Tensor, advantages: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What every loss starts from: (boolean mask, advantages without a gradient, bounded log-ratio), 0 in padding."""
    mask = response_mask.bool()
    return mask, inside(advantages.detach(), mask), bounded_log_ratio(old_log_prob, log_prob, mask)


def class_bounds(low_entropy: Tensor, clip_low: Clip, clip_high: Clip, like: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest ratio of each token by its class, in the dtype of `like`; shape of `low_entropy`."""
    low = low_entropy.bool()
    least = torch.where(low, like.new_tensor(1 - clip_low[0]), like.new_tensor(1 - clip_high[0]))
    greatest = torch.where(low, like.new_tensor(1 + clip_low[1]), like.new_tensor(1 + clip_high[1]))
    return least, greatest


def outside_trust_region(ratio: Tensor, advantages: Tensor, least: Bound, greatest: Bound) -> Tensor:
    """Tokens the clip stops: the ratio has already moved too far in the direction the advantage points to."""
    return ((advantages > 0) & (ratio > greatest)) | ((advantages < 0) & (ratio < least))


def clipped_surrogate(ratio: Tensor, advantages: Tensor, least: Bound, greatest: Bound, cap: float) -> Tensor:
    """Per-token PPO loss with dual clip, −A·(pessimistic ratio), as upstream's `compute_policy_loss`.

    The maximum over the negated products of upstream is written as a choice of ratio by the sign of A; the two are
    equal bit for bit, and this one stays finite with `cap` infinite (dual clip off).

    Args:
        ratio, advantages: (batch, response_length).
        least, greatest: bounds of the ratio.
        cap: dual clip's c > 1, bounding the ratio where A < 0 (arXiv 1912.09729).
    """
    held = torch.clamp(ratio, least, greatest)
    pessimistic = torch.where(advantages < 0, torch.maximum(ratio, held).clamp(max=cap), torch.minimum(ratio, held))
    return -advantages * pessimistic
