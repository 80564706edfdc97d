"""Evaluates criteria on a stream of values, one row at a time; the cost of a row is bounded by the windows."""

from typing import Any

from recipes.archer.experiments.criteria import Condition, Criterion
from recipes.archer.monitoring.stream import Hold, Stateful, Window
from recipes.archer.monitoring.trends import trend_of
from recipes.archer.monitoring.verdicts import BAD, GOOD, NO_DATA, TOO_EARLY, WATCH, Verdict, figure

UNKNOWN, HOLDS, PENDING, FAILS, EXEMPT = "unknown", "holds", "pending", "fails", "exempt"
EVALUATIONS = 10  # of a trend, while its window passes once: the tests cost a millisecond
MOST_EVALUATIONS = 1000  # of a trend up to a step, about
MEMORY = 50  # steps for which a bad spell that is over still asks to be watched


class ConditionState(Stateful):
    """One condition.

    Attributes:
        outcome: ``unknown`` (too early, or a trend that the data leave open), ``holds``, ``pending`` (holds, not yet
            for long enough), ``fails``, or ``exempt`` (by ``unless``).
        since: first step at which it was, without a break, as it is now.
    """

    STATE = ("window", "hold", "holds", "outcome", "since", "value", "step", "tested", "direction", "movement")

    def __init__(self, condition: Condition):
        self.condition = condition
        self.window = Window(condition.window)
        self.hold = Hold(condition.sustained, condition.rows)
        self.outcome = UNKNOWN
        self.holds: bool | None = None
        self.since: int | None = None
        self.value: float | None = None  # median of the window
        self.step: int | None = None
        self.tested: int | None = None  # step of the last test of a trend
        self.direction: str | None = None
        self.movement: float | None = None

    def update(self, step: int, value: float) -> str:
        """Takes in a finite value; returns the outcome."""
        condition = self.condition
        if condition.at is not None and self.outcome != UNKNOWN:
            return self.outcome
        median = value
        if condition.window > 1 or condition.trend:
            median = self.window.add(step, value)
        self.value, self.step = median, step
        if step < max(condition.from_step, condition.at or 1):
            return self.outcome
        if condition.unless is not None and median in condition.unless:
            self.hold.update(step, False)
            self.outcome, self.holds = EXEMPT, None
            self.direction = self.tested = None
            return self.outcome
        holds = self._trend_holds(step) if condition.level is None else median in condition.level
        if holds is None:
            self.outcome = UNKNOWN
            return self.outcome
        if holds != self.holds:
            self.holds, self.since = holds, step
        confirmed = self.hold.update(step, holds)
        self.outcome = HOLDS if confirmed else PENDING if holds else FAILS
        return self.outcome

    def _trend_holds(self, step: int) -> bool | None:
        """None while the data leave it open."""
        condition = self.condition
        # in a very long run more seldom, so that all tests together grow with the logarithm of its length
        every = max(1, condition.window // EVALUATIONS, step // MOST_EVALUATIONS)
        # at the same steps, whenever it began: a criterion's good and bad condition then share a test
        if self.tested is None or step // every > self.tested // every:
            self.tested = step
            trend = trend_of(*zip(*self.window.items, strict=True), condition.change, condition.window)
            self.direction = trend.direction if trend else None
            self.movement = trend.movement if trend else None
        return None if self.direction in (None, "unclear") else self.direction in condition.trend

    @property
    def seen(self) -> str:
        """What was seen, in words."""
        if self.direction is not None:
            return f"{self.direction}, {self.movement:+.3g} over the last {len(self.window.items)} rows"
        return f"{figure(self.value)} at step {self.step}"


class CriterionState(Stateful):
    """One criterion: ``observe`` rows, then ask for the ``verdict``."""

    STATE = ("was_bad", "last_bad", "last_step")

    def __init__(self, criterion: Criterion):
        self.criterion, self.text = criterion, str(criterion)
        self.good = [ConditionState(condition) for condition in criterion.good]
        self.bad = [ConditionState(condition) for condition in criterion.bad]
        self.was_bad: int | None = None  # first and last step of the latest bad spell
        self.last_bad: int | None = None
        self.last_step: int | None = None
        self._bad: ConditionState | None = None  # the condition by which it is bad now

    def observe(self, step: int, value: float | None) -> None:
        """Takes in a row; a value that does not exist changes nothing."""
        self.last_step = step
        if value is not None:
            for state in self.good:
                state.update(step, value)
            for state in self.bad:
                state.update(step, value)
            self._bad = next((state for state in self.bad if state.outcome == HOLDS), None)
        if self._bad is not None:
            self.was_bad, self.last_bad = self._bad.since, step

    @property
    def verdict(self) -> Verdict:
        """On the rows so far."""
        status, state = self._decide()
        if state is None:
            return self._verdict(NO_DATA, "no value so far", None)
        detail, since = state.seen, None
        if status == BAD:
            detail, since = f"{state.condition}: {detail}", state.since
        elif status == WATCH:
            words = f"{state.condition}, not yet for long enough" if state in self.bad else f"not {state.condition}"
            detail, since = f"{words}: {detail}", state.since
        elif self.last_bad is not None and self.last_step is not None and self.last_step - self.last_bad <= MEMORY:
            status, since = WATCH, self.was_bad
            detail = f"bad from step {self.was_bad} to {self.last_bad}, no longer: {detail}"
        return self._verdict(status, detail, state, since)

    def _decide(self) -> tuple[str, ConditionState | None]:
        """Status, and the condition that it is for."""
        states = [*self.good, *self.bad]
        if all(state.step is None for state in states):
            return NO_DATA, None
        for status, outcome in ((BAD, HOLDS), (WATCH, PENDING)):
            for state in self.bad:
                if state.outcome == outcome:
                    return status, state
        for state in self.good:
            if state.outcome == FAILS:
                return WATCH, state
        sides = self.good or self.bad
        reached = [s for s in sides if s.outcome in (HOLDS, PENDING, EXEMPT, FAILS)]
        return GOOD if len(reached) == len(sides) else TOO_EARLY, sides[0]

    def _verdict(self, status: str, detail: str, state: ConditionState | None, since: int | None = None) -> Verdict:
        value, step = (state.value, state.step) if state else (None, None)
        goes = _goes(state.condition) if state in self.bad else None
        return Verdict(self.text, self.criterion.metric, status, detail, value, step, since, goes=goes)

    def state_dict(self) -> dict[str, Any]:
        conditions = {side: [s.state_dict() for s in getattr(self, side)] for side in ("good", "bad")}
        return super().state_dict() | conditions

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for side in ("good", "bad"):
            for mine, loaded in zip(getattr(self, side), state[side], strict=True):
                mine.load_state_dict(loaded)
        self._bad = next((state for state in self.bad if state.outcome == HOLDS), None)


def _goes(condition: Condition) -> str | None:
    """Which way a metric has gone where a bad condition holds."""
    if condition.level is None or (condition.level.low is None) == (condition.level.high is None):
        return None
    return "up" if condition.level.high is None else "down"
