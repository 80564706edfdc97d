"""Text made safe to show: whatever a file, a model or a name holds, it cannot steer a terminal or reorder a line.

Every line that the commands and the driver print goes through here or through ``reports/terminal.py``'s console.
"""

import logging
import re
import sys
import traceback
from typing import Any

# Control characters (an escape sequence can rewrite the terminal and reach the clipboard), lone surrogates (JSON can
# carry them, UTF-8 cannot), and what has no width or reorders what stands beside it: both let a text read as another.
UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
LONGEST_LINE = 4000  # characters of an error: enough for any of ours, not for a file quoted whole


def printable(text: object) -> str:
    """The text with every character that is not for showing replaced by U+FFFD; line ends become ``\\n``."""
    return UNSHOWABLE.sub("\ufffd", _text(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """The same on one line, cut where it is longer than any message of ours."""
    line = " ".join(printable(text).split())
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} […]"


def say(text: object = "", *, flush: bool = False) -> None:
    """Prints a text to stdout."""
    print(printable(text), flush=flush)


def complain(text: object) -> None:
    """Prints one line to stderr; in one write, since a thread may have something to say at the same moment."""
    print(f"{one_line(text)}\n", end="", file=sys.stderr, flush=True)


def guard_logs() -> None:
    """Makes what this process's loggers say printable, libraries' and tracebacks too; once is enough."""
    made_by = logging.getLogRecordFactory()
    if getattr(made_by, "printable", False):
        return

    def make(*arguments: Any, **more: Any) -> logging.LogRecord:
        record = made_by(*arguments, **more)
        try:
            record.msg, record.args = printable(record.getMessage()), None
        except Exception:  # a message that does not fit its arguments is logging's own to report
            return record
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = printable("".join(traceback.format_exception(record.exc_info[1]))).rstrip("\n")
        return record

    make.printable = True  # type: ignore[attr-defined]  # the mark of the factory that is ours
    logging.setLogRecordFactory(make)


def _text(text: object) -> str:
    try:
        return str(text)
    except ValueError:  # a whole number of more digits than Python writes out
        return "a number too long to show"
