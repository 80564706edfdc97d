"""The random numbers of responses: one a token, a hash of the response's seed and of the token's position in it.

No number needs those before it.  So a response goes on in its own stream where the engine put it back for want of
cache and computes it again, and a batch's numbers are computed at once.  The hash is SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014): the seed, mixed, is where the response's stream starts.
Integers up to the last step, so every device gives the same numbers.
"""

from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Random numbers of tokens.

    Args:
        seeds: (tokens,) int64, of their responses.
        positions: (tokens,) int64, how many tokens each has before it in its response.

    Returns:
        (tokens,) float64 in [0, 1), multiples of 2**-53, on the device of ``seeds``.
    """
    bits = _mixed(_mixed(seeds) + (positions + 1) * _signed(_GAMMA))
    return _shifted(bits, 11).double() * 2.0**-53


def _mixed(bits: Tensor) -> Tensor:
    for shift, factor in _STEPS:
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """To the right, zeros coming in: torch has no unsigned integers to shift, and copies the sign."""
    return (bits >> shift) & ((1 << (64 - shift)) - 1)


def _signed(word: int) -> int:
    """The int64 of the same bits; sums and products then overflow into the bits of an unsigned one."""
    return word - (1 << 64) if word >> 63 else word
