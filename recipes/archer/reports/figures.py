"""The figures a run is read by: first, at its best step, last."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

UNREADABLE = 1e15  # from here on a figure is written with an exponent
_NUMBERS = {float, int, bool, type(None)}
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
    values = [row.get(key) for row in rows]
    if not set(map(type, values)) <= _NUMBERS:
        values = [value if isinstance(value, int | float) else None for value in values]
    return np.array(values, dtype=float)


def first(rows: Iterable[dict], key: str) -> tuple[int, float] | None:
    """(step, value) of the metric's first finite value."""
    for row in rows:
        value = row.get(key)
        if value is not None and (finite := number(value)) is not None:
            return row["step"], finite
    return None


def last(rows: Sequence[dict], key: str) -> tuple[int, float] | None:
    """(step, value) of the metric's last finite value."""
    return first(reversed(rows), key)


def best_row(rows: Sequence[dict]) -> tuple[dict, str] | None:
    """The row with the highest accuracy and the metric that says so; the earliest of equals.

    Held-out accuracy decides when it was measured after training began, else training accuracy.
    """
    steps = np.array([row["step"] for row in rows], dtype=float)
    for key in (VAL, TRAIN):
        values = series(rows, key)
        measured = np.isfinite(values) & (steps > 0)
        if measured.any():
            return rows[int(np.where(measured, values, -np.inf).argmax())], key
    return None


def formatted(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none; scientific where the form would round it to nothing."""
    if value is None:
        return "–"
    if abs(value) >= UNREADABLE:
        return f"{value:.1e}"
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
