"""How often a run may start itself again after a fault of its workers."""

from contextlib import suppress

from recipes.archer.ending import FAILED, Ending
from recipes.archer.printable import complain
from recipes.archer.runs.log import RunLog, now


class Restarts:
    """Counts the restarts without a new checkpoint between them; a new one resets the count.

    So a long run is not ended by rare and unrelated faults, and one that dies at the same place each time is.

    Args:
        most: ``trainer.max_restarts``.
        log: the run's; run.json gets a line for each restart.
    """

    def __init__(self, most: int, log: RunLog):
        self._most, self._log = most, log
        self._number, self._saved_before = 0, None

    def after(self, fault: Exception) -> Ending | None:
        """Says what happened; the run's end when there have been too many restarts, None to start again."""
        saved = self._log.run.get("last_checkpoint")
        self._number = 1 if saved != self._saved_before else self._number + 1
        self._saved_before = saved
        if self._number > self._most:
            without = " without a new checkpoint" if self._most else ""
            return Ending("failed", f"{fault}; trainer.max_restarts={self._most} used up{without}", FAILED)
        which = f"restart {self._number} of {self._most} (trainer.max_restarts)"
        complain(f"error: {fault}; {which}, from the last whole checkpoint")
        done = self._log.run.get("restarts", [])
        with suppress(OSError):  # a full disk; the next note brings it along
            self._log.note(restarts=[*done, {"step": self._log.run["steps"], "cause": str(fault), "at": now()}])
        return None
