"""What a run waits for between the command and its first step, a line a phase."""

import sys
import time
from contextlib import redirect_stdout

from recipes.archer.printable import say


class Progress:
    """Says where the start is, and after how many seconds, on what is standard output when this is made.

    Later it leads into ``setup.log``, where libraries have their say.
    """

    def __init__(self) -> None:
        self._out, self._begun = sys.stdout, time.monotonic()

    def tell(self, phase: str) -> None:
        """A phase begins.

        Args:
            phase: what is being done, in words that follow a number of seconds.
        """
        with redirect_stdout(self._out):
            say(f"starting, {time.monotonic() - self._begun:.0f} s: {phase}", flush=True)
