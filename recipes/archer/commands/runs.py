"""`archer runs`: every run under a folder, and how it stands."""

from pathlib import Path
from typing import Annotated

import typer


def runs(
    output: Annotated[Path, typer.Argument(help="Folder that holds the runs.")] = Path("output"),
) -> None:
    """List all runs: experiment, steps, status, verdict, best and last figures."""
    import time

    from rich.table import Table

    from recipes.archer.ending import UserError
    from recipes.archer.reports.terminal import console
    from recipes.archer.run_folder import find_runs, read_run

    found = find_runs(output)
    if not found:
        raise UserError(f"{output} holds no run: name the folder that does (trainer.output_dir)")
    table = Table(caption="accuracy held out, or in training where it was not measured; oldest run first")
    for heading in ("run", "experiment", "steps", "status", "verdict"):
        table.add_column(heading, overflow="fold")
    for heading in ("best accuracy", "last", "entropy", "length", "KL"):
        table.add_column(heading, justify="right")
    problems = []
    for folder in found:
        try:
            table.add_row(*_line(read_run(folder), time.time()))
        except UserError as problem:  # one damaged run must not hide the others
            problems.append(str(problem))
    console().print(table)
    for problem in problems:
        typer.echo(f"archer: {problem}", err=True)


def _line(run, now: float) -> list:
    from rich.text import Text

    from recipes.archer.reports.figures import TRAIN, best_row, formatted, last, number
    from recipes.archer.reports.provenance import status
    from recipes.archer.reports.terminal import colored
    from recipes.archer.reports.text import printable
    from recipes.archer.reports.verdict import judge

    def at_end(key: str, form: str) -> str:
        found = last(run.rows, key)
        return formatted(found[1] if found else None, form)

    best = best_row(run.rows)
    row, key = best or ({}, TRAIN)
    best_text = formatted(number(row.get(key)), ".3f") + (f" (step {row['step']})" if row else "")
    words = (printable(run.name), printable(run.experiment or "–"), str(run.rows[-1]["step"] if run.rows else 0))
    figures = (at_end(key, ".3f"), at_end("actor/entropy", ".2f"), at_end("response_length/mean", ".0f"))
    return [
        *map(Text, words),
        colored(status(run, now)),
        colored(judge(run).state),
        best_text,
        *figures,
        at_end("actor/kl_loss", ".4f"),
    ]
