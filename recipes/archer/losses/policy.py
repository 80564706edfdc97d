"""The policy losses of Archer: token classes, the dual-token constraint, ASPO, and upstream's losses beside them.

Pure: tensors in, loss out. All tensors are (batch, response_length) unless said otherwise; masks may have any dtype.
The `*_token_loss` functions return one loss per token (zero outside the mask) and the sums metrics are made of, so
that the actor can divide by a denominator of the whole optimizer step (`recipes.archer.losses.aggregation`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.archer.losses.aggregation import aggregate
from recipes.archer.losses.constants import LossConfig
from recipes.archer.losses.covariance import clip_cov_token_loss, kl_cov_token_loss
from recipes.archer.losses.surrogate import (
    LOG_RATIO_BOUND,
    Bound,
    Clip,
    class_bounds,
    clipped_surrogate,
    inside,
    outside_trust_region,
    prepared,
    widened,
)
from recipes.archer.losses.token_stats import TokenStats, policy_stats

TokenLoss = tuple[Tensor, TokenStats]


@torch.no_grad()
def low_entropy_mask(entropy: Tensor, response_mask: Tensor, quantile: float = 0.8) -> Tensor:
    """Tokens whose entropy is at most the `quantile` of the entropies within their own response.

    The linearly interpolated quantile lies between two neighbours in sorted order, so "H ≤ quantile" is "H ≤ the
    lower neighbour": comparing with that one needs no interpolation, whose rounding could move a token.

    Args:
        entropy: entropy of the policy at each token, nats.
        response_mask: response tokens; the others are in neither class.
        quantile: in (0, 1].

    Returns:
        Boolean (batch, response_length): True for low-entropy tokens. A response of one token has one.

    Raises:
        ValueError: quantile outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"token_entropy_quantile is {quantile}; choose a value in (0, 1]")
    mask = response_mask.bool()
    if mask.shape[-1] == 0:
        return mask
    ordered = torch.where(mask, entropy, float("inf")).sort(dim=-1).values
    last = (mask.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    # 0.29 * 100 is 28.999…96 in floating point, and the token at rank 29 would change class.
    rank = (last.double() * quantile + 1e-9).floor().long()
    return mask & (entropy <= ordered.gather(-1, rank))


def aspo_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor,
    *,
    clip_low_entropy: Clip = (0.2, 0.2),
    clip_high_entropy: Clip = (0.4, 0.4),
    ratio_cap: float = 3.0,
) -> TokenLoss:
    """ASPO (arXiv 2510.06062): −sg(c)·A·log π per token, with r the ratio to the old policy and

    - A ≥ 0: c = min(1/r, ratio_cap) while r ≤ 1 + upper, else 0;
    - A < 0: c = min(r, ratio_cap) while r ≥ 1 − lower, else 0.

    The gradient is c·A·∇log π by construction. The value of the loss means nothing: read the clip fractions.
    The cap is soft: beyond it a token keeps the constant weight `ratio_cap`.
    """
    mask, advantages, log_ratio = prepared(old_log_prob, log_prob.detach(), advantages, response_mask)
    ratio = log_ratio.exp()
    least, greatest = class_bounds(low_entropy, clip_low_entropy, clip_high_entropy, ratio)
    weight = torch.where(advantages < 0, ratio, (-log_ratio).exp())
    clipped = outside_trust_region(ratio, advantages, least, greatest)
    coefficient = weight.clamp(max=ratio_cap).masked_fill(clipped, 0.0)
    capped = (weight > ratio_cap) & ~clipped & (advantages != 0)
    stats = policy_stats(log_ratio, advantages, mask, low_entropy, clipped=clipped, capped=capped)
    return -coefficient * advantages * inside(log_prob, mask), stats


def archer_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor,
    *,
    clip_low_entropy: Clip = (0.2, 0.2),
    clip_high_entropy: Clip = (0.4, 0.4),
    ratio_cap: float = 3.0,
) -> TokenLoss:
    """Dual-token constraint (arXiv 2507.15778): the clipped PPO loss with the clip of the token's class.

    `ratio_cap` is dual clip's c; infinity switches it off.
    """
    bounds = class_bounds(low_entropy, clip_low_entropy, clip_high_entropy, widened(log_prob.detach()))
    return _clipped_token_loss(old_log_prob, log_prob, advantages, response_mask, low_entropy, bounds, ratio_cap)


def vanilla_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None = None,
    *,
    clip: Clip = (0.2, 0.2),
    clip_ratio_c: float = 3.0,
) -> TokenLoss:
    """Upstream's PPO loss with dual clip; unequal bounds make it clip-higher. Token classes only split the metrics."""
    bounds = (1 - clip[0], 1 + clip[1])
    return _clipped_token_loss(old_log_prob, log_prob, advantages, response_mask, low_entropy, bounds, clip_ratio_c)


