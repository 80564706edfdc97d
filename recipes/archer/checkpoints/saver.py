"""Saving while a run goes on: room is looked for first, and a disk that refuses does not end the run at once."""

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from recipes.archer.checkpoints.disk_space import readable, shortage
from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.ending import DISK, FINISHED, Ending

Write = Callable[[str], Iterable[str | None]]


class Report(Protocol):
    """What a saver tells whoever shows the run."""

    def warn(self, text: str) -> None: ...

    def saved(self, step: int, seconds: float, best: Path | None = None) -> None: ...

    def not_saved(self, step: int, why: str, number: int, most: int) -> None: ...

    def rows_are_safe(self) -> None: ...


class CheckpointSaver:
    """Saves, and counts the saves in a row that the disk refused.

    Args:
        store: where checkpoints go.
        identity: what they belong to, written into each.
        first_size: bytes that the first one is thought to take; later ones take what the last one took.
        least_size: bytes that any one is thought to take.
        max_failed_saves: so many in a row end the run.
    """

    def __init__(
        self, store: CheckpointStore, identity: dict[str, Any], first_size: int, least_size: int, max_failed_saves: int
    ):
        self.store, self.identity, self.first_size, self.least_size = store, identity, first_size, least_size
        self.max_failed_saves, self.num_failed = max_failed_saves, 0
        self.problem: str | None = None
        self.saved_step = self._tried_step = 0

    def continue_after(self, step: int) -> None:
        """The state of ``step`` is on disk already."""
        self.saved_step = self._tried_step = step

    def repair(self, report: Report) -> None:
        """Once the run has gone on from a checkpoint: a save that was interrupted is brought to its end."""
        try:
            self.store.repair()
        except OSError as error:  # the next save tries again
            report.warn(f"what surrounds the checkpoints is not up to date: {error}")

    def save(self, state: dict[str, Any], write: Write, report: Report) -> None:
        """Saves the state of a step, once.

        Args:
            state: the driver's.
            write: lets the workers write into a folder; returns what the disk refused each of them, None: nothing.
            report: the run's ``Report``.
        """
        step, start = state["step"], time.perf_counter()
        if step == self._tried_step:
            return
        self._tried_step = step
        self.problem = self._write(state | {"identity": self.identity}, write, report)
        if self.problem is not None:
            self.num_failed += 1
            report.not_saved(step, self.problem, self.num_failed, self.max_failed_saves)
            return
        self.saved_step, self.num_failed = step, 0
        try:
            best = self.store.settle(step)
        except OSError as error:
            best = None
            report.warn(f"checkpoint {step} is whole, but what surrounds it is not up to date: {error}")
        report.saved(step, time.perf_counter() - start, best)

    def ending(self) -> Ending | None:
        """The run's end when too many saves in a row failed."""
        if self.num_failed < self.max_failed_saves:
            return None
        return self._failed(f"{self.num_failed} checkpoints in a row could not be written (trainer.max_failed_saves)")

    def closing(self, ending: Ending) -> Ending:
        """The run's ending, told as it is when its last state could not be saved."""
        if self.problem is None or ending.exit_code == DISK:
            return ending
        if ending.exit_code == FINISHED:
            return self._failed(f"{ending.reason}, but the last checkpoint could not be written")
        reason = f"{ending.reason}; its last state could not be saved: {self.problem}"
        return replace(ending, reason=reason)

    def _write(self, state: dict[str, Any], write: Write, report: Report) -> str | None:
        """What the disk refused; None when the checkpoint is whole."""
        try:
            partial = self.store.begin(state["step"])
        except OSError as error:
            return str(error)
        problem = self._fill(partial, state, write, report)
        if problem is not None:
            self.store.discard(partial)
        return problem

    def _fill(self, partial: Path, state: dict[str, Any], write: Write, report: Report) -> str | None:
        try:
            size = max(self.store.size() or self.first_size, self.least_size)
            if lack := shortage(self.store.folder, size):
                return lack
            problem = next(filter(None, write(str(partial))), None)
            if problem is None:
                report.rows_are_safe()  # a checkpoint must not know of steps that metrics.jsonl does not
                self.store.commit(partial, state["step"], state)
                return None
        except OSError as error:
            problem = str(error)
        # beside what was written so far; a library seldom says that the disk is full
        return f"{problem} ({self._free()} free when it failed)"

    def _free(self) -> str:
        try:
            return readable(shutil.disk_usage(self.store.folder).free)
        except OSError:  # the share has gone away
            return "nothing known to be"

    def _failed(self, what: str) -> Ending:
        where = f"the newest whole one is of step {self.saved_step}" if self.saved_step else "there is none"
        remedy = f"make room in {self.store.folder}, then start the same command again"
        return Ending("failed", f"{what}: {self.problem}; {where}; {remedy}", DISK)
