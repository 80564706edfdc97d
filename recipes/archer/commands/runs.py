"""`archer runs`: every run under a folder, and how it stands."""

from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.printable import complain


def runs(
    output: Annotated[Path, typer.Argument(help="Folder that holds the runs.")] = Path("output"),
) -> None:
    """List all runs: where they began and went back, experiment, steps, status, verdict, best and last figures."""
    from concurrent.futures import ProcessPoolExecutor

    from rich.table import Table

    from recipes.archer.ending import UserError
    from recipes.archer.reports.terminal import console
    from recipes.archer.runs.folder import find_runs

    found = find_runs(output)
    if not found:
        raise UserError(f"{output} holds no run: name the folder that does (trainer.output_dir)")
    table = Table(caption="accuracy held out, or in training where it was not measured; oldest run first")
    for heading in ("run", "experiment", "steps", "status", "verdict"):
        table.add_column(heading, overflow="fold")
    for heading in ("best accuracy", "last", "entropy", "length", "KL", "best evaluation"):
        table.add_column(heading, justify="right")
    with ProcessPoolExecutor() as processes:  # a run of a thousand steps takes a quarter of a second
        lines = list(processes.map(_line_or_problem, found))
    for line in lines:
        if not isinstance(line, str):
            table.add_row(*line)
    console().print(table)
    for line in lines:
        if isinstance(line, str):
            complain(f"archer: {line}")


def _line_or_problem(folder: Path) -> list | str:
    """A run's row of the table, or why there is none: one damaged run must not hide the others."""
    import time

    from recipes.archer.ending import UserError
    from recipes.archer.runs.folder import read_run

    try:
        return _line(read_run(folder), time.time())
    except UserError as problem:
        return str(problem)
    except Exception as problem:  # whatever a folder of unknown making leads to is the matter of its own line
        return f"{folder} cannot be shown ({type(problem).__name__}: {problem}): `archer report` on it says more"


def _line(run, now: float) -> list:
    from recipes.archer.evaluation.tables import evaluations_in, highest
    from recipes.archer.reports.figures import TRAIN, best_row, formatted, last, number
    from recipes.archer.reports.provenance import status, turns
    from recipes.archer.reports.terminal import colored, shown
    from recipes.archer.reports.verdict import state_of

    def at_end(key: str, form: str) -> str:
        found = last(run.rows, key)
        return formatted(found[1] if found else None, form)

    best = best_row(run.rows)
    row, key = best or ({}, TRAIN)
    best_text = formatted(number(row.get(key)), ".3f") + (f" (step {row['step']})" if row else "")
    origin = f"\n↳ {run.forked_from}" if run.forked_from else ""
    back = f"\n↩ {turns(run)}" if run.courses else ""
    words = (run.name + origin + back, run.experiment or "–", str(run.rows[-1]["step"] if run.rows else 0))
    figures = (at_end(key, ".3f"), at_end("actor/entropy", ".2f"), at_end("response_length/mean", ".0f"))
    return [
        *map(shown, words),
        colored(status(run, now)),
        colored(state_of(run)),
        best_text,
        *figures,
        at_end("actor/kl_loss", ".4f"),
        shown(highest(evaluations_in(run.folder))),
    ]
