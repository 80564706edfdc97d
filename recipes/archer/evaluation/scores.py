"""Scores of few samples, and how certain they are: estimators, 95% intervals over questions, differences. Pure.

A benchmark's questions stand for others like them, so that every interval is over questions: what another draw of as
many questions, sampled anew, would give.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtr, ndtri, stdtrit  # type: ignore[import-untyped]

LEVEL = 0.95  # of every interval
POWER = 0.8  # with which an effort would tell two apart
_TAIL = (1 - LEVEL) / 2
_RESAMPLES = 4000  # the share beyond a bound is then known to 0.25 points
_BLOCK = 250  # resamples drawn at a time
FEW = 16  # questions; resamples of fewer are too much alike for a bootstrap
METHOD = f"over questions: shares by Wilson and Student; others by Student, from {FEW} questions on by bootstrap"
_HUGE = 100.0  # a logarithm beyond all lengths
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
    wrong = np.maximum(n - counts, k - 1)  # of k − 1 wrong ones no k can be drawn
    missed = np.exp((gammaln(wrong + 1) - gammaln(wrong - k + 1)) - (gammaln(n + 1) - gammaln(n - k + 1)))
    chance = np.where(n - counts < k, 1.0, 1 - missed)
    return float(chance) if counts.ndim == 0 else chance


def steps_of_k(n: int) -> list[int]:
    """The k of which pass@k is told: 1, 2, 4 … and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def interval(shares: ArrayLike) -> Interval:
    """95% interval of the mean of one share a question.

    It is Wilson's with Student's t and the number of independent answers that the spread of the shares amounts to: near
    0 and 1 a bootstrap is far too sure of itself. Where all are alike there is no spread to go by: see ``_of_alike``.

    Args:
        shares: (questions,), each in [0, 1], at least one.

    Raises:
        ValueError: there is none, or one is out of its range.
    """
    array = _checked(shares)
    if array.min() < 0 or array.max() > 1:
        raise ValueError("a share is a number from 0 to 1")
    size, mean = len(array), float(array.mean())
    if _alike(array):
        return _of_alike(mean, size, 0.0, 1.0)
    independent = mean * (1 - mean) / (float(array.var(ddof=1)) / size)
    t = _t(size)
    middle = mean + t**2 / (2 * independent)
    reach = t * math.sqrt(mean * (1 - mean) / independent + t**2 / (4 * independent**2))
    whole = 1 + t**2 / independent
    return Interval(max(0.0, (middle - reach) / whole), min(1.0, (middle + reach) / whole))


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, most: float) -> Interval:
    """95% interval of Σ numerators / Σ denominators over questions, such as tokens by responses.

    Questions without a denominator say nothing and do not count. Of ``FEW`` others and more it is a bootstrap over
    questions, of fewer Student's t over them, whose upper bound is reckoned on a scale of logarithms; where all are
    alike, see ``_of_alike``.

    Args:
        numerators, denominators: (questions,); denominators are not negative, and one is positive.
        most: that any question's ratio can be, such as the cap of a response; the least is 0.

    Raises:
        ValueError: there is no question, or a value is not finite.
    """
    above, below = _checked(numerators), _checked(denominators)
    counts = below > 0
    return _over_questions(above[counts], below[counts], 0.0, most)


def paired_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """How much better a is than b on the same questions: the mean of a − b with its interval over questions.

    Of ``FEW`` questions and more it is a bootstrap, of fewer Student's t; where all gaps are alike, see ``_of_alike``.

    Args:
        a, b: (questions,) shares of right responses, in the same order of the same questions.

    Raises:
        ValueError: they are not of one length, or empty.
    """
    first, second = _checked(a), _checked(b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} questions, b has {len(second)}: compare the same ones")
    gaps = first - second
    return Difference(float(gaps.mean()), *_over_questions(gaps, np.ones(len(gaps)), -1.0, 1.0))


