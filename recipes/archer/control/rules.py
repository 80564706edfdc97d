"""The rules that end a run: its plan is done, the guard says so, or there has been nothing to learn for too long."""

from recipes.archer.control.peak import Peak
from recipes.archer.ending import EMPTY, FINISHED, GUARD, NOT_FINITE, Cause, Ending
from recipes.archer.monitoring.guard import Guard


class Rules:
    """Counts what makes a run pointless, row by row; the counts are a part of the run's state.

    Args:
        settings: the configuration's ``trainer`` section.
        guard: the monitor of the run.
    """

    def __init__(self, settings, guard: Guard):
        self.settings, self.guard = settings, guard
        self.empty_steps = self.skipped_updates = 0
        self.step, self.skipping_since = 0, 1
        self.peak = Peak(settings.stop_after_best)
        self._cut = False  # whether the last step had groups to train on, all of them cut

    def check(self, row: dict):
        """Takes the row of a step, once; returns the guard's decision about it."""
        self.step = row["step"]
        attempted = row["actor/num_updates"] + row["actor/num_skipped"]
        self.empty_steps = 0 if attempted else self.empty_steps + 1
        if row["actor/num_updates"] or not self.skipped_updates:
            self.skipping_since = self.step
        self.skipped_updates = row["actor/num_skipped_last"] + (0 if row["actor/num_updates"] else self.skipped_updates)
        self._cut = bool(row["batch/trained"])
        self.peak.check(row)
        return self.guard.check(row)

    def broken(self) -> Ending | None:
        """The end that what was done so far asks for; also of a run that goes on from there."""
        if self.guard.reason is not None:
            return Ending("stopped", f"guard: {self.guard.reason}", GUARD, self._guards_cause())
        if self.empty_steps >= self.settings.max_empty_steps:
            found = "only truncated responses (reward.overlong_filter)" if self._cut else "no valid group"
            cause = Cause("trainer.max_empty_steps", "batch/valid", self.step - self.empty_steps + 1)
            return Ending("stopped", f"{found} in {self.empty_steps} steps (trainer.max_empty_steps)", EMPTY, cause)
        if self.skipped_updates >= self.settings.max_skipped_updates:
            reason = f"no finite gradient in {self.skipped_updates} updates in a row (trainer.max_skipped_updates)"
            cause = Cause("trainer.max_skipped_updates", "actor/grad_norm", self.skipping_since)
            return Ending("stopped", reason, NOT_FINITE, cause)
        return self.peak.ending()

    def _guards_cause(self) -> Cause | None:
        worst = self.guard.worst
        if worst is None:
            return None
        since = self.step if worst.since is None else worst.since
        return Cause(worst.criterion, worst.metric, since, worst.goes)

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against the run so far: what may do so later begins later."""
        return self.guard.sound and not self.empty_steps and not self.skipped_updates

    def done(self, step: int, total_steps: int, epoch: int) -> Ending | None:
        """The end as planned, once ``step`` steps are done or the prompts have been gone through."""
        if step >= total_steps:
            return Ending("finished", f"all {total_steps} steps done", FINISHED)
        if epoch >= self.settings.total_epochs:
            return Ending("finished", f"all {self.settings.total_epochs} epochs done", FINISHED)
        return None

    def state_dict(self) -> dict:
        return {
            "empty_steps": self.empty_steps,
            "skipped_updates": self.skipped_updates,
            "skipping_since": self.skipping_since,
            "sound": self.sound,
            "guard": self.guard.state_dict(),
            "peak": self.peak.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on counting where ``state`` was taken.

        Raises:
            ValueError, LookupError, TypeError, AttributeError, ArithmeticError: it holds something else.
        """
        self.empty_steps, self.skipped_updates = state["empty_steps"], state.get("skipped_updates", 0)
        self.step, self.skipping_since = state["step"], state.get("skipping_since", state["step"])
        if any(type(n) is not int or n < 0 for n in (self.empty_steps, self.skipped_updates, self.skipping_since)):
            raise ValueError("empty_steps, skipped_updates or skipping_since is no count")
        self.guard.load_state_dict(state["guard"])
        if "peak" in state:  # not in a checkpoint of an earlier version
            self.peak.load_state_dict(state["peak"])
