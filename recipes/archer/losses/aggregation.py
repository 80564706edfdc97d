"""Per-token losses to one scalar, in a way that does not depend on how the batch was cut.

A sum over micro-batches and workers of `aggregate(part, ..., total=denominator(whole))` is the same number, and the
same gradient, as `aggregate(whole)`: the denominator belongs to the optimizer step, never to the micro-batch.
"""

from __future__ import annotations

from torch import Tensor

from recipes.archer.losses.constants import AGGREGATION_MODES
from recipes.archer.losses.surrogate import inside


def denominator(response_mask: Tensor, mode: str) -> Tensor:
    """What `aggregate` divides by: response tokens for `token-mean`, non-empty responses for the other modes.

    Args:
        response_mask: (batch, response_length), any dtype; non-zero marks a response token.
        mode: one of `AGGREGATION_MODES`.

    Returns:
        Scalar int64 tensor. Denominators of parts add up to the denominator of the whole.

    Raises:
        ValueError: unknown mode.
    """
    _check_mode(mode)
    mask = response_mask.bool()
    return mask.sum() if mode == "token-mean" else mask.any(dim=-1).sum()


def aggregate(
    token_loss: Tensor,
    response_mask: Tensor,
    mode: str,
    *,
    total: Tensor | float | None = None,
    norm_length: int | None = None,
) -> Tensor:
    """One scalar from per-token losses.

    - `token-mean`: sum over response tokens / total.
    - `seq-mean-token-sum`: sum over responses of their token sum / total.
    - `seq-mean-token-mean`: sum over responses of their token mean / total.
    - `seq-mean-token-sum-norm`: `seq-mean-token-sum` / norm_length, the constant length of Dr. GRPO (arXiv 2503.20783).

    The first three equal upstream's `agg_loss` (verl/trainer/ppo/core_algos.py) on one batch without empty responses.
    Upstream's fourth leaves out the number of responses, so that it grows with the micro-batch; here it is divided by
    it, as in the paper.

    Args:
        token_loss: (batch, response_length); values outside the mask are ignored, also when they are not finite.
        response_mask: (batch, response_length), any dtype.
        mode: one of `AGGREGATION_MODES`.
        total: `denominator` of the whole optimizer step, over all micro-batches and workers; by default that of
            `response_mask`. May be fractional (a share of it, to undo an average over workers).
        norm_length: tokens; by default the width of `token_loss`, which is only constant where nothing trims padding.

    Returns:
        Scalar tensor; zero, with a zero gradient, when there is no response token.

    Raises:
        ValueError: unknown mode, a negative total, or a total of zero although there are response tokens.
    """
    _check_mode(mode)
    mask = response_mask.bool()
    kept = inside(token_loss, mask)
    if mode == "seq-mean-token-mean":
        # An empty response has a zero sum; clamping only keeps 0/0 out of the gradient.
        kept = kept.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)
    elif mode == "seq-mean-token-sum-norm":
        kept = kept / (norm_length or max(token_loss.shape[-1], 1))
    return kept.sum() / _divisor(mask, mode, total)


def _divisor(mask: Tensor, mode: str, total: Tensor | float | None) -> Tensor | float:
    if total is None:
        return denominator(mask, mode).clamp(min=1)
    value = float(total)
    if value > 0:
        return value
    if value < 0 or bool(mask.any()):
        raise ValueError(
            f"aggregate: total is {value:g} for a batch with {int(mask.sum())} response tokens; "
            "pass denominator() summed over the whole optimizer step"
        )
    return 1.0


def _check_mode(mode: str) -> None:
    if mode not in AGGREGATION_MODES:
        raise ValueError(f"loss_agg_mode is {mode!r}; use one of {', '.join(AGGREGATION_MODES)}")