def effort(gaps: ArrayLike, noise: float | None, n: int) -> Effort:
    """How many questions, or how many samples, would tell two apart that differ as these do.

    Args:
        gaps: (questions,) differences of the shares of right responses.
        noise: mean variance of a gap that would be there with one response a question, from sampling alone; None where
            n = 1 does not tell it.
        n: responses a question.
    """
    array = _checked(gaps)
    mean = float(array.mean())
    if mean == 0 or _alike(array):
        return Effort(None, None)
    spread = float(array.var(ddof=1))
    questions = max(2, math.ceil(spread / _variance_allowed(mean, FEW)))
    while spread / questions > _variance_allowed(mean, questions):
        questions += 1
    if noise is None:
        return Effort(questions, None)
    between = max(0.0, spread - noise / n)  # what no number of samples removes
    left = _variance_allowed(mean, len(array)) * len(array) - between
    return Effort(questions, math.ceil(noise / left) if left > 0 else None)


def _variance_allowed(mean: float, size: int) -> float:
    """That a mean difference over so many questions may have, for its interval to leave out 0 with chance ``POWER``."""
    if size < FEW:
        return mean**2 / (_t(size) + float(stdtrit(size - 1, POWER))) ** 2
    return mean**2 / float(ndtri(1 - _TAIL) + ndtri(POWER)) ** 2


def sampling_noise(correct_a: ArrayLike, correct_b: ArrayLike, n_a: int, n_b: int) -> float | None:
    """Mean variance of a gap of single responses, p(1 − p) of both, without bias; None where one n is 1."""
    if n_a < 2 or n_b < 2:
        return None
    shares = ((np.asarray(correct_a) / n_a, n_a), (np.asarray(correct_b) / n_b, n_b))
    return float(sum(np.mean(share * (1 - share)) * n / (n - 1) for share, n in shares))


def _over_questions(above: Floats, below: Floats, least: float, most: float) -> Interval:
    """95% interval of Σ above / Σ below, no ratio of a question being less than ``least`` or more than ``most``."""
    size, ratio = len(above), float(above.sum() / below.sum())
    if _alike(above / below):
        return _of_alike(ratio, size, least, most)
    if size >= FEW:
        found = _by_bootstrap(above, below)
    else:
        reach = _reach(above, below)
        # amounts have a long tail above: there the interval is that of their logarithm
        found = Interval(ratio - reach, ratio + reach if least < 0 else ratio * math.exp(min(reach / ratio, _HUGE)))
    return Interval(max(least, found.low), min(most, found.high))


def _reach(above: Floats, below: Floats) -> float:
    """Of Student's t over questions, the spread being that of the ratios that leave one question out (jackknife)."""
    without = (above.sum() - above) / (below.sum() - below)
    return _t(len(above)) * math.sqrt((len(above) - 1) * float(without.var()))


def _by_bootstrap(above: Floats, below: Floats) -> Interval:
    """Percentiles of resampled questions, set for small samples: by Student's t, and for the resamples' smaller spread
    (Hesterberg, "What teachers should know about the bootstrap", 2015)."""
    size = len(above)
    totals = np.concatenate([counts @ np.stack([above, below], 1) for counts in _resamples(size)])
    tail = float(ndtr(-math.sqrt(size / (size - 1)) * _t(size)))
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [tail, 1 - tail])
    return Interval(float(low), float(high))


def _alike(values: Floats) -> bool:
    return float(np.ptp(values)) < _NOTHING * max(1.0, float(np.abs(values).max()))


def _of_alike(value: float, size: int, least: float, most: float) -> Interval:
    """What so many questions of one and the same value leave open: others that are unlike them, and may be anything.

    How many these can be among all is Wilson's upper bound, with Student's t, of a share of which none was seen. One
    question alone says nothing about others.
    """
    unlike = 1.0 if size == 1 else _t(size) ** 2 / (size + _t(size) ** 2)
    return Interval(value - unlike * (value - least), value + unlike * (most - value))


def _t(size: int) -> float:
    """Student's t of as many questions, two at least."""
    return float(stdtrit(size - 1, 1 - _TAIL))


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
