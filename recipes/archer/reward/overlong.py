"""Response length to penalty, and which responses were cut: what the reward does about overlong responses."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def overlong_penalty(
    response_length: Tensor, max_response_length: int, buffer_len: int, penalty_factor: float
) -> Tensor:
    """Soft overlong punishment of DAPO (arXiv 2503.14476, eq. 13): clip((M − B − L)/B, −1, 0)·f.

    Zero up to M − B tokens, then linear down to −f at M. B = 0 switches it off.

    Args:
        response_length: L, tokens; any shape, any numeric dtype, also a list.
        max_response_length: M > 0, tokens.
        buffer_len: B in [0, M], tokens.
        penalty_factor: f ≥ 0, in units of reward.

    Returns:
        float32 tensor of the shape of `response_length`, in [−f, 0].

    Raises:
        ValueError: an impossible setting.
    """
    _check(max_response_length, buffer_len, penalty_factor)
    length = torch.as_tensor(response_length).to(torch.float32)
    if buffer_len == 0:
        return torch.zeros_like(length)
    return ((max_response_length - buffer_len - length) / buffer_len).clamp(-1.0, 0.0) * penalty_factor


def overlong_filter_mask(response_length: Tensor, max_response_length: int, ended: Tensor) -> Tensor:
    """Which responses were cut at the cap.

    Args:
        response_length: (batch,), tokens.
        max_response_length: M, tokens.
        ended: (batch,), whether the last token ends the response; one that ends exactly at the cap was not cut.

    Returns:
        Boolean (batch,): True where the response was cut.
    """
    _check(max_response_length)
    return (torch.as_tensor(response_length) >= max_response_length) & ~torch.as_tensor(ended).bool()


def _check(max_response_length: int, buffer_len: int = 0, penalty_factor: float = 0.0) -> None:
    if max_response_length <= 0:
        raise ValueError(f"max_response_length is {max_response_length}; set at least 1 token")
    if not 0 <= buffer_len <= max_response_length:
        raise ValueError(
            f"reward.overlong_buffer_len is {buffer_len}; choose 0 (off) to "
            f"max_response_length={max_response_length} tokens"
        )
    if not (math.isfinite(penalty_factor) and penalty_factor >= 0):
        raise ValueError(
            f"reward.overlong_penalty_factor is {penalty_factor}; it is subtracted, so set 0 or more, e.g. 1.0"
        )
