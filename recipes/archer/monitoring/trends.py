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
def trend_of(steps: tuple[int, ...], values: tuple[float, ...], change: float, window: int = 1) -> Trend | None:
    """The trend of values over steps; None for fewer than four rows.

    Upward: the Theil–Sen line (Sen 1968) rises by at least ``change``, and the 90% confidence interval of its slope
    lies above 0, which is the Mann–Kendall test at 5%, one-sided, read from the other end.  Downward: likewise.
    Flat: the whole interval is within ``change``, also if it goes on like this to the end of a window that the rows do
    not fill yet: what moves by half of ``change`` in half of the time is not standing still.

    Args:
        steps: ascending.
        values: finite, as many.
        change: positive, in the metric's unit, over the window.
        window: steps for which ``change`` is meant; the rows' own span where that is longer.
    """
    # stubs of all SciPy for one function of it do not pay
    from scipy.stats import theilslopes  # type: ignore[import-untyped]

    if len(values) < MIN_ROWS:
        return None
    span = steps[-1] - steps[0]
    slope, _, low, high = theilslopes(values, steps, alpha=1 - 2 * LEVEL)
    movement, low, high = float(slope) * span, float(low) * span, float(high) * span
    to_come = max(1.0, (window - 1) / span)  # steps of the whole window, in spans
    if movement >= change and low > 0:
        return Trend("upward", movement, low, high)
    if movement <= -change and high < 0:
        return Trend("downward", movement, low, high)
    flat = len(values) >= MIN_ROWS_FLAT and -change < low * to_come and high * to_come < change
    return Trend("flat" if flat else "unclear", movement, low, high)
