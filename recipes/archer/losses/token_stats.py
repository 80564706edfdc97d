"""Sums and counts over response tokens, so that metrics of micro-batches and workers reduce exactly.

A mean is kept as numerator and denominator until the very end: means of means would depend on how the batch was cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

MEANS = (
    "actor/pg_clipfrac",
    "actor/pg_clipfrac_lower",
    "actor/ppo_kl",
    "actor/clipfrac/pos/low_entropy",
    "actor/clipfrac/pos/high_entropy",
    "actor/clipfrac/neg/low_entropy",
    "actor/clipfrac/neg/high_entropy",
    "actor/kl_loss",
    "actor/kl_loss/low_entropy",
    "actor/kl_loss/high_entropy",
    "actor/entropy/kept",
    "actor/entropy/low_entropy",
    "actor/entropy/high_entropy",
    "rollout/log_ratio/mean",
    "rollout/log_ratio/abs_mean",
    "actor/low_entropy_share",
)
# Greatest values; the least ratio is the greatest negated one.
PEAKS = ("actor/ratio/max", "actor/ratio/min", "rollout/log_ratio/abs_max")
_SIGN = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
_ROW = {name: row for row, name in enumerate(MEANS)}


@dataclass(frozen=True)
class TokenStats:
    """What one or several micro-batches contribute to the actor's metrics. Nothing here carries a gradient.

    Reduce over workers with one all-reduce SUM of `sums` and one all-reduce MAX of `peaks`, in place.
    """

    sums: Tensor  # (len(MEANS), 2) float64: numerator, denominator
    peaks: Tensor  # (len(PEAKS),) float64; -inf before any token

    @property
    def finite(self) -> bool:
        """Whether no sum is NaN or infinite."""
        return bool(torch.isfinite(self.sums).all())

    def metrics(self) -> dict[str, float | None]:
        """Flat metrics, always the same keys; None where no token was counted. One transfer from the device."""
        values = torch.cat([self.sums.flatten(), self.peaks]).tolist()
        means = {name: _ratio(*values[2 * row : 2 * row + 2]) for name, row in _ROW.items()}
        peaks = zip(PEAKS, values[-len(PEAKS) :], _SIGN.tolist(), strict=True)
        # NaN is a value: it shows that something broke
        return means | {name: None if value == float("-inf") else sign * value for name, value, sign in peaks}


def empty_stats(device: torch.device | str = "cpu") -> TokenStats:
    """The neutral element of `merge_stats`."""
    sums = torch.zeros(len(MEANS), 2, dtype=torch.float64, device=device)
    return TokenStats(sums, torch.full((len(PEAKS),), float("-inf"), dtype=torch.float64, device=device))


def merge_stats(parts: Iterable[TokenStats]) -> TokenStats:
    """Stats of several micro-batches (or of several measurements of one) as if they had been one."""
    parts = list(parts)
    if not parts:
        return empty_stats()
    sums = torch.stack([part.sums for part in parts]).sum(dim=0)
    return TokenStats(sums, torch.stack([part.peaks for part in parts]).amax(dim=0))


@torch.no_grad()
def policy_stats(
    log_ratio: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    low_entropy: Tensor | None,
    *,
    clipped: Tensor,
    capped: Tensor,
) -> TokenStats:
    """Clip fractions by sign of the advantage and token class, approximate KL to the old policy, extreme ratios.

    Tokens with advantage zero are in neither sign class. All tensors (batch, response_length).

    Args:
        log_ratio: log π − log π_old.
        low_entropy: token classes, or None when the loss knows none; the class metrics are then None.
        clipped: the trust region stopped this token's gradient.
        capped: the ratio was held at its cap (dual clip's c, or ASPO's ratio cap).
    """
    mask = response_mask.bool()
    counts = {
        "actor/pg_clipfrac": (clipped, mask),
        "actor/pg_clipfrac_lower": (capped, mask),
        "actor/ppo_kl": (-log_ratio, mask),
    }
    if low_entropy is not None:
        low, high = _classes(mask, low_entropy)
        counts["actor/low_entropy_share"] = (low, mask)
        for sign, chosen in (("pos", advantages > 0), ("neg", advantages < 0)):
            counts[f"actor/clipfrac/{sign}/low_entropy"] = (clipped, chosen & low)
            counts[f"actor/clipfrac/{sign}/high_entropy"] = (clipped, chosen & high)
    stats = _count(counts, mask.device)
    if not mask.any():
        return stats
    ratio = log_ratio[mask].double().exp()
    stats.peaks[0], stats.peaks[1] = ratio.max(), -ratio.min()
    return stats


@torch.no_grad()
def kl_stats(token_kl: Tensor, response_mask: Tensor, low_entropy: Tensor | None) -> TokenStats:
    """Unweighted KL to the reference, (batch, response_length), over all response tokens and by token class."""
    return _by_class("actor/kl_loss", token_kl, response_mask, low_entropy, overall="actor/kl_loss")


@torch.no_grad()
def entropy_stats(entropy: Tensor, response_mask: Tensor, low_entropy: Tensor | None) -> TokenStats:
    """Entropy of the policy, (batch, response_length) in nats, of the rows trained on and by token class."""
    return _by_class("actor/entropy", entropy, response_mask, low_entropy, overall="actor/entropy/kept")


@torch.no_grad()
def engine_stats(log_prob: Tensor, rollout_log_prob: Tensor, response_mask: Tensor) -> TokenStats:
    """The trainer's log-probabilities minus the engine's, for one policy: what precision alone makes them differ."""
    mask = response_mask.bool()
    difference = log_prob.double() - rollout_log_prob.double()
    counts = {"rollout/log_ratio/mean": (difference, mask), "rollout/log_ratio/abs_mean": (difference.abs(), mask)}
    stats = _count(counts, mask.device)
    if mask.any():
        stats.peaks[2] = difference.abs()[mask].max()
    return stats


def _by_class(
    name: str, values: Tensor, response_mask: Tensor, low_entropy: Tensor | None, *, overall: str
) -> TokenStats:
    mask = response_mask.bool()
    counts = {overall: (values, mask)}
    if low_entropy is not None:
        low, high = _classes(mask, low_entropy)
        counts |= {f"{name}/low_entropy": (values, low), f"{name}/high_entropy": (values, high)}
    return _count(counts, mask.device)


def _classes(mask: Tensor, low_entropy: Tensor) -> tuple[Tensor, Tensor]:
    low = low_entropy.bool()
    return mask & low, mask & ~low


def _count(counts: dict[str, tuple[Tensor, Tensor]], device: torch.device) -> TokenStats:
    stats = empty_stats(device)
    for name, (values, where) in counts.items():
        # Selected by where, not multiplied: padding may hold anything, also NaN.
        kept = torch.where(where, values.to(torch.float64), 0.0)
        stats.sums[_ROW[name]] = torch.stack([kept.sum(), where.sum().to(torch.float64)])
    return stats


def _ratio(numerator: float, count: float) -> float | None:
    return numerator / count if count else None
