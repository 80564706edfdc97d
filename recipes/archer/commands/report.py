"""`archer report`: a run as Markdown and as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.printable import say


def report(
    run: Annotated[str, typer.Argument(help="Folder of the run, or its name under output/.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default: report/ in the run's.")] = None,
) -> None:
    """Write a run's report: curves, criteria, verdicts, responses, provenance."""
    from recipes.archer.ending import UserError
    from recipes.archer.reports.writing import write_report
    from recipes.archer.runs.folder import locate, read_run

    read = read_run(locate(run))
    target = out or read.folder / "report"
    try:
        files = write_report(read, target)
    except OSError as problem:  # a run folder of someone else's, a full disk
        raise UserError(f"{target} cannot be written ({problem.strerror}): name another with --out") from None
    for file in files:
        say(file)
