"""`archer grade`: a file of responses in, the same file with grades out."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from recipes.archer.ending import UserError
from recipes.archer.files import replacing
from recipes.archer.grading.answers import GroundTruthError, accepted_forms
from recipes.archer.grading.grader import DEFAULT_TIMEOUT_S, GradingPool
from recipes.archer.grading.grades import OUTCOMES, Grade, PendingGrades
from recipes.archer.reading.json import parse_json
from recipes.archer.reading.regular import line_blocks
from recipes.archer.settings.rules import seconds

_POLL_S = 0.2


class AnswerFormat(StrEnum):
    """What may be taken for the answer."""

    boxed = "boxed"
    any = "any"


DEFAULT_WORKERS = max(1, (os.cpu_count() or 1) // 2)


def grade_command(
    input_path: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="Rows with `response` and `ground_truth`.")],
    output_path: Annotated[
        Path, typer.Argument(metavar="OUT.jsonl", help="The rows with `score`, `outcome`, `answer`.")
    ],
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Grading processes.")] = DEFAULT_WORKERS,
    timeout: Annotated[
        float, typer.Option(callback=seconds("--timeout", 0.01), help="Seconds for one check, at most a day.")
    ] = DEFAULT_TIMEOUT_S,
    answer_format: Annotated[
        AnswerFormat, typer.Option(help="boxed: the last box; any: else the last formula or number.")
    ] = AnswerFormat.boxed,
) -> None:
    """Grade responses against ground truths; a malformed row ends it before anything is graded."""
    from recipes.archer.reports.terminal import console

    rows = read_input(input_path)
    if not os.path.isdir(output_path.absolute().parent):
        raise UserError(f"{output_path}: its folder does not exist: make it first")
    # made before anything is graded: that it cannot be written is found out before the work, not after it
    with ExitStack() as output:
        with _writing(output_path):
            file = output.enter_context(replacing(output_path))
        with GradingPool(workers, timeout, answer_format=answer_format.value) as pool:
            pending = pool.submit([row["response"] for row in rows], [row["ground_truth"] for row in rows])
            grades = _wait_with_progress(pending)
        with _writing(output_path):
            write_output(file, rows, grades)
            output.close()
    console().print(summary(grades))


def read_input(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, each checked for what grading needs. Blank lines are passed over.

    Raises:
        UserError: names the file, the line and the field.
    """
    numbered = enumerate((line for block in line_blocks(path) for line in block), 1)
    return [_checked_row(line, f"{path} line {number}") for number, line in numbered if line.strip()]


def _checked_row(line: bytes, place: str) -> dict:
    row = parse_json(line, place)
    if not isinstance(row, dict):
        raise UserError(f"{place}: not a JSON object")
    for field in ("response", "ground_truth"):
        if field not in row:
            raise UserError(f"{place}: no field {field!r}")
    if not isinstance(row["response"], str):
        raise UserError(f"{place}: 'response' is not a string")
    try:
        accepted_forms(row["ground_truth"])
    except GroundTruthError as error:
        raise UserError(f"{place}: 'ground_truth': {error}") from error
    return row


def _wait_with_progress(pending: PendingGrades) -> list[Grade]:
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from recipes.archer.reports.terminal import console

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("grading", total=len(pending))
        while not pending.wait(_POLL_S):
            progress.update(task, completed=pending.num_done)
        progress.update(task, completed=pending.num_done)
    return pending.result()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): name another, or make room") from None


def write_output(file: BinaryIO, rows: Sequence[dict], grades: Sequence[Grade]) -> None:
    """Writes the graded rows."""
    for row, grade in zip(rows, grades, strict=True):
        verdict = {"score": grade.score, "outcome": grade.outcome, "answer": grade.answer}
        file.write(json.dumps(row | verdict).encode() + b"\n")


def summary(grades: Sequence[Grade]):
    """The number and share of rows by outcome, as a Rich table."""
    from rich.table import Table

    counts = Counter(grade.outcome for grade in grades)
    table = Table("outcome", title=f"{len(grades)} responses")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    for outcome in OUTCOMES:
        share = f"{counts[outcome] / len(grades):.1%}" if grades else "-"
        table.add_row(outcome, str(counts[outcome]), share)
    return table
