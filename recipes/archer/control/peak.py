"""A run that has passed its peak: the best validation is old, and what came after it is worse by more than noise."""

import math
from collections.abc import Mapping
from typing import Any

from recipes.archer.ending import FINISHED, Ending

_BOUNDS = {1: "/low", -1: "/high"}  # beside a metric that comes with an interval


class Peak:
    """Remembers the best value of a metric, its interval where it has one, and how many were measured since.

    Args:
        settings: ``trainer.stop_after_best``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.patience, self.metric = settings["patience"], settings["metric"]
        self.sign = 1 if settings["mode"] == "max" else -1
        self.best: dict[str, Any] | None = None  # step, value, and the bound that a decline must pass
        self.since, self.last = 0, None

    def check(self, row: Mapping[str, Any]) -> None:
        """Takes the row of a step, once; one without the metric says nothing."""
        value = _number(row.get(self.metric))
        if value is None:
            return
        self.last = value
        if self.best is None or self.sign * value > self.sign * self.best["value"]:
            bound = _number(row.get(self.metric + _BOUNDS[self.sign]))
            self.best = {"step": row["step"], "value": value, "bound": value if bound is None else bound}
            self.since = 0
        else:
            self.since += 1

    def ending(self) -> Ending | None:
        """The run's end, where the best is old enough and the last value beyond its interval."""
        if self.patience is None or self.best is None or self.since < self.patience:
            return None
        if self.sign * self.last >= self.sign * self.best["bound"]:
            return None
        reason = (
            f"{self.metric} was best at step {self.best['step']}, {self.best['value']:.4g}, and {self.since} "
            f"validations later it is {self.last:.4g}, outside that one's interval (trainer.stop_after_best)"
        )
        return Ending("stopped", reason, FINISHED)

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self.metric, "sign": self.sign, "best": self.best, "since": self.since, "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state`` was taken; afresh where that was of another metric.

        Raises:
            ValueError, LookupError, TypeError: it holds something else than such a state.
        """
        if (state.get("metric", self.metric), state.get("sign", self.sign)) != (self.metric, self.sign):
            return
        best, since, last = state["best"], state["since"], state["last"]
        numbers = [last] if best is None else [last, *(best[name] for name in ("step", "value", "bound"))]
        if type(since) is not int or since < 0 or any(_number(n) is None for n in numbers if n is not None):
            raise ValueError("peak is no best value and a count")
        if best is not None and None in numbers:
            raise ValueError("peak has a best value without its number")
        self.best, self.since, self.last = best, since, last


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None
