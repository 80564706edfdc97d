"""Clip-Cov and KL-Cov (arXiv 2505.22617): losses that restrain the few tokens which drive entropy down most.

Both rank tokens by the covariance of advantage and log-probability. Upstream (verl/trainer/ppo/core_algos.py) ranks
within whatever micro-batch it is given, so its result depends on the cut; called without `selected`, the functions
here do the same and equal it. The selections are functions of their own: made once over a whole optimizer step and
handed in, they make the loss independent of the cut. All tensors (batch, response_length), masks of any dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.archer.losses.surrogate import (
    Clip,
    clipped_surrogate,
    inside,
    log_ratio_inside,
    outside_trust_region,
    prepared,
)
from recipes.archer.losses.token_stats import TokenStats, policy_stats


@torch.no_grad()
def clip_cov_selection(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    clip: Clip = (0.2, 0.2),
    ratio: float = 2e-4,
    bounds: Clip = (1.0, 5.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random `ratio` of the response tokens, at least one, among those with a covariance strictly within `bounds`.

    Tokens the trust region stops anyway are not candidates. The draw uses the CPU generator, as upstream.

    Returns:
        Boolean (batch, response_length).
    """
    mask, advantages, log_ratio = prepared(old_log_prob, log_prob, advantages, response_mask)
    stopped = outside_trust_region(log_ratio.exp(), advantages, 1 - clip[0], 1 + clip[1])
    covariance = _covariance(advantages, log_prob, mask)
    candidates = torch.nonzero(mask & ~stopped & (covariance > bounds[0]) & (covariance < bounds[1]), as_tuple=False)
    selected = torch.zeros_like(mask)
    if len(candidates) == 0:
        return selected
    quota = max(int(ratio * int(mask.sum())), 1)
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:quota].to(candidates.device)]
    selected[chosen[:, 0], chosen[:, 1]] = True
    return selected


def clip_cov_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None = None,
    *,
    clip: Clip = (0.2, 0.2),
    ratio: float = 2e-4,
    bounds: Clip = (1.0, 5.0),
    selected: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, TokenStats]:
    """The clipped PPO loss without dual clip, with the loss of the selected tokens set to zero.

    `actor/pg_clipfrac` counts every token left without a gradient: by the trust region or by the selection.
    """
    if selected is None:
        selected = clip_cov_selection(
            old_log_prob,
            log_prob,
            advantages,
            response_mask,
            clip=clip,
            ratio=ratio,
            bounds=bounds,
            generator=generator,
        )
    mask, advantages, log_ratio = prepared(old_log_prob, log_prob, advantages, response_mask)
    least, greatest = 1 - clip[0], 1 + clip[1]
    token_loss = clipped_surrogate(log_ratio.exp(), advantages, least, greatest, cap=float("inf"))
    stopped = outside_trust_region(log_ratio.detach().exp(), advantages, least, greatest)
    stats = policy_stats(
        log_ratio.detach(),
        advantages,
        mask,
        low_entropy,
        clipped=stopped | selected,
        capped=torch.zeros_like(mask),
    )
    return token_loss.masked_fill(selected, 0.0), stats


@torch.no_grad()
def kl_cov_selection(log_prob: Tensor, advantages: Tensor, response_mask: Tensor, *, ratio: float = 2e-4) -> Tensor:
    """The `ratio` of the response tokens with the greatest covariance, at least one if there is any token.

    Returns:
        Boolean (batch, response_length).
    """
    mask = response_mask.bool()
    selected = torch.zeros_like(mask)
    count = int(mask.sum())
    if count == 0:
        return selected
    covariance = _covariance(advantages, log_prob, mask)[mask]
    top = torch.topk(covariance, max(1, int(count * ratio))).indices
    positions = torch.nonzero(mask, as_tuple=False)[top]
    selected[positions[:, 0], positions[:, 1]] = True
    return selected


def kl_cov_token_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None = None,
    *,
    ratio: float = 2e-4,
    coef: float = 1.0,
    selected: Tensor | None = None,
) -> tuple[Tensor, TokenStats]:
    """−A·r per token, without any clip; the selected tokens carry coef·|log π − log π_old| as well."""
    if selected is None:
        selected = kl_cov_selection(log_prob, advantages, response_mask, ratio=ratio)
    mask, advantages, log_ratio = prepared(old_log_prob, log_prob, advantages, response_mask)
    nothing = torch.zeros_like(mask)
    stats = policy_stats(log_ratio.detach(), advantages, mask, low_entropy, clipped=nothing, capped=nothing)
    # not log_ratio, which is bounded and so without a gradient where the policy has run furthest away
    distance = log_ratio_inside(old_log_prob, log_prob, mask).abs()
    return -advantages * log_ratio.exp() + coef * torch.where(selected, distance, 0.0), stats


def _covariance(advantages: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """Each token's share of the covariance over the batch; zero outside the mask."""
    count = mask.sum().clamp(min=1)
    centred = []
    for values in (advantages, log_prob):
        own = inside(values.detach(), mask)
        centred.append(inside(own - own.sum() / count, mask))
    return centred[0] * centred[1]
