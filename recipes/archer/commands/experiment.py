"""`archer experiment`: the experiments on record, and the next one."""

from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.printable import complain, say

experiment_app = typer.Typer(no_args_is_help=True, help="List, show and start experiments; render their documents.")

Name = Annotated[str, typer.Argument(help="Which experiment, for example v3.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is not current.")]


@experiment_app.command("list")
def list_experiments() -> None:
    """List the experiments: parent, what each changes, what came of it."""
    from rich.table import Table

    from recipes.archer.ending import UserError
    from recipes.archer.experiments import registry
    from recipes.archer.reports.terminal import console, shown

    table, problems = Table("experiment", "parent", "changes", "outcome"), []
    for name in registry.names():
        try:
            table.add_row(*map(shown, _line(name)))
        except UserError as problem:  # a broken file must not hide the others
            problems.append(problem)
    console().print(table)
    for problem in problems:
        complain(f"archer: {problem}")


def _line(name: str) -> tuple[str, str, str, str]:
    from recipes.archer.experiments import registry

    record = registry.load_record(name)
    named = [key for key in registry.changes(name) if key != "trainer.experiment_name"]
    changed = ", ".join([key.split(".")[-1] for key in named[:4]] + ["…"] * (len(named) > 4))
    outcome = record.results.outcome if record.results else "no results recorded"
    return name, record.parent or "base", changed, outcome


@experiment_app.command()
def show(name: Name) -> None:
    """Print an experiment's page, and what is still missing in its plan."""
    from recipes.archer.experiments import registry
    from recipes.archer.experiments.pages import page
    from recipes.archer.experiments.records import todo

    say(page(name))
    gaps = todo(registry.load_record(name))
    if gaps:
        complain(f"still to be written: {', '.join(gaps)}")


@experiment_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the new experiment, for example v6.")],
    parent: Annotated[str, typer.Option("--from", help="The experiment that it changes.")],
    overrides: Annotated[list[str], typer.Option("--set", help="KEY=VALUE; may be repeated.")],
    hypothesis: Annotated[str, typer.Option(help="What is expected of it.")] = "TODO: what is expected, and why",
) -> None:
    """Start the next experiment: writes its file, with the plan to fill in."""
    from recipes.archer.experiments import registry
    from recipes.archer.experiments.new import write_new
    from recipes.archer.experiments.records import todo

    path = write_new(name, parent, overrides, hypothesis)
    record = registry.load_record(name)
    say(f"{path}\nW&B run {registry.composed(name).trainer.experiment_name}, job {record.job}")
    say(f"write: {', '.join(todo(record)) or 'nothing is missing'}; look over criteria and contingency")
    say("then: archer experiment resolve && archer experiment render")


@experiment_app.command()
def resolve(check: Check = False) -> None:
    """Write every experiment's resolved configuration to config/resolved/."""
    from recipes.archer.experiments.files import resolved_files

    _make(resolved_files(), check, "archer experiment resolve")


@experiment_app.command()
def render(check: Check = False) -> None:
    """Write every experiment's page to docs/experiments/."""
    from recipes.archer.experiments.files import page_files

    _make(page_files(), check, "archer experiment render")


def _make(files: dict[Path, str], check: bool, command: str) -> None:
    from recipes.archer.experiments.files import stale, write

    if check:
        problems = stale(files)
        for problem in problems:
            complain(problem)
        if problems:
            complain(f"run: {command}")
            raise typer.Exit(1)
        return
    for path in write(files):
        say(path)