def _clipped_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None,
    bounds: tuple[Bound, Bound],
    cap: float,
) -> TokenLoss:
    mask, advantages, log_ratio = prepared(old_log_prob, log_prob, advantages, response_mask)
    ratio = log_ratio.exp()
    token_loss = clipped_surrogate(ratio, advantages, *bounds, cap)
    seen = ratio.detach()
    stats = policy_stats(
        log_ratio.detach(),
        advantages,
        mask,
        low_entropy,
        clipped=outside_trust_region(seen, advantages, *bounds),
        capped=(advantages < 0) & (seen > cap),
    )
    return token_loss, stats


def aspo_policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor,
    *,
    clip_low_entropy: Clip = (0.2, 0.2),
    clip_high_entropy: Clip = (0.4, 0.4),
    ratio_cap: float = 3.0,
    loss_agg_mode: str = "token-mean",
) -> tuple[Tensor, dict[str, float | None]]:
    """`aspo_token_loss` aggregated over the given tensors. Returns (scalar loss, metrics); None: no such token."""
    token_loss, stats = aspo_token_loss(
        old_log_prob,
        log_prob,
        advantages,
        response_mask,
        low_entropy,
        clip_low_entropy=clip_low_entropy,
        clip_high_entropy=clip_high_entropy,
        ratio_cap=ratio_cap,
    )
    return aggregate(token_loss, response_mask, loss_agg_mode), stats.metrics()


def archer_policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor,
    *,
    clip_low_entropy: Clip = (0.2, 0.2),
    clip_high_entropy: Clip = (0.4, 0.4),
    ratio_cap: float = 3.0,
    loss_agg_mode: str = "token-mean",
) -> tuple[Tensor, dict[str, float | None]]:
    """`archer_token_loss` aggregated over the given tensors. Returns (scalar loss, metrics); None: no such token."""
    token_loss, stats = archer_token_loss(
        old_log_prob,
        log_prob,
        advantages,
        response_mask,
        low_entropy,
        clip_low_entropy=clip_low_entropy,
        clip_high_entropy=clip_high_entropy,
        ratio_cap=ratio_cap,
    )
    return aggregate(token_loss, response_mask, loss_agg_mode), stats.metrics()


def policy_token_loss(
    config: LossConfig,
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None = None,
    *,
    selected: Tensor | None = None,
) -> TokenLoss:
    """The loss `config.policy_loss` names, with that configuration's constants.

    Args:
        low_entropy: token classes; `archer` and `aspo` need them, the others only split their metrics by them.
        selected: tokens chosen by covariance over a larger batch, for `clip_cov` and `kl_cov`
            (see `recipes.archer.losses.covariance`); by default they are chosen within the given tensors.
    """
    tensors = (old_log_prob, log_prob, advantages, response_mask)
    if config.policy_loss in ("archer", "aspo"):
        if low_entropy is None:
            raise ValueError(f"policy_loss={config.policy_loss} needs token classes: pass low_entropy")
        loss, cap = (
            (aspo_token_loss, config.ratio_cap)
            if config.policy_loss == "aspo"
            else (archer_token_loss, config.clip_ratio_c)
        )
        return loss(
            *tensors,
            low_entropy,
            clip_low_entropy=config.clip_low_entropy,
            clip_high_entropy=config.clip_high_entropy,
            ratio_cap=cap,
        )
    clip = (config.clip_ratio_low, config.clip_ratio_high)
    if config.policy_loss == "clip_cov":
        return clip_cov_token_loss(
            *tensors,
            low_entropy,
            clip=clip,
            ratio=config.clip_cov_ratio,
            bounds=(config.clip_cov_lb, config.clip_cov_ub),
            selected=selected,
        )
    if config.policy_loss == "kl_cov":
        return kl_cov_token_loss(
            *tensors, low_entropy, ratio=config.kl_cov_ratio, coef=config.ppo_kl_coef, selected=selected
        )
    if config.policy_loss in ("vanilla", "clip_higher"):
        return vanilla_token_loss(*tensors, low_entropy, clip=clip, clip_ratio_c=config.clip_ratio_c)
    raise ValueError(f"policy_loss={config.policy_loss} is in POLICY_LOSSES, but no loss is chosen for it here")


@torch.no_grad()
def rollout_is_weight(old_log_prob: Tensor, rollout_log_prob: Tensor, threshold: float) -> Tensor:
    """Truncated importance weight min(π_old / π_rollout, threshold), per token, for the token loss to be multiplied by.

    It corrects for an engine whose probabilities differ from the trainer's. No gradient; `threshold` ≥ 1.
    """
    difference = widened(old_log_prob) - widened(rollout_log_prob)
    return difference.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp().clamp(max=threshold)
