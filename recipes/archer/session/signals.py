"""SIGTERM, SIGINT and SIGHUP: finish the stage, save, leave; a second signal, or too long a wait, leaves at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from recipes.archer.ending import HUNG_UP, INTERRUPTED, TERMINATED, Ending
from recipes.archer.session.output import redirect_to_nowhere

CODES = {signal.SIGTERM: TERMINATED, signal.SIGINT: INTERRUPTED, signal.SIGHUP: HUNG_UP}
GRACE_S = 60.0  # until the configuration has been read
SAY_S = 1.0  # to say what happens
RECORD_S = 2.0  # to write down an ending while leaving at once


class StopRequested(Exception):  # noqa: N818  (not an error)
    """A signal asked for the end; raised between stages, never inside one."""


class StopSignals:
    """Remembers the first stop signal; use as a context manager around everything that a run does.

    A signal that is ignored already stays so: ``nohup`` ignores SIGHUP.

    Args:
        grace_s: seconds from the first signal after which the process leaves with what is on disk.
        record: told the ending when the process leaves at once.
    """

    def __init__(self, grace_s: float = GRACE_S, record: Callable[[Ending], None] | None = None):
        self.grace_s, self.record = grace_s, record
        self._received, self._earlier, self._terminals, self._nothing_to_save = None, {}, [], False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "StopSignals":
        numbers = [number for number in CODES if signal.getsignal(number) is not signal.SIG_IGN]
        self._earlier = {number: signal.signal(number, self._receive) for number in numbers}
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._earlier.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # a terminal that is gone has no more to say
                signal.signal(number, handler)
        self.disarm()

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def check(self) -> None:
        """Between stages: raises when a signal has come.

        Raises:
            StopRequested: the run should save and end.
        """
        if self.requested:
            raise StopRequested

    @contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """Around set-up: a signal does not wait for the end of a stage.

        Raises:
            StopRequested: a signal has come.
        """
        self._nothing_to_save = True
        try:
            self.check()
            yield
            self.check()
        except KeyboardInterrupt:
            raise StopRequested from None
        finally:
            self._nothing_to_save = False

    def disarm(self) -> None:
        """The state is saved: what is left to do has bounds of its own."""
        if self._timer is not None:
            self._timer.cancel()

    def ending(self, more: str = "") -> Ending:
        """What to record after :class:`StopRequested`."""
        name = signal.Signals(self._received).name
        return Ending("stopped", f"{name} received{more}; continue with the same command", CODES[self._received])

    def _receive(self, number, frame) -> None:
        if number == signal.SIGHUP:
            # a closed terminal sends it, and then its shell does: the second one is no impatience
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            redirect_to_nowhere(self._terminals)  # a write to a closed one would be an error
            if self.requested:
                return
        if self.requested:
            self._leave(f"second {signal.Signals(number).name}: leaving at once")
        self._received = number
        self._timer = threading.Timer(self.grace_s, self._leave, [f"not done in trainer.grace_s={self.grace_s}"])
        self._timer.daemon = True
        self._timer.start()
        what = "leaving" if self._nothing_to_save else "saving, then leaving"
        _say(f"{signal.Signals(number).name} received: {what}")
        if self._nothing_to_save:
            raise KeyboardInterrupt  # the one exception that Ray's calls let through from a handler

    def _leave(self, why: str) -> None:
        _say(why)
        if self.record is not None:
            # in a thread: the disk may hang, and the main thread may hold a lock just now
            recorder = threading.Thread(target=self.record, args=[self.ending(f", {why}")], daemon=True)
            recorder.start()
            recorder.join(RECORD_S)
        os._exit(CODES[self._received])


def _say(text: str) -> None:
    """Says it on standard error, where that takes it soon: a pipe may be full, a terminal stopped."""
    # not through sys.stderr, in the middle of whose own write the signal may have come
    start = "\n" if os.isatty(2) else ""  # a progress bar may be on the line
    speaker = threading.Thread(target=_write, args=[f"{start}{text}\n".encode()], daemon=True)
    speaker.start()
    speaker.join(SAY_S)


def _write(line: bytes) -> None:
    with suppress(OSError):  # nobody is listening any more
        os.write(2, line)
