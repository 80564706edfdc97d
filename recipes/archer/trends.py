"""Which way a noisy series goes, by tests that outliers do not decide."""

from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05  # one-sided: four values in order are just enough
MIN_ROWS = 4
MIN_ROWS_FLAT = 10  # that nothing moves takes more evidence than that something does


@dataclass(frozen=True)
class Trend:
    """A direction and what it rests on.

    Attributes:
        direction: ``upward``, ``downward``, ``flat``, or ``unclear``: the data exclude neither.
        movement: Theil–Sen slope times the span, in the metric's unit.
        low, high: its 90% confidence interval.
    """

    direction: str
    movement: float
    low: float
    high: float


def trend_of(steps: Sequence[int], values: Sequence[float], change: float) -> Trend | None:
    """The trend of values over steps; None for fewer than four rows.

    Upward and downward: Kendall's tau is significant (the Mann–Kendall test) and the Theil–Sen line (Sen 1968) moves
    by at least ``change``.  Flat: the whole confidence interval of that line is within ``change``.

    Args:
        steps: ascending.
        values: finite, as many.
        change: positive, in the metric's unit, over the whole span.
    """
    from scipy.stats import kendalltau, theilslopes

    if len(values) < MIN_ROWS:
        return None
    span = steps[-1] - steps[0]
    slope, _, low, high = theilslopes(values, steps, alpha=1 - 2 * LEVEL)
    movement, low, high = float(slope) * span, float(low) * span, float(high) * span
    if abs(movement) >= change:
        side = "greater" if movement > 0 else "less"
        if kendalltau(steps, values, alternative=side).pvalue < LEVEL:
            return Trend("upward" if movement > 0 else "downward", movement, low, high)
    flat = len(values) >= MIN_ROWS_FLAT and -change < low and high < change
    return Trend("flat" if flat else "unclear", movement, low, high)
