"""`archer compare`: runs side by side."""

import os
from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.printable import complain


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more: folders, or names under output/.")],
    out: Annotated[Path, typer.Option(help="Picture of the curves, a PNG whatever its name.")] = Path("compare.png"),
) -> None:
    """Show what differs between runs: configuration, figures, and a picture of the curves."""
    from recipes.archer.ending import UserError
    from recipes.archer.evaluation.tables import best_lines, read_evaluations
    from recipes.archer.files import refuse_link, write_atomically
    from recipes.archer.reports import comparison
    from recipes.archer.reports.terminal import console, shown, table
    from recipes.archer.reports.verdict import state_of
    from recipes.archer.runs.folder import locate, read_run

    if len(runs) < 2:
        raise UserError("compare needs two runs or more: `archer runs` lists them, `archer report` shows one")
    if not os.path.isdir(out.absolute().parent):
        raise UserError(f"--out {out}: its folder does not exist; make it, or name another")
    refuse_link(out)
    read = [read_run(locate(name)) for name in runs]
    names = comparison.labels(read)
    verdicts = ("verdict", [state_of(run) for run in read])
    terminal = console()
    settings = comparison.config_differences(read)
    terminal.print(table("Configuration", names, settings or [("no setting differs", [""] * len(read))]))
    facts = comparison.fact_differences(read)
    if facts:
        terminal.print(table("Code and machine", names, facts))
    terminal.print(table("Figures: best step → last", names, [*comparison.figure_lines(read), verdicts]))
    found = [read_evaluations(run.folder) for run in read]
    for run, (_, left_out) in zip(read, found, strict=True):
        for told in left_out:
            complain(f"{run.folder}: {told}")
    if evaluated := best_lines([evaluations for evaluations, _ in found]):
        terminal.print(table("Evaluations: highest score, 95% interval", names, evaluated))
    try:
        write_atomically(out, comparison.comparison_png(read))
    except OSError as problem:  # a folder of someone else's, a full disk, a name that is too long
        raise UserError(f"{out} cannot be written ({problem.strerror}): name another with --out") from None
    terminal.print(shown(f"curves: {out}"), soft_wrap=True)
