"""Feeds one tracker from a thread of its own, so that a service that is down or slow costs training nothing."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

logger = logging.getLogger(__name__)

MAX_WAITING = 2000  # rows of some 20 KB
MAX_PAUSE_S = 60.0
CLOSING_PAUSE_S = 1.0


class Tracker(Protocol):
    """Where rows go; any of this may raise or hang."""

    def log(self, row: dict[str, Any], step: int) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class TrackerFeed:
    """Hands rows to a tracker in their order and tries again what failed.

    A tracker that raised is opened anew for the next try: a client whose connection broke seldom recovers.

    Args:
        name: the tracker's, for messages.
        open_tracker: called with the step whose row comes first; may raise or hang.
        first_step: of this attempt.
    """

    def __init__(self, name: str, open_tracker: Callable[[int], Tracker], first_step: int):
        self.name, self._open, self._first_step = name, open_tracker, first_step
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()
        self._changed = threading.Condition()
        self._num_lost = 0
        self._exit_code: int | None = None
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, step: int, row: dict[str, Any]) -> None:
        """Queues a row and returns at once; a full queue loses its oldest."""
        with self._changed:
            if len(self._waiting) == MAX_WAITING:
                self._waiting.popleft()
                self._num_lost += 1
            self._waiting.append((step, row))
            self._changed.notify()

    def wait_until_delivered(self, seconds: float) -> None:
        """Returns when the tracker has every row so far, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout=seconds)

    def close(self, exit_code: int) -> None:
        """No more rows come: what waits is delivered, then the tracker is finished."""
        with self._changed:
            self._exit_code = exit_code
            self._changed.notify()

    def verdict(self, deadline: float) -> str | None:
        """Waits for the end after :meth:`close`, until ``time.monotonic()`` reaches ``deadline``.

        Returns:
            What the tracker misses, in words; None when it has everything.
        """
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            steps = [step for step, _ in self._waiting]
            lost, why = self._num_lost + len(steps), f": {self._problem}" if self._problem else ""
        if lost:
            last = f", the last of them {steps[0]} to {steps[-1]}" if steps else ""
            return f"tracker {self.name} misses {lost} step{'s' * (lost > 1)}{last}{why}"
        if self._thread.is_alive() or self._problem:
            return f"tracker {self.name} has every step, but could not be closed in time{why}"
        return None

    def _run(self) -> None:
        tracker, pause = None, 0.0
        while True:
            try:
                if tracker is None:
                    tracker = self._open(self._next_step())
                item = self._next()
                if item is None:
                    assert self._exit_code is not None  # _next has waited for it
                    tracker.finish(self._exit_code)
                    self._problem = None
                    return
                tracker.log(item[1], item[0])
            except Exception as error:  # whatever a service or its client does, training goes on
                tracker, pause = None, min(MAX_PAUSE_S, max(1.0, 2 * pause))
                self._failed(error)
                if self._exit_code is not None and not self._waiting:
                    return  # there is nothing left to try again for
                self._rest(pause)
            else:
                pause = 0.0
                self._delivered(item)

    def _next_step(self) -> int:
        with self._changed:
            return self._waiting[0][0] if self._waiting else self._first_step

    def _next(self) -> tuple[int, dict[str, Any]] | None:
        """The oldest row, which stays in the queue until it is delivered; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._exit_code is not None)
            return self._waiting[0] if self._waiting else None

    def _delivered(self, item: tuple[int, dict[str, Any]]) -> None:
        with self._changed:
            if self._waiting and self._waiting[0] is item:  # else it was dropped while it was on its way
                self._waiting.popleft()
            else:
                self._num_lost -= 1
            self._first_step = item[0] + 1
            self._changed.notify_all()
        if self._problem is not None:
            logger.warning("tracker %s works again, from step %d on", self.name, item[0])
            self._problem = None

    def _failed(self, error: Exception) -> None:
        if self._problem is None:
            logger.warning("tracker %s failed; its steps wait and are tried again: %s", self.name, _line(error))
        self._problem = _line(error)

    def _rest(self, seconds: float) -> None:
        """Waits before the next try; the end of the run cuts it short."""
        with self._changed:
            closing = self._exit_code is not None
            if not closing:
                self._changed.wait_for(lambda: self._exit_code is not None, timeout=seconds)
        if closing:
            time.sleep(min(seconds, CLOSING_PAUSE_S))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
