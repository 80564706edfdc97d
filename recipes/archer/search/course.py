"""How far a trial's run is, from its run folder: what it has measured, its peak, and how it ended."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.runs.folder import Run, is_run, last_change, read_run
from recipes.archer.runs.times import seconds_at_work

NEAR = 100  # the step of the seeds' summary at which entropy is told
OVER = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Measured:
    """A value of the metric, with its interval where it has one."""

    step: int
    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        text = f"{self.value:.4g}"
        return text if self.low is None or self.high is None else f"{text} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Course:
    """A run so far; an empty one where it has no folder yet.

    Attributes:
        run: the folder's content; None where there is none.
        problem: why it cannot be read; None where it can.
    """

    run: Run | None = None
    problem: str | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.run.rows if self.run is not None else []

    @property
    def step(self) -> int:
        """The last step that is done."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def exit_code(self) -> int | None:
        """That run.json has; None while it goes on, or was killed."""
        code = self.run.facts.get("exit_code") if self.run is not None else None
        return code if isinstance(code, int) else None

    @property
    def reason(self) -> str:
        """Why it ended, in the run's own words."""
        return str(self.run.facts.get("reason") or "") if self.run is not None else ""

    @property
    def hours(self) -> float:
        """At work: its attempts to their ends, or to what they wrote last, without the time between them."""
        if self.run is None:
            return 0.0
        return (seconds_at_work(self.run.facts, last_change(self.run.folder)) or 0.0) / 3600

    def until(self, step: int | None) -> "Course":
        """The run as it was at a step; a trial that was pruned may have gone on a little."""
        if self.run is None or step is None:
            return self
        return replace(self, run=replace(self.run, rows=[row for row in self.rows if row["step"] <= step]))

    def measured(self, metric: str) -> Iterator[Measured]:
        """Every value of a metric, in the order of the steps."""
        for row in self.rows:
            value = finite(row.get(metric))
            if value is not None:
                yield Measured(row["step"], value, finite(row.get(f"{metric}/low")), finite(row.get(f"{metric}/high")))

    def peak(self, metric: str, sign: int) -> Measured | None:
        """The best value, the earliest of equals; None where there is none."""
        return max(self.measured(metric), key=lambda one: sign * one.value, default=None)

    def figure(self, key: str, step: int | None = None) -> float | None:
        """A metric's last value, or the one nearest to a step."""
        values = [(row["step"], value) for row in self.rows if (value := finite(row.get(key))) is not None]
        if not values:
            return None
        return values[-1][1] if step is None else min(values, key=lambda pair: abs(pair[0] - step))[1]


def course_of(folder: Path) -> Course:
    """The run in a folder, which may be anyone's: what cannot be read is said, never raised."""
    if folder.is_symlink():
        return Course(problem=f"{folder} is a link, and is not followed")
    if not is_run(folder):
        return Course()
    try:
        return Course(read_run(folder))
    except UserError as problem:
        return Course(problem=str(problem))


def finite(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None
