"""`archer search`: many runs looking for the settings of one."""

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recipes.archer.ending import INTERRUPTED, TERMINATED, UserError
from recipes.archer.printable import complain, say
from recipes.archer.settings.rules import seconds

search_app = typer.Typer(no_args_is_help=True, help="Search for settings: start, watch, report, adopt the best.")

Name = Annotated[str, typer.Argument(help="The search's name, which is its folder's under the output folder.")]


class Sampler(StrEnum):
    """What proposes settings."""

    tpe = "tpe"
    random = "random"
    grid = "grid"


class Pruner(StrEnum):
    """What gives trials up that are behind the others."""

    median = "median"
    hyperband = "hyperband"
    none = "none"


class Mode(StrEnum):
    """Whether more is better."""

    max = "max"
    min = "min"


class Where(StrEnum):
    """Who runs trials."""

    local = "local"
    runai = "runai"
    kubernetes = "kubernetes"


@search_app.command()
def start(
    name: Name,
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides of every trial.")] = None,
    base: Annotated[str | None, typer.Option(help="The experiment that every trial changes.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=A,B,C or KEY=LOW..HIGH[:log]; may be repeated.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What decides, at its peak; default val/accuracy.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Whether more of it is better; default max.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many; a grid has as many as it has points.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each.")] = None,
    every: Annotated[int | None, typer.Option(help="Steps between validations; default a third of the steps.")] = None,
    sampler: Annotated[Sampler | None, typer.Option(help="Default tpe.")] = None,
    pruner: Annotated[Pruner | None, typer.Option(help="Default median.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Trials at a time, each on its share of the GPUs.")] = None,
    executor: Annotated[Where | None, typer.Option(help="Default local.")] = None,
    confirm: Annotated[int | None, typer.Option(help="So many of the best are run again with fresh seeds.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Fresh seeds for each of these; default 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of what is proposed; default 0.")] = None,
    hours: Annotated[float | None, typer.Option(help="Of runs after which no further trial begins.")] = None,
    fork_from: Annotated[str | None, typer.Option(help="Run or checkpoint at which every trial begins.")] = None,
    hypothesis: Annotated[str | None, typer.Option(help="What is expected, for the trials' records.")] = None,
    cluster: Annotated[Path | None, typer.Option(help="Site settings, for a cluster.")] = None,
    file: Annotated[Path | None, typer.Option(help="YAML that says the same; options go before it.")] = None,
) -> None:
    """Start a search, or go on with one: the same command, or its name alone, after whatever ended it."""
    from recipes.archer.search.plan import read_plan
    from recipes.archer.search.starting import Search

    options: dict[str, Any] = {
        "base": base, "metric": metric, "mode": mode, "trials": trials, "steps": steps, "every": every,
        "sampler": sampler, "pruner": pruner, "parallel": parallel, "executor": executor, "confirm": confirm,
        "seeds": seeds, "seed": seed, "hours": hours, "fork_from": fork_from, "hypothesis": hypothesis,
        "set": _settings(settings), "cluster": None if cluster is None else str(cluster.absolute()),
        "overrides": overrides or None,
    }  # fmt: skip
    given = read_plan(file) if file is not None else {}
    given |= {key: value for key, value in options.items() if value is not None}
    signal.signal(signal.SIGTERM, _terminated)
    search = None
    try:
        search = Search(name, given, _archer(), lambda line: complain(f"search {name}: {line}"))
        search.run()
    except (KeyboardInterrupt, _Terminated) as stopped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it asks for is under way
        if search is not None:
            search.stop()
        raise typer.Exit(INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else TERMINATED) from None
    finally:
        if search is not None:
            search.folder.give_back()
    say(f"archer search report {name}")


@search_app.command()
def show(
    name: Name,
    follow: Annotated[bool, typer.Option(help="Go on until the search ends or Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(callback=seconds("--interval", 0.1), help="Seconds between looks with --follow.")
    ] = 5.0,
) -> None:
    """Show a search's trials: what each changes, its score now and at its peak, its verdict; and the budget."""
    import time

    from rich.live import Live

    from recipes.archer.reports.terminal import console

    view, over = _view(name)
    if not follow:
        console().print(view)
        return
    try:
        with Live(view, console=console(), auto_refresh=False) as screen:
            screen.refresh()
            while not over:
                time.sleep(interval)
                view, over = _view(name)
                screen.update(view, refresh=True)
    except KeyboardInterrupt:  # how the user ends it
        return


@search_app.command()
def report(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="The file; default report.html in the search's folder.")] = None,
) -> None:
    """Write a search's page: the trials, what each setting accounts for, and pictures."""
    from recipes.archer.search.folder import SearchFolder
    from recipes.archer.search.page import write_page

    try:
        say(write_page(SearchFolder(name), out))
    except OSError as problem:
        raise UserError(f"the page cannot be written ({problem.strerror}): name another file with --out") from None


@search_app.command()
def adopt(
    name: Name,
    trial: Annotated[int | None, typer.Argument(help="Which trial; default the best.")] = None,
    experiment: Annotated[str | None, typer.Option("--as", help="The experiment's name.")] = None,
) -> None:
    """Write a trial's settings as an experiment, with what the search found as its rationale."""
    from recipes.archer.search.starting import adopt_trial

    say(adopt_trial(name, trial, experiment))
    say("then: archer experiment resolve && archer experiment render")


class _Terminated(Exception):  # noqa: N818  (not an error)
    """SIGTERM has come."""


def _terminated(*_: object) -> None:
    raise _Terminated


def _archer() -> list[str]:
    """The argv of this command, of this checkout."""
    from recipes.archer.settings.configuration import ROOT

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return [sys.executable, "-P", "-c", "from recipes.archer.commands.cli import main; main()"]


def _settings(settings: list[str] | None) -> dict[str, str] | None:
    """What --set gives, by key.

    Raises:
        UserError: one has no value, or two have one key.
    """
    found: dict[str, str] = {}
    for text in settings or []:
        key, sign, value = text.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise UserError(f"--set {text}: write KEY=A,B,C or KEY=LOW..HIGH")
        if key in found:
            raise UserError(f"--set {key} is given twice; write its values behind one another")
        found[key] = value
    return found or None


def _view(name: str) -> tuple[Any, bool]:
    """The table of a search, and whether everything of it has ended."""
    from rich.console import Group
    from rich.table import Table

    from recipes.archer.reports.terminal import colored, shown
    from recipes.archer.search.folder import SearchFolder
    from recipes.archer.search.table import HEADINGS, standing

    now = standing(SearchFolder(name))
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for line in (*now.lines, *now.again):
        *cells, verdict, outcome = line.cells
        table.add_row(*map(shown, cells), colored(verdict), shown(outcome))
    return Group(table, *map(shown, now.sentences)), now.over
