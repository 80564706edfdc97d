"""`archer compare`: runs side by side."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more: folders, or names under output/.")],
    out: Annotated[Path, typer.Option(help="Picture of the curves.")] = Path("compare.png"),
) -> None:
    """Show what differs between runs: configuration, figures, and a picture of the curves."""
    from recipes.archer.ending import UserError
    from recipes.archer.evaluation.tables import best_lines, evaluations_in
    from recipes.archer.reports import comparison
    from recipes.archer.reports.terminal import console, table
    from recipes.archer.reports.text import printable
    from recipes.archer.reports.verdict import state_of
    from recipes.archer.runs.folder import locate, read_run

    if len(runs) < 2:
        raise UserError("compare needs two runs or more: `archer runs` lists them, `archer report` shows one")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist; make it, or name another")
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
    if evaluated := best_lines([evaluations_in(run.folder) for run in read]):
        safe = [(printable(name), values) for name, values in evaluated]
        terminal.print(table("Evaluations: highest score, 95% interval", names, safe))
    comparison.plot_comparison(read, out)
    terminal.print(f"curves: {out}", markup=False, soft_wrap=True)
