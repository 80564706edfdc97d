"""SIGTERM and SIGINT: finish the stage, save, leave; a second signal, or too long a wait, leaves at once."""

import os
import signal
import sys
import threading

from recipes.archer.ending import INTERRUPTED, TERMINATED, Ending

CODES = {signal.SIGTERM: TERMINATED, signal.SIGINT: INTERRUPTED}


class StopRequested(Exception):  # noqa: N818  (not an error)
    """A signal asked for the end; raised between stages, never inside one."""


class StopSignals:
    """Remembers the first stop signal; use as a context manager around training.

    Args:
        grace_s: seconds from the first signal after which the process leaves with what is on disk.
    """

    def __init__(self, grace_s: float):
        self._grace_s, self._received, self._earlier = grace_s, None, {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "StopSignals":
        self._earlier = {number: signal.signal(number, self._receive) for number in CODES}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Between stages: raises when a signal has come.

        Raises:
            StopRequested: the run should save and end.
        """
        if self._received is not None:
            raise StopRequested

    def ending(self) -> Ending:
        """What to record after :class:`StopRequested`."""
        name = signal.Signals(self._received).name
        return Ending("stopped", f"{name} received; continue with the same command", CODES[self._received])

    def _receive(self, number, frame) -> None:
        if self._received is not None:
            self._leave(f"second {signal.Signals(number).name}: leaving at once")
        self._received = number
        print(f"{signal.Signals(number).name} received: saving, then leaving", file=sys.stderr, flush=True)
        self._timer = threading.Timer(self._grace_s, self._leave, [f"not done in trainer.grace_s={self._grace_s}"])
        self._timer.daemon = True
        self._timer.start()

    def _leave(self, why: str) -> None:
        print(why, file=sys.stderr, flush=True)
        os._exit(CODES[self._received])
