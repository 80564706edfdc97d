"""Tables on a terminal, and plainly where there is none; what is in them cannot steer it."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from recipes.archer.printable import printable

PIPED_WIDTH = 200  # columns where nothing says how wide the reader is
COLORS = {
    **dict.fromkeys(("healthy", "good", "correct"), "green"),
    **dict.fromkeys(("watch", "unparseable", "timeout", "no_answer"), "yellow"),
    **dict.fromkeys(("bad", "wrong", "failed"), "red"),
}


class PrintableConsole(Console):
    """A console whose texts are made printable last of all, whoever made them; its own colours stay."""

    def render(self, renderable, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console(stderr: bool = False) -> Console:
    """For stdout or stderr; as wide as the terminal, without colours where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return PrintableConsole(highlight=False, stderr=stderr, width=None if stream.isatty() else PIPED_WIDTH)


def shown(text: object, style: str = "") -> Text:
    """A text as it is, no markup in it; printable before its width is measured."""
    return Text(printable(text), style=style)


def colored(word: str) -> Text:
    """A verdict, status or outcome in its colour; looked up by its first word."""
    return shown(word, COLORS.get(word.split(" ")[0], ""))


def table(title: str, headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    """A table of named lines; every text literal, nothing in it is markup."""
    made = Table(title=shown(title), title_justify="left")
    for heading in ("", *headings):
        made.add_column(shown(heading), overflow="fold")
    for name, values in rows:
        made.add_row(shown(name), *map(shown, values))
    return made
