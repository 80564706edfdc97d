"""Text written by a model, made safe to show: a response may hold anything, also what steers a terminal."""

import re

# Control characters (an escape sequence can rewrite the terminal), bidirectional overrides (they reorder what
# stands beside them), and lone surrogates (JSON can carry them, UTF-8 cannot).
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HEAD, TAIL = 3000, 1000  # characters of a long response that a report shows


def printable(text: object) -> str:
    """The text with every character that is not for showing replaced by U+FFFD; line ends become ``\\n``."""
    return _UNSHOWABLE.sub("\ufffd", str(text).replace("\r\n", "\n"))


def shortened(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """The text, or its beginning and end with a note of how much is left out between them."""
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    return f"{text[:head]}\n[… {left_out:,} characters left out …]\n{text[-tail:]}"
