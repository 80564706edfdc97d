"""What grading gives back: a grade a response, and a batch of them that may not be finished yet."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recipes.archer.grading.pool import GradingError

OUTCOMES = ("correct", "wrong", "no_answer", "unparseable", "timeout")


@dataclass(frozen=True)
class Grade:
    """How one response did.

    Attributes:
        score: 1.0 for a correct answer, else 0.0; what it returned, for a user's reward function.
        outcome: one of `OUTCOMES`; `timeout` is any limit of time or memory, and a crash.
        answer: the answer that was graded, cut at 1,000 characters; None without one.
        note: why, where the outcome alone does not say.
        skip: True when the ground truth cannot be read, so that the row says nothing about the model.
        failed: True when a user's reward function raised.
        extra: what else a user's reward function returned.
    """

    score: float
    outcome: str
    answer: str | None = None
    note: str = ""
    skip: bool = False
    failed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class PendingGrades:
    """A batch whose grading is under way."""

    def __init__(self, num_rows: int):
        self._grades: list[Grade | None] = [None] * num_rows
        self._num_open = num_rows
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._grades)

    @property
    def num_done(self) -> int:
        """Rows that have their grade."""
        return len(self._grades) - self._num_open

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._num_open == 0 or self._error is not None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until `done`, at most `timeout_s` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(self.done, timeout_s)

    def result(self, timeout_s: float | None = None) -> list[Grade]:
        """The grades, in the order of the rows.

        Raises:
            TimeoutError: not done within `timeout_s` seconds.
            GradingError: the pool failed or was closed, or a user's reward function raised on every row.
        """
        if not self.wait(timeout_s):
            raise TimeoutError(f"{self._num_open} of {len(self)} responses not graded after {timeout_s} s")
        if self._error is not None:
            raise self._error
        grades = [grade for grade in self._grades if grade is not None]  # every one is there by now
        if grades and all(grade.failed for grade in grades):
            raise GradingError(f"the reward function failed on every row: {grades[0].note}")
        return grades

    def settle(self, row: int, grade: Grade) -> None:
        """Gives a row its grade; called by the pool, once a row."""
        with self._changed:
            self._grades[row] = grade
            self._num_open -= 1
            if self._num_open == 0:
                self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Ends the batch without grades; called by the pool."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
