"""`archer samples`: responses of a run in the terminal, coloured by grade."""

import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer


class Outcome(StrEnum):
    """The grader's outcomes."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"
    unparseable = "unparseable"
    timeout = "timeout"


def samples(
    run: Annotated[str, typer.Argument(help="Folder of the run, or its name under output/.")],
    step: Annotated[int | None, typer.Option(help="Of which step; default: the last one kept.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only responses graded so.")] = None,
) -> None:
    """Page through the responses that a run kept, with their grades."""
    from recipes.archer.ending import UserError
    from recipes.archer.reports.samples import outcome as outcome_of
    from recipes.archer.runs.folder import locate, read_run, read_samples, sample_steps

    read = read_run(locate(run))
    steps = sample_steps(read)
    if step is None and not steps:
        raise UserError(f"{read.folder}/samples holds no responses: trainer.samples_freq says when they are kept")
    shown_step = steps[-1] if step is None else step
    rows = read_samples(read, shown_step)
    chosen = [row for row in rows if outcome is None or outcome_of(row) == outcome]
    others = ", ".join(str(other) for other in steps if other != shown_step) or "none"
    word = f" graded {outcome}" if outcome else ""
    title = f"step {shown_step}: {len(chosen)} of {len(rows)} responses{word}; other steps: {others}"
    _show(title, chosen)


def _show(title: str, rows: list[dict]) -> None:
    """In a pager on a terminal, else straight to stdout."""
    from recipes.archer.reports.terminal import console, shown

    terminal = console()

    def write() -> None:
        terminal.print(shown(title, "bold"), soft_wrap=True)
        for number, row in enumerate(rows, start=1):
            for line in _response(number, len(rows), row):
                terminal.print(line, soft_wrap=True)

    if not sys.stdout.isatty():
        return write()
    os.environ.setdefault("LESS", "-RFX")  # show colours, stay out of the way when all fits on a screen
    with terminal.pager(styles=True):
        write()


def _response(number: int, count: int, row: dict) -> Iterator:
    from rich.text import Text

    from recipes.archer.reports.samples import grade_text, outcome
    from recipes.archer.reports.terminal import colored, shown

    yield Text.assemble(f"\n──── {number}/{count} ", colored(outcome(row)), " ", shown(grade_text(row), "dim"))
    yield shown(row.get("prompt") or "", "dim")
    yield shown("────", "dim")
    yield shown(row.get("response") or "(empty)")
