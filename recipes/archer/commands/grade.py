"""`archer grade`: a file of responses in, the same file with grades out."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.ending import UserError
from recipes.archer.grading.answers import GroundTruthError, accepted_forms
from recipes.archer.grading.grader import DEFAULT_TIMEOUT_S, GradingPool
from recipes.archer.grading.grades import OUTCOMES, Grade, PendingGrades

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
    workers: Annotated[int, typer.Option(min=1, help="Grading processes.")] = DEFAULT_WORKERS,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds for one check.")] = DEFAULT_TIMEOUT_S,
    answer_format: Annotated[
        AnswerFormat, typer.Option(help="boxed: the last box; any: else the last formula or number.")
    ] = AnswerFormat.boxed,
) -> None:
    """Grade responses against ground truths; a malformed row ends it before anything is graded."""
    from rich.console import Console

    rows = read_input(input_path)
    if not output_path.absolute().parent.is_dir():
        raise UserError(f"{output_path}: its folder does not exist: make it first")
    with GradingPool(workers, timeout, answer_format=answer_format.value) as pool:
        pending = pool.submit([row["response"] for row in rows], [row["ground_truth"] for row in rows])
        grades = _wait_with_progress(pending)
    write_output(output_path, rows, grades)
    Console().print(summary(grades))


def read_input(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, each checked for what grading needs. Blank lines are passed over.

    Raises:
        UserError: names the file, the line and the field.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return [_checked_row(line, f"{path} line {number}") for number, line in numbered]


def _checked_row(line: str, place: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}") from error
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
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("grading", total=len(pending))
        while not pending.wait(_POLL_S):
            progress.update(task, completed=pending.num_done)
        progress.update(task, completed=pending.num_done)
    return pending.result()


def write_output(path: Path, rows: Sequence[dict], grades: Sequence[Grade]) -> None:
    """Writes the graded rows; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row, grade in zip(rows, grades, strict=True):
                verdict = {"score": grade.score, "outcome": grade.outcome, "answer": grade.answer}
                file.write(json.dumps(row | verdict) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
