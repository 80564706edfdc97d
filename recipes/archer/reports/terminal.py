"""Tables on a terminal, and plainly where there is none."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 200  # columns where nothing says how wide the reader is
COLORS = {
    **dict.fromkeys(("healthy", "good", "correct"), "green"),
    **dict.fromkeys(("watch", "unparseable", "timeout", "no_answer"), "yellow"),
    **dict.fromkeys(("bad", "wrong", "failed"), "red"),
}


def console() -> Console:
    """For stdout; as wide as the terminal, without colours where stdout is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def colored(word: str) -> Text:
    """A verdict, status or outcome in its colour; looked up by its first word."""
    return Text(word, style=COLORS.get(word.split(" ")[0], ""))


def table(title: str, headings: list[str], rows: list[tuple[str, list[str]]]) -> Table:
    """A table of named lines; every text literal, nothing in it is markup."""
    shown = Table(title=Text(title), title_justify="left")
    for heading in ("", *headings):
        shown.add_column(Text(heading), overflow="fold")
    for name, values in rows:
        shown.add_row(Text(name), *(Text(value) for value in values))
    return shown
