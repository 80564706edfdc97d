"""`archer monitor`: the verdict on a run, once or while it goes on."""

import json
import time
from typing import Annotated

import typer

from recipes.archer.printable import say
from recipes.archer.settings.rules import seconds


def monitor(
    run: Annotated[
        str, typer.Argument(help="Run folder, its name under output/, metrics.jsonl, or W&B offline folder.")
    ],
    experiment: Annotated[
        str | None, typer.Option(help="By whose criteria; without it, those the run was started with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --follow a line for each look.")] = False,
    follow: Annotated[bool, typer.Option(help="Go on until the run ends or Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(callback=seconds("--interval", 0.1), help="Seconds between looks with --follow.")
    ] = 5.0,
) -> None:
    """Judge a run by an experiment's criteria. Exit 0: healthy, 10: watch, 20: bad, 2: cannot be judged."""
    from recipes.archer.monitoring.verdicts import EXIT_CODES

    live = _Live(run, experiment)
    if follow:
        _follow(live, as_json, interval)
    elif as_json:
        say(_as_json(live.summary(), indent=1))
    else:
        live.print()
    raise typer.Exit(EXIT_CODES[live.monitor.overall()])


class _Live:
    """A run that may still grow, and its monitor."""

    def __init__(self, run: str, experiment: str | None):
        from recipes.archer.runs.folder import locate

        self.run, self.experiment = locate(run), experiment
        self.metrics = self._read()
        self._start()

    def look(self) -> bool:
        """Reads what is new; whether there was anything."""
        before, known = self.monitor.step, self.metrics
        self.metrics = self._read()
        if not _continues(known, self.metrics):
            self._start()  # the run was resumed from an earlier step, or with other settings
            return True
        self._judge(self.metrics.rows[self.seen :])
        return self.monitor.step != before

    def summary(self) -> dict:
        """The verdict as JSON."""
        return {"source": str(self.metrics.source), "notes": self.notes, **self.monitor.summary()}

    @property
    def notes(self) -> list[str]:
        """What was left out, in words."""
        gone = self.monitor.passed_over
        return [*self.metrics.notes, *([f"{gone:,} of {self.seen:,} rows were passed over"] if gone else [])]

    def print(self) -> None:
        """The verdict as a table."""
        from recipes.archer.reports.terminal import console

        console().print(self.view())

    def view(self, live: bool = False):
        """The table, for a terminal; ``live``: for a screen that shows its beginning only."""
        from recipes.archer.commands.monitor_view import verdict_view

        return verdict_view(self.monitor, self.metrics.source, self.notes, live)

    def _start(self) -> None:
        from recipes.archer.monitoring.monitor import judge

        rows, config = self.metrics.rows, self.metrics.config
        self.monitor, self.seen = judge(rows, _record(self.experiment, config), config), len(rows)

    def _judge(self, rows: list[dict]) -> None:
        for row in rows:
            self.monitor.observe(row)
        self.seen += len(rows)

    def _read(self):
        from recipes.archer.runs.metrics_reader import read_metrics

        return read_metrics(self.run)


def _continues(known, now) -> bool:
    """Whether all that was read before is still there as it was; a step that was done again has the same number."""
    if repr(known.config) != repr(now.config) or len(known.rows) > len(now.rows):
        return False
    pairs = zip(known.rows, now.rows, strict=False)
    return all(row == new or repr(row) == repr(new) for row, new in pairs)  # repr: a NaN equals no other


def _record(experiment: str | None, config: dict):
    """The named experiment's record, else the one that the run was started with."""
    if experiment:
        from recipes.archer.experiments.registry import load_record

        return load_record(experiment)
    from recipes.archer.experiments.records import record_in

    return record_in(config)


def _as_json(summary: dict, **form) -> str:
    """In ASCII, where every other character is escaped; DEL is ASCII, too."""
    return json.dumps(summary, allow_nan=False, **form).replace("\x7f", "\\u007f")


def _follow(live: _Live, as_json: bool, interval: float) -> None:
    from rich.live import Live

    from recipes.archer.reports.terminal import console

    try:
        if as_json:
            say(_as_json(live.summary()), flush=True)
            while not live.metrics.over:
                time.sleep(interval)
                if live.look():
                    say(_as_json(live.summary()), flush=True)
            return
        with Live(live.view(live=True), console=console(), auto_refresh=False) as screen:
            screen.refresh()
            while not live.metrics.over:
                time.sleep(interval)
                live.look()
                screen.update(live.view(live=True), refresh=True)
    except KeyboardInterrupt:  # how the user ends it; the verdict so far is the answer
        return
