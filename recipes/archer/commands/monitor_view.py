"""How the terminal shows a run's verdicts."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from recipes.archer.monitoring.monitor import Monitor
from recipes.archer.monitoring.verdicts import BAD, GOOD, HEALTHY, WATCH, Verdict, worst_first
from recipes.archer.reports.terminal import shown

_STYLES = {BAD: "bold red", WATCH: "yellow", GOOD: "green", HEALTHY: "bold green"}


def verdict_view(monitor: Monitor, source: Path, notes: Sequence[str], live: bool = False) -> Group:
    """A table of all verdicts, the worst first, what to try, and the run's word.

    The word comes last, where a terminal's prompt is; ``live``: first, since a screen cuts off what does not fit.
    """
    table = Table("status", "criterion", "seen", "since")
    for verdict in worst_first(monitor.verdicts):
        since = "" if verdict.since is None else str(verdict.since)
        status = shown(verdict.status, _STYLES.get(verdict.status, "dim"))
        table.add_row(status, shown(verdict.criterion), shown(verdict.detail), shown(since))
    lines = [shown(f"note: {note}") for note in notes]
    told, word = (*map(shown, _advice(monitor.verdicts)), *lines), _conclusion(monitor, source)
    return Group(word, *told, table) if live else Group(table, *told, word)


def _advice(verdicts: list[Verdict]) -> list[str]:
    """What the record says to try, each once, where something is wrong."""
    advice = {}
    for verdict in worst_first(verdicts):
        for item in verdict.contingency:
            advice[f"if {item['when']}: {item['what']}: {' '.join(item['overrides'])}"] = None
    return list(advice)


def _conclusion(monitor: Monitor, source: Path) -> Text:
    word = monitor.overall()
    by = f"by the criteria of {monitor.record.name}" if monitor.record else "by the detectors alone (no --experiment)"
    reached = f"at step {monitor.step}" if monitor.step is not None else "no step yet"
    return Text.assemble(shown(word, _STYLES.get(word, "dim")), shown(f" {reached}, {by}; {source}"))
