"""What an experiment's record calls good and bad: levels and trends of metrics, and when they count.

A criterion is about one metric and has conditions for good and for bad; any bad one is enough, every good one is
needed.  As YAML::

    - metric: actor/entropy
      good: [{between: [3.0, 6.0], at: 100}]
      bad: [{above: 7, sustained: 20}, {below: 1, sustained: 3}]
"""

from dataclasses import dataclass
from typing import Any

from recipes.archer.settings.strict_fields import Fields

DIRECTIONS = ("upward", "downward", "flat")
_LEVELS = ("above", "below", "between")
_TIMES = ("from", "at", "window", "sustained", "rows")
_CONDITION = (*_LEVELS, "trend", "change", "unless", *_TIMES)


@dataclass(frozen=True)
class Range:
    """Values of a metric: ``low`` and ``high`` bound it, None is unbounded; closed ranges contain their bounds."""

    low: float | None = None
    high: float | None = None
    closed: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low is None or value > self.low or (self.closed and value == self.low)
        below = self.high is None or value < self.high or (self.closed and value == self.high)
        return above and below

    def __str__(self) -> str:
        if self.closed:
            return f"{self.low}–{self.high}"
        return f"above {self.low}" if self.high is None else f"below {self.high}"


@dataclass(frozen=True)
class Condition:
    """One level or one trend, and when it counts.

    Attributes:
        level: values in which it holds; None for a trend.
        trend: directions with which it holds; empty for a level.
        change: trends only: movement over the window, in the metric's unit, that counts as one.
        unless: values in which the condition no longer matters, e.g. a score that has nowhere left to rise.
        from_step: earlier steps are too early.
        at: judged once, at the first row from this step on; None: at every row.
        window: steps over which the median, or the trend, is taken.
        sustained: steps for which it must have held.
        rows: rows for which it must have held; more than 1 so that a lone row of a sparse table does not decide.
    """

    level: Range | None = None
    trend: tuple[str, ...] = ()
    change: float | None = None
    unless: Range | None = None
    from_step: int = 1
    at: int | None = None
    window: int = 1
    sustained: int = 1
    rows: int = 1

    def __str__(self) -> str:
        text = f"{' or '.join(self.trend)} over {self.window} steps" if self.trend else str(self.level)
        if self.at is not None:
            text += f" at step {self.at}"
        elif self.from_step > 1:
            text += f" from step {self.from_step}"
        if self.level is not None and self.window > 1:
            text += f" (median of {self.window} steps)"
        if self.sustained > 1:
            text += f" for {self.sustained} steps" + (f" and {self.rows} rows" if self.rows > 1 else "")
        return text + (f", unless {self.unless}" if self.unless else "")


@dataclass(frozen=True)
class Criterion:
    """Conditions on one metric.

    Attributes:
        metric: its key in metrics.jsonl.
        good: all of them are wanted.
        bad: one of them is enough.
        note: what it is about, in words; may be empty.
    """

    metric: str
    good: tuple[Condition, ...]
    bad: tuple[Condition, ...]
    note: str = ""

    def __str__(self) -> str:
        sides = (("good", " and ", self.good), ("bad", " or ", self.bad))
        parts = [f"{name} {joint.join(map(str, side))}" for name, joint, side in sides if side]
        return f"{self.metric}: {'; '.join(parts)}"


def parse_criterion(data: Any, where: str) -> Criterion:
    """A criterion from a record.

    Raises:
        RecordError: naming ``where`` and the field.
    """
    fields = Fields(data, where, ("metric", "good", "bad", "note"))
    sides = {
        side: tuple(
            _parse_condition(item, f"{where}.{side}[{i}]") for i, item in enumerate(fields.get(side, list, default=[]))
        )
        for side in ("good", "bad")
    }
    if not any(sides.values()):
        raise fields.fail("has neither good nor bad conditions; give at least one")
    return Criterion(fields.get("metric", str), sides["good"], sides["bad"], fields.get("note", str, default=""))


def _parse_condition(data: Any, where: str) -> Condition:
    fields = Fields(data, where, _CONDITION)
    trend = _parse_trend(fields)
    level = _parse_range(fields)
    if (level is None) == (not trend):
        raise fields.fail("needs exactly one of above, below, between and trend")
    if bool(trend) != ("change" in fields.data):
        raise fields.fail("needs change together with trend: how much movement over the window counts")
    if trend and "window" not in fields.data:
        raise fields.fail("needs window: the number of steps over which the trend is taken")
    if "at" in fields.data and {"from", "sustained", "rows"} & fields.data.keys():
        raise fields.fail("has at, which judges once; leave out from, sustained and rows")
    unless = fields.get("unless", dict, default=None)
    return Condition(
        level=level,
        trend=trend,
        change=fields.get("change", float, default=None),
        unless=_parse_range(Fields(unless, f"{where}.unless", _LEVELS)) if unless else None,
        from_step=fields.get("from", int, default=1, least=1),
        at=fields.get("at", int, default=None, least=1),
        **{name: fields.get(name, int, default=1, least=1) for name in ("window", "sustained", "rows")},
    )


def _parse_trend(fields: Fields) -> tuple[str, ...]:
    value = fields.data.get("trend")
    directions = () if value is None else tuple(value) if isinstance(value, list) else (value,)
    for direction in directions:
        if direction not in DIRECTIONS:
            raise fields.fail(f"has trend {direction!r:.80}; use {', '.join(DIRECTIONS)}")
    return directions


def _parse_range(fields: Fields) -> Range | None:
    given = [name for name in _LEVELS if name in fields.data]
    if not given:
        return None
    if len(given) > 1:
        raise fields.fail(f"has {' and '.join(given)}; give one of them, and further conditions as further items")
    if given == ["between"]:
        bounds = fields.get("between", list)
        if len(bounds) != 2 or not all(isinstance(b, int | float) for b in bounds) or not bounds[0] < bounds[1]:
            raise fields.fail(f"has between {bounds}; give [lower, upper]")
        return Range(bounds[0], bounds[1], closed=True)
    bound = fields.get(given[0], float)
    return Range(low=bound) if given == ["above"] else Range(high=bound)
