"""What a run says on a terminal, into a pipe or into a log: worth saying, and not worth the run."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO


class BestEffort:
    """A text stream; what it does not take is lost: its reader is gone, its disk is full, its terminal is closed.

    The Ctrl-C that ends a run ends the ``tee`` behind its pipe as well, and first.

    Args:
        stream: None, as Python has it, where the descriptor was closed from the start.
    """

    def __init__(self, stream: TextIO | None):
        self._stream = io.StringIO() if stream is None else stream

    def __getattr__(self, name: str):
        return getattr(self._stream, name)  # encoding, isatty, fileno: what is written to is still that stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def best_effort_output() -> Iterator[None]:
    """Around a run: neither standard output nor standard error can end it, nor change its exit code."""
    try:
        with redirect_stdout(BestEffort(sys.stdout)), redirect_stderr(BestEffort(sys.stderr)):
            yield
    finally:
        for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
            try:
                stream.flush()
            except OSError:  # Python tries once more at its exit, and makes 120 of the exit code when that fails
                redirect_to_nowhere([stream.fileno()])


def redirect_to_nowhere(descriptors: Iterable[int]) -> None:
    """What is written to these descriptors from now on is lost without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
