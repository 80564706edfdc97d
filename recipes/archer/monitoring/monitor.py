"""Judges a run row by row: an experiment's criteria and the detectors that every run has, as verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.experiments.criteria import Condition
from recipes.archer.experiments.records import Record
from recipes.archer.monitoring import outcome, policy
from recipes.archer.monitoring.criterion_state import CriterionState
from recipes.archer.monitoring.detector import Detector, NotFinite, Progress, number
from recipes.archer.monitoring.verdicts import BAD, EXIT_CODES, WATCH, Verdict, overall, worst_first

DETECTORS: tuple[type[Detector], ...] = (
    policy.EntropyCollapse,
    policy.EntropyExplosion,
    policy.EntropyOscillation,
    outcome.GuessingShortcut,
    outcome.Repetition,
    outcome.NeverEnding,
    outcome.ValidGroupsDying,
    outcome.NoSignal,
    outcome.ScoreLost,
    policy.KlRunaway,
    policy.GradientNorm,
    policy.ControlSaturated,
    outcome.StepTime,
)
MOST_ROWS, ENDS = 100_000, 1000  # rows that are judged of a run, about; those at either end that always are


class Monitor:
    """A run's verdicts so far.

    Args:
        record: the experiment's record; None: detectors only.
        config: the run's configuration; ``guard.detectors.<name>.<field>`` there replaces a detector's threshold.

    Raises:
        UserError: such a detector or field does not exist, or its value is no number.
    """

    def __init__(self, record: Record | None = None, config: Mapping[str, Any] | None = None):
        self.record = record
        self.progress = Progress()
        self.criteria = {str(c): CriterionState(c) for c in (record.criteria if record else ())}
        self.detectors: dict[str, Detector | NotFinite] = {NotFinite.name: NotFinite(), **_make_detectors(config)}
        self.step: int | None = None
        self.passed_over = 0  # rows of a very long run that were not judged
        if any(c.trend for criterion in self.criteria.values() for c in _conditions(criterion)):
            # a trend cannot be judged without it: found out now, not at step 100
            import scipy.stats  # type: ignore[import-untyped]  # noqa: F401

    def observe(self, row: Mapping[str, Any]) -> None:
        """Takes in one row of metrics.jsonl.

        Raises:
            ValueError: the row has no step, or one that is not after the last.
        """
        step = row.get("step")
        if not isinstance(step, int) or (self.step is not None and step <= self.step):
            raise ValueError(f"row of step {step!r} after step {self.step}: rows come in the order of their steps")
        self.step = step
        self.progress.update(row)
        for state in self.criteria.values():
            state.observe(step, number(row, state.criterion.metric))
        progress = self.progress
        for detector in self.detectors.values():
            if detector.needed is None or detector.needed in row:
                detector.observe(row, progress)

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts on the rows so far, criteria first; none before the first row."""
        if self.step is None:
            return []
        states = (*self.criteria.values(), *self.detectors.values())
        return [self._with_contingency(state.verdict) for state in states]

    @property
    def sound(self) -> bool:
        """Whether nothing is bad or watched, or has begun that could become so: what is bad later begins later."""
        brewing = any(detector.brewing for detector in self.detectors.values() if isinstance(detector, Detector))
        return not brewing and all(verdict.status not in (BAD, WATCH) for verdict in self.verdicts)

    def overall(self) -> str:
        """One word for the run: ``healthy``, ``watch``, ``bad``, or ``too early`` to say anything."""
        return overall(self.verdicts)

    def summary(self) -> dict[str, Any]:
        """The verdict as JSON: experiment, step, overall word, its exit code, and every verdict, the worst first."""
        return {
            "experiment": self.record.name if self.record else None,
            "step": self.step,
            "overall": self.overall(),
            "exit_code": EXIT_CODES[self.overall()],
            "verdicts": [verdict.to_dict() for verdict in worst_first(self.verdicts)],
        }

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON; it does not grow with the run."""
        return {
            "step": self.step,
            "progress": self.progress.state_dict(),
            "criteria": {key: state.state_dict() for key, state in self.criteria.items()},
            "detectors": {key: detector.state_dict() for key, detector in self.detectors.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state; what is new since then starts afresh, what is gone is dropped."""
        self.step = state["step"]
        self.progress.load_state_dict(state["progress"])
        for mine, saved in ((self.criteria, state["criteria"]), (self.detectors, state["detectors"])):
            for key in mine.keys() & saved.keys():
                mine[key].load_state_dict(saved[key])

    def _with_contingency(self, verdict: Verdict) -> Verdict:
        if self.record is None or verdict.status not in (BAD, WATCH):
            return verdict
        return replace(verdict, contingency=self.record.contingency_for(verdict.metric, verdict.goes))


def judge(
    rows: Sequence[Mapping[str, Any]], record: Record | None = None, config: Mapping[str, Any] | None = None
) -> Monitor:
    """A monitor that has seen the rows, of very many those of :func:`rows_to_judge`."""
    monitor = Monitor(record, config)
    judged = rows_to_judge(rows)
    for row in judged:
        monitor.observe(row)
    monitor.passed_over = len(rows) - len(judged)
    return monitor


def rows_to_judge(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """All rows; of more than a run ever has, a table with gaps: both ends whole, and every row with a NaN.

    A row takes ten microseconds, and what is worth knowing of a million rows does not take a hundred thousand of them.
    """
    every = -(-len(rows) // MOST_ROWS)
    if every <= 1:
        return rows
    last = len(rows) - ENDS
    kept = (i < ENDS or i >= last or i % every == 0 or _not_finite(row) for i, row in enumerate(rows))
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def _not_finite(row: Mapping[str, Any]) -> bool:
    return any(type(value) is float and not math.isfinite(value) for value in row.values())


def _conditions(state: CriterionState) -> tuple[Condition, ...]:
    return (*state.criterion.good, *state.criterion.bad)


def _make_detectors(config: Mapping[str, Any] | None) -> dict[str, Detector]:
    settings = _mapping(_mapping(config or {}, "guard"), "detectors", "guard.")
    known = {cls.name: cls for cls in DETECTORS}
    for name in settings:
        if name not in known:
            raise UserError(f"guard.detectors.{name} is no detector; use {', '.join(known)}")
    return {name: cls(**_thresholds(cls, _mapping(settings, name, "guard.detectors."))) for name, cls in known.items()}


def _mapping(settings: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    value = settings.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"{path}{name} must be a mapping, not {value!r:.80}")
    return value or {}


def _thresholds(cls: type[Detector], given: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(cls)}
    for name, value in given.items():
        if name not in defaults:
            raise UserError(f"guard.detectors.{cls.name}.{name} is no threshold; use {', '.join(defaults)}")
        whole = isinstance(defaults[name], int)  # steps, rows and turns are counted
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise UserError(f"guard.detectors.{cls.name}.{name} must be {kind}, not {value!r:.80}")
        if not whole <= value < math.inf:
            least = "at least 1" if whole else "0 or more, and finite"
            raise UserError(f"guard.detectors.{cls.name}.{name} must be {least}, not {value!r:.80}")
    return dict(given)
