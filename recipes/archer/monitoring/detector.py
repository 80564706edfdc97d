"""What every run is watched for, whatever its experiment says: small stateful detectors, thresholds as fields.

Each compares a run with its own start, so that one set of thresholds serves a model of a million parameters and one of
a billion.  A detector whose alarm is excused by learning (`Progress.learned`) follows the finding that low entropy as
such is no failure: runs at 0.1 nats solve most of their problems.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from recipes.archer.monitoring.stream import Baseline, Hold, Stateful, Window
from recipes.archer.monitoring.verdicts import BAD, GOOD, NO_DATA, WATCH, Verdict
from recipes.archer.runs.names import STEP_KEYS

FINE, SUSPICIOUS, ALARM = 0, 1, 2
MEMORY = 50  # steps for which an alarm that is over still asks to be watched


def number(row: Mapping[str, Any], metric: str) -> float | None:
    """A row's value where it is a finite number, else None."""
    value = row.get(metric)
    if value is None:
        return None
    if type(value) is float:  # nearly all of them, and this is asked a dozen times a row
        return value if isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


class Progress(Stateful):
    """How well the run does by its score: accuracy where it is logged, else the shaped score.

    Attributes:
        current: median of the last 10 steps; None without a score.
        best: greatest ``current`` so far.
        gain: ``current`` minus the run's own start.
    """

    STATE = ("metric", "best", "current", "_window", "_start")
    METRICS = ("reward/accuracy/mean", "critic/score/mean")
    GAIN, LEVEL, KEPT = 0.05, 0.3, 0.7  # what counts as learned, as knowing already, as not lost again
    LEAST = 0.1  # below, a rise may be no more than shorter responses with a smaller overlong penalty

    def __init__(self) -> None:
        self.metric: str | None = None
        self.current: float | None = None
        self.best: float | None = None
        self._window, self._start = Window(10), Baseline()

    def update(self, row: Mapping[str, Any]) -> None:
        """Takes in a row."""
        if self.metric is None:
            self.metric = next((m for m in self.METRICS if number(row, m) is not None), None)
        value = number(row, self.metric) if self.metric else None
        if value is None:
            return
        step = row["step"]
        self._start.add(step, value)
        self.current = current = self._window.add(step, value)
        if self.best is None or current > self.best:
            self.best = current

    @property
    def gain(self) -> float | None:
        start = self._start.value
        return None if self.current is None or start is None else self.current - start

    @property
    def learned(self) -> bool:
        """Whether the score has risen, or was high, and has not been lost; False without a score."""
        current, best, gain = self.current, self.best, self.gain
        if current is None or best is None or gain is None or current < max(self.LEAST, self.KEPT * best):
            return False
        return gain >= self.GAIN or current >= self.LEVEL


@dataclass(slots=True)
class Finding:
    """What a detector sees in one row: ``FINE``, ``SUSPICIOUS`` or ``ALARM``, the value, and how to say it.

    A sentence takes longer to write than a row to judge, and only the last one is read: ``text`` makes it.
    """

    level: int
    value: float
    text: Callable[[], str]


@dataclass
class Detector(ABC, Stateful):
    """Turns findings into verdicts: an alarm or a suspicion counts once it has lasted ``sustained`` steps."""

    name: ClassVar[str]
    metric: ClassVar[str]
    goes: ClassVar[str | None] = None  # up or down, where the metric may go wrong either way
    needed: ClassVar[str | None] = None  # without this metric a row says nothing; None: the row has to be looked at
    MEMORIES: ClassVar[tuple[str, ...]] = ()  # further state of a subclass
    STATE: ClassVar[tuple[str, ...]] = ("_alarm", "_suspicion", "_last", "_last_alarm")

    sustained: int = 5

    def __post_init__(self) -> None:
        self._alarm, self._suspicion = Hold(self.sustained), Hold(self.sustained)
        self._last: dict[str, Any] | None = None  # the last verdict's fields
        self._judged: tuple[int, Finding, str, int | None, str] | None = None  # those of a verdict not yet written
        self._last_alarm: int | None = None
        self.start()

    def start(self) -> None:
        """Makes a subclass's own memories."""

    @abstractmethod
    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        """What this row says; None where it lacks what the detector needs."""

    def observe(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Takes in a row; a row without a finding leaves the verdict as it was."""
        finding = self.look(row, progress)
        if finding is not None:
            self._judge(row["step"], finding)

    @property
    def verdict(self) -> Verdict:
        """On the rows so far."""
        self._write()
        fields = self._last or {"status": NO_DATA, "detail": f"needs {self.metric}"}
        return Verdict(self.name, self.metric, **fields, goes=self.goes)

    @property
    def brewing(self) -> bool:
        """Whether an alarm or a suspicion has begun, be it that it has not lasted yet."""
        return bool(self._alarm.count or self._suspicion.count)

    def _judge(self, step: int, finding: Finding) -> None:
        level = finding.level
        if level == FINE and self._last_alarm is None and not self._suspicion.count:  # nearly every row
            self._alarm.last_failure = self._suspicion.last_failure = step
            self._judged = (step, finding, GOOD, None, "")
            return
        alarmed = self._alarm.update(step, level == ALARM)
        suspected = self._suspicion.update(step, level >= SUSPICIOUS)
        status, since, before = GOOD, None, ""
        if alarmed:
            self._last_alarm = step
            status, since = BAD, self._alarm.since
        elif self._last_alarm is not None and step - self._last_alarm <= MEMORY:
            status, since, before = WATCH, self._last_alarm, f"bad until step {self._last_alarm}; now "
        elif suspected:
            status, since = WATCH, self._suspicion.since
        self._judged = (step, finding, status, since, before)

    def _write(self) -> None:
        """Puts the last judgement into words."""
        if self._judged is not None:
            step, finding, status, since, before = self._judged
            detail = before + finding.text()
            self._last = {"status": status, "detail": detail, "value": finding.value, "step": step, "since": since}
            self._judged = None

    def state_dict(self) -> dict[str, Any]:
        self._write()
        return super().state_dict() | {name: getattr(self, name).state_dict() for name in self.MEMORIES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._judged = None
        for name in self.MEMORIES:
            getattr(self, name).load_state_dict(state[name])


class NotFinite(Stateful):
    """NaN or infinity in any metric: bad at once, and for good."""

    name, metric, needed = "not_finite", "every metric", None
    STATE = ("found", "step")

    def __init__(self) -> None:
        self.found: list[Any] | None = None  # [step, metric, value as text]
        self.step: int | None = None

    def observe(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Takes in a row; one without any figure says nothing."""
        if self.step is None and not any(_is_figure(metric, value) for metric, value in row.items()):
            return
        self.step = row["step"]
        if self.found is None:
            for metric, value in row.items():
                if type(value) is float and not isfinite(value):
                    self.found = [self.step, metric, str(value)]
                    return

    @property
    def verdict(self) -> Verdict:
        """On the rows so far."""
        if self.step is None:
            return Verdict(self.name, self.metric, NO_DATA, "no value so far")
        if self.found is None:
            return Verdict(self.name, self.metric, GOOD, "every value is finite", step=self.step)
        step, metric, value = self.found
        return Verdict(self.name, metric, BAD, f"{metric} is {value} at step {step}", float(value), step, step)


def _is_figure(metric: str, value: Any) -> bool:
    return metric not in STEP_KEYS and not isinstance(value, bool) and isinstance(value, int | float)
