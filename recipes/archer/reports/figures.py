"""The figures a run is read by: first, at its best step, last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

VAL, TRAIN = "val/accuracy", "reward/accuracy/mean"


@dataclass(frozen=True)
class Figure:
    """A metric that every table shows: what it is called, its key, and how it is written."""

    label: str
    key: str
    form: str


FIGURES = (
    Figure("accuracy, held out", VAL, ".3f"),
    Figure("accuracy, training", TRAIN, ".3f"),
    Figure("score", "critic/score/mean", ".3f"),
    Figure("entropy", "actor/entropy", ".2f"),
    Figure("response length", "response_length/mean", ".0f"),
    Figure("KL to reference", "actor/kl_loss", ".4f"),
    Figure("connectives a response", "logical_connectives/mean", ".2f"),
)


def number(value: Any) -> float | None:
    """A metric's value if it is a finite number, else None."""
    usable = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if usable else None


def series(rows: Sequence[dict], key: str) -> np.ndarray:
    """A metric over the rows, (rows,); NaN where the value is null, absent or no number."""
    return np.array([_float(row.get(key)) for row in rows], dtype=float)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def first(rows: Sequence[dict], key: str) -> tuple[int, float] | None:
    """(step, value) of the metric's first finite value."""
    found = ((row["step"], number(row.get(key))) for row in rows)
    return next((pair for pair in found if pair[1] is not None), None)


def last(rows: Sequence[dict], key: str) -> tuple[int, float] | None:
    """(step, value) of the metric's last finite value."""
    return first(rows[::-1], key)


def best_row(rows: Sequence[dict]) -> tuple[dict, str] | None:
    """The row with the highest accuracy and the metric that says so; the earliest of equals.

    Held-out accuracy decides when it was measured after training began, else training accuracy.
    """
    trained = [row for row in rows if row["step"] > 0]
    for key in (VAL, TRAIN):
        measured = [row for row in trained if number(row.get(key)) is not None]
        if measured:
            return max(measured, key=lambda row: row[key]), key
    return None


def formatted(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none; scientific where the form would round it to nothing."""
    if value is None:
        return "–"
    text = format(value, form)
    return f"{value:.1e}" if value and not float(text) else text


def end_figures(rows: Sequence[dict]) -> list[tuple[str, str, str, str]]:
    """(label, first, at the best step, last) of every figure the run has; a step is named if not obvious."""
    best = best_row(rows)
    lines = []
    for figure in FIGURES:
        start, end = first(rows, figure.key), last(rows, figure.key)
        if start is None or end is None:
            continue
        at_best = formatted(number(best[0].get(figure.key)) if best else None, figure.form)
        early = start[0] <= max(1, rows[0]["step"])  # step 0 is validation only, everything else begins at 1
        begun = _dated(*start, figure.form, obvious=early)
        ended = _dated(*end, figure.form, obvious=end[0] == rows[-1]["step"])
        lines.append((figure.label, begun, at_best, ended))
    return lines


def _dated(step: int, value: float, form: str, obvious: bool) -> str:
    text = formatted(value, form)
    return text if obvious else f"{text} (step {step})"


def best_title(rows: Sequence[dict]) -> str:
    """What "best" means for these rows."""
    best = best_row(rows)
    if best is None:
        return "best"
    return f"best: step {best[0]['step']}, highest {'held-out' if best[1] == VAL else 'training'} accuracy"


def end_table(rows: Sequence[dict]):
    """A run's figures at its first, best and last step, as a Rich table.

    Args:
        rows: of metrics.jsonl, in the order of the steps; may be empty.
    """
    from rich.table import Table

    table = Table(title_justify="left", caption=best_title(rows), caption_justify="left")
    table.add_column("")
    for heading in ("first", "best", "last"):
        table.add_column(heading, justify="right")
    for line in end_figures(rows):
        table.add_row(*line)
    return table
