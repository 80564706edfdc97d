"""Scores of few samples, and how certain they are: estimators, 95% intervals over questions, differences. Pure.

A benchmark's questions stand for others like them, so that every interval is over questions: what another draw of as
many questions, sampled anew, would give.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit  # type: ignore[import-untyped]

LEVEL = 0.95  # of every interval
POWER = 0.8  # with which an effort would tell two apart
_TAIL = (1 - LEVEL) / 2
_RESAMPLES = 4000  # the share beyond a bound is then known to 0.25 points
_BLOCK = 250  # resamples drawn at a time
_NOTHING = 1e-9  # a sum of thirds that cancel is not quite 0

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A 95% interval: lower and upper bound, in the unit of what it is about."""

    low: float
    high: float


class Difference(NamedTuple):
    """The mean of ``a - b`` over the same questions, and its 95% interval."""

    difference: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > _NOTHING or self.high < -_NOTHING


class Effort(NamedTuple):
    """What would show a difference as large as the one measured in four of five tries; None: no such number does.

    Attributes:
        questions: so many in all, each answered as often as now.
        samples: so many a question, of the questions there are.
    """

    questions: int | None
    samples: int | None


def pass_at_k(num_correct: ArrayLike, n: int, k: int) -> Any:
    """Chance that one of k responses is right, without bias from n of them: 1 − C(n − c, k)/C(n, k).

    Args:
        num_correct: c, an integer or an array of them, each in 0 … n.
        n: responses a question, at least 1.
        k: in 1 … n.

    Returns:
        A float for one question, an array of the shape of ``num_correct`` for several; in [0, 1].

    Raises:
        ValueError: k or a count is out of its range.
    """
    if n < 1 or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} responses: k must be 1 to n")
    counts = np.asarray(num_correct)
    if counts.size and not (np.all(counts == np.floor(counts)) and counts.min() >= 0 and counts.max() <= n):
        raise ValueError(f"num_correct must be whole numbers from 0 to n={n}")
    wrong = n - np.arange(n + 1)
    drawn = np.arange(k)
    # C(w, k)/C(n, k) as a product of k shares: none of its parts is large
    missed = np.prod(np.maximum(wrong[:, None] - drawn, 0) / (n - drawn), axis=1)
    chance = (1 - missed)[counts.astype(int)]
    return float(chance) if counts.ndim == 0 else chance


def steps_of_k(n: int) -> list[int]:
    """The k of which pass@k is told: 1, 2, 4 … and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def interval(values: ArrayLike) -> Interval:
    """95% interval of the mean of one value a question.

    Shares, values in [0, 1], get Wilson's interval with Student's t and the number of independent answers that the
    spread of the values amounts to: near 0 and 1 a bootstrap is far too sure of itself, and where all values are alike
    it has nothing to say. Other values get a bootstrap over questions.

    Args:
        values: (questions,), at least one.

    Raises:
        ValueError: there is none, or one is not finite.
    """
    array = _checked(values)
    if array.min() >= 0 and array.max() <= 1:
        return _of_share(array)
    return ratio_interval(array, np.ones(len(array)))


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike) -> Interval:
    """95% interval of Σ numerators / Σ denominators by a bootstrap over questions, such as tokens by responses.

    The percentiles are set for small samples: by Student's t, and for the resamples' smaller spread (Hesterberg, "What
    teachers should know about the bootstrap", 2015). One question alone says nothing: both bounds are the ratio itself.

    Args:
        numerators, denominators: (questions,); denominators are not negative, and one is positive.

    Raises:
        ValueError: there is no question, or a value is not finite.
    """
    above, below = _checked(numerators), _checked(denominators)
    if len(above) == 1:
        return Interval(*[float(above[0] / below[0])] * 2)
    totals = np.concatenate([counts @ np.stack([above, below], 1) for counts in _resamples(len(above))])
    drawn = totals[totals[:, 1] > 0]
    ratios = drawn[:, 0] / drawn[:, 1]
    tail = float(ndtr(math.sqrt(len(above) / (len(above) - 1)) * stdtrit(len(above) - 1, _TAIL)))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(float(low), float(high))


def paired_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """How much better a is than b on the same questions: the mean of a − b with its interval over questions.

    Args:
        a, b: (questions,), such as shares of right responses, in the same order of the same questions.

    Raises:
        ValueError: they are not of one length, or empty.
    """
    first, second = _checked(a), _checked(b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} questions, b has {len(second)}: compare the same ones")
    gaps = first - second
    if len(gaps) == 1:  # says nothing about another question
        return Difference(float(gaps[0]), -math.inf, math.inf)
    return Difference(float(gaps.mean()), *ratio_interval(gaps, np.ones(len(gaps))))


def effort(gaps: ArrayLike, noise: float | None, n: int) -> Effort:
    """How many questions, or how many samples, would tell two apart that differ as these do.

    Args:
        gaps: (questions,) differences of the shares of right responses.
        noise: mean variance of a gap that would be there with one response a question, from sampling alone; None where
            n = 1 does not tell it.
        n: responses a question.
    """
    array = _checked(gaps)
    mean, spread = float(array.mean()), float(array.var(ddof=1)) if len(array) > 1 else 0.0
    if mean == 0 or spread == 0:
        return Effort(None, None)
    # the interval must leave out 0, and do so with chance POWER
    wanted = mean**2 / float(ndtri(1 - _TAIL) + ndtri(POWER)) ** 2  # variance that the mean may have
    questions = math.ceil(spread / wanted)
    if noise is None:
        return Effort(questions, None)
    between = max(0.0, spread - noise / n)  # what no number of samples removes
    left = wanted * len(array) - between
    return Effort(questions, math.ceil(noise / left) if left > 0 else None)


def sampling_noise(correct_a: ArrayLike, correct_b: ArrayLike, n_a: int, n_b: int) -> float | None:
    """Mean variance of a gap of single responses, p(1 − p) of both, without bias; None where one n is 1."""
    if n_a < 2 or n_b < 2:
        return None
    shares = ((np.asarray(correct_a) / n_a, n_a), (np.asarray(correct_b) / n_b, n_b))
    return float(sum(np.mean(share * (1 - share)) * n / (n - 1) for share, n in shares))


def _of_share(shares: Floats) -> Interval:
    size, mean = len(shares), float(shares.mean())
    if size == 1:
        return Interval(0.0, 1.0)
    variance = float(shares.var(ddof=1)) / size
    alike = variance < _NOTHING**2
    if alike and 0 < mean < 1:
        return Interval(mean, mean)
    independent = size if alike else mean * (1 - mean) / variance
    t = float(stdtrit(size - 1, 1 - _TAIL))
    middle = mean + t**2 / (2 * independent)
    reach = t * math.sqrt(mean * (1 - mean) / independent + t**2 / (4 * independent**2))
    whole = 1 + t**2 / independent
    return Interval(max(0.0, (middle - reach) / whole), min(1.0, (middle + reach) / whole))


@lru_cache(maxsize=2)
def _resamples(size: int) -> list[NDArray[np.uint8]]:
    """Blocks of (resamples, size): how often each question is drawn. Always the same, so that figures do not change."""
    random = np.random.Generator(np.random.PCG64(size))
    blocks = []
    for _ in range(_RESAMPLES // _BLOCK):
        drawn = random.integers(size, size=(_BLOCK, size)) + size * np.arange(_BLOCK)[:, None]
        blocks.append(np.bincount(drawn.ravel(), minlength=_BLOCK * size).reshape(_BLOCK, size).astype(np.uint8))
    return blocks


def _checked(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError("one finite value a question is needed, of at least one question")
    return array
