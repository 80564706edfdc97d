"""The monitor inside training: tells the user what is new, and stops the run when it is bad and told to."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.experiments.records import record_in
from recipes.archer.monitoring.monitor import Monitor
from recipes.archer.monitoring.verdicts import BAD, GOOD, WATCH, Verdict, worst_first
from recipes.archer.settings.running import GUARD_ACTIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardDecision:
    """What follows from one row.

    Attributes:
        stop: whether training is to end here.
        verdicts: those that are new, the worst first: a bad one once, and again if it had been good in between; a
            watch once, and only when it has lasted more than one step.
        reason: why to stop, one sentence; None otherwise.
    """

    stop: bool
    verdicts: tuple[Verdict, ...] = ()
    reason: str | None = None


class Guard:
    """Watches a run while it trains.

    Args:
        action: ``off``: judge nothing; ``warn``: say what is wrong; ``stop``: end the run when it is bad;
            ``rollback``: the same, whereupon the run goes back.
        monitor: judges the rows.

    Raises:
        UserError: an unknown action.
    """

    def __init__(self, action: str, monitor: Monitor):
        if action not in GUARD_ACTIONS:
            raise UserError(f"guard.action={action} is not known; use {' or '.join(GUARD_ACTIONS)}")
        self.action, self.monitor = action, monitor
        self._told: dict[str, str] = {}  # criterion -> status last told
        self._failed = False
        self._reason: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Guard":
        """A guard that judges by the run's own record.

        Raises:
            UserError: the record, a threshold or the action is wrong: better now than at step 100.
        """
        return cls(config["guard"]["action"], Monitor(record_in(config), config))

    def check(self, row: Mapping[str, Any]) -> GuardDecision:
        """Takes in a step's row."""
        if self.action == "off":
            return GuardDecision(False)
        try:
            self.monitor.observe(row)
            verdicts = worst_first(self.monitor.verdicts)
        except Exception:  # whatever is wrong with the monitor, four GPUs' work must not end because of it
            if not self._failed:
                logger.exception("the monitor failed; training goes on, unguarded where it fails again")
            self._failed = True
            return GuardDecision(False)
        new = tuple(v for v in verdicts if self._is_new(v))
        bad = next((v for v in verdicts if v.status == BAD), None)
        self._reason = None if bad is None else str(bad)
        return GuardDecision(self.reason is not None, new, self.reason)

    @property
    def reason(self) -> str | None:
        """Why the run is to end by the rows so far, one sentence; None where it is not."""
        return self._reason if self.action in ("stop", "rollback") else None

    @property
    def worst(self) -> Verdict | None:
        """The bad verdict that :attr:`reason` is about; None where there is none."""
        return next((v for v in worst_first(self.monitor.verdicts) if v.status == BAD), None)

    @property
    def sound(self) -> bool:
        """Whether the rows so far give no cause to go back; False where they are not judged."""
        return self.action != "off" and not self._failed and self.monitor.sound

    def summary(self) -> dict[str, Any] | None:
        """The verdict for run.json; None when the guard is off."""
        return None if self.action == "off" else self.monitor.summary()

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint, as JSON."""
        return {"monitor": self.monitor.state_dict(), "told": dict(self._told), "reason": self._reason}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on as at the checkpoint.

        Raises:
            ValueError: what was told, or the reason, is no text.
        """
        self.monitor.load_state_dict(state["monitor"])
        told, reason = dict(state["told"]), state.get("reason")
        if not all(isinstance(text, str) for text in [*told.values(), reason or ""]):
            raise ValueError("what the guard has told is no text")
        self._told, self._reason = told, reason

    def _is_new(self, verdict: Verdict) -> bool:
        key, told = verdict.criterion, self._told.get(verdict.criterion)
        if verdict.status == BAD and told != BAD:
            self._told[key] = BAD
            return True
        if verdict.status == WATCH and told is None and _has_lasted(verdict):
            self._told[key] = WATCH
            return True
        if verdict.status == GOOD and told == BAD:
            self._told[key] = WATCH
        return False


def _has_lasted(verdict: Verdict) -> bool:
    """Whether it began before the step that it was last seen at."""
    return verdict.since is not None and verdict.step is not None and verdict.since < verdict.step
