"""Which way a noisy series goes, by tests that outliers do not decide."""

from dataclasses import dataclass
from functools import lru_cache

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


@lru_cache(maxsize=64)  # a criterion's good and bad condition ask for the same window
def trend_of(steps: tuple[int, ...], values: tuple[float, ...], change: float) -> Trend | None:
    """The trend of values over steps; None for fewer than four rows.

    Upward: the Theil–Sen line (Sen 1968) rises by at least ``change``, and the 90% confidence interval of its slope
    lies above 0, which is the Mann–Kendall test at 5%, one-sided, read from the other end.  Downward: likewise.
    Flat: the whole interval is within ``change``.

    Args:
        steps: ascending.
        values: finite, as many.
        change: positive, in the metric's unit, over the whole span.
    """
    from scipy.stats import theilslopes

    if len(values) < MIN_ROWS:
        return None
    span = steps[-1] - steps[0]
    slope, _, low, high = theilslopes(values, steps, alpha=1 - 2 * LEVEL)
    movement, low, high = float(slope) * span, float(low) * span, float(high) * span
    if movement >= change and low > 0:
        return Trend("upward", movement, low, high)
    if movement <= -change and high < 0:
        return Trend("downward", movement, low, high)
    flat = len(values) >= MIN_ROWS_FLAT and -change < low and high < change
    return Trend("flat" if flat else "unclear", movement, low, high)
