"""Rows and samples of a run folder when the run goes on from an earlier step than it had come to.

What comes after that step is put aside into the folder ``.behind_<step>``. The checkpoints that it belongs to count
until the new attempt has saved one of its own, and until then a start may go on from one of them after all.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from recipes.archer.files import refuse_link, write_atomically
from recipes.archer.reading.json import parse_json
from recipes.archer.reading.regular import UnreadableError, line_blocks, read_text
from recipes.archer.runs.names import BRANCHES, CONFIG, METRICS, SAMPLE_FILE, SAMPLES

ROWS = "rows.jsonl"  # not the name by which a run folder is known
_ASIDE = re.compile(r"\.behind_(\d+)")


def go_on_after(folder: Path, last_step: int, row: dict[str, Any] | None = None) -> list[int]:
    """Leaves the rows and samples up to a step, also those of them that an earlier start has put aside.

    A kill in here loses no row: what is put aside is written before it is taken away.

    Args:
        folder: the run folder.
        last_step: that the run goes on after.
        row: of this step as the checkpoint has it, None where it has none. It tells a checkpoint of the attempt that
            the rows at hand are of from one of the attempt that was put aside.

    Returns:
        The steps that there are rows of.
    """
    samples, later = folder / SAMPLES, folder / f".behind_{last_step}"
    rows, asides = _rows(folder / METRICS), _asides(folder)
    for step, aside in sorted(asides.items()):  # the first has all that later ones have
        if not (aside / ROWS).exists():
            continue  # killed before they were written
        if step < last_step and row is not None and json.dumps(row) in [line for _, line in rows]:
            continue  # saved since; there was no time left to remove what was put aside
        rows = [(number, line) for number, line in rows if number <= step] + _rows(aside / ROWS)
        _move_samples(aside, samples)
        break
    if after := [line for number, line in rows if number > last_step]:
        refuse_link(later, folder=True)
        later.mkdir(exist_ok=True)
        write_atomically(later / ROWS, "".join(f"{line}\n" for line in after))
    if rows or (folder / METRICS).exists():
        write_atomically(folder / METRICS, "".join(f"{line}\n" for number, line in rows if number <= last_step))
    _move_samples(samples, later, last_step)
    for temporary in samples.glob(".*.tmp"):  # of a kill in the middle of a write
        temporary.unlink()
    for aside in asides.values():
        if aside != later:
            shutil.rmtree(aside, ignore_errors=True)
    return [number for number, _ in rows if number <= last_step]


def forget_what_was_behind(folder: Path) -> None:
    """After the first save of an attempt: what was put aside belongs to checkpoints that no longer count."""
    for aside in _asides(folder).values():
        shutil.rmtree(aside, ignore_errors=True)


def branch_off(folder: Path, number: int, last_step: int) -> Path:
    """Moves what a run has written after a step, and leaves for good, into the folder ``branches/<number>``.

    A kill in here loses nothing, and the same call brings it to its end.

    Returns:
        The branch's folder: rows, samples and the configuration that they were made with.
    """
    branch, rows = folder / BRANCHES / str(number), _rows(folder / METRICS)
    for path in (branch.parent, branch, branch / SAMPLES):
        refuse_link(path, folder=True)
        path.mkdir(exist_ok=True)
    if after := [line for step, line in rows if step > last_step]:  # none: they are there
        write_atomically(branch / METRICS, "".join(f"{line}\n" for line in after))
        write_atomically(branch / CONFIG, read_text(folder / CONFIG, inside=folder))
    _move_samples(folder / SAMPLES, branch / SAMPLES, last_step)
    write_atomically(folder / METRICS, "".join(f"{line}\n" for step, line in rows if step <= last_step))
    forget_what_was_behind(folder)
    return branch


def _rows(path: Path) -> list[tuple[int, str]]:
    """Steps and lines of a file of rows, without those that a kill in the middle of a write tore."""
    rows = []
    try:
        for block in line_blocks(path, inside=path.parent):
            rows += [(step, line.decode()) for line in block if (step := _step(line)) is not None]
    except UnreadableError as error:
        if not error.absent:
            raise
    return rows


def _step(line: bytes) -> int | None:
    try:
        step = parse_json(line, "")["step"]
    except (UnreadableError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _asides(folder: Path) -> dict[int, Path]:
    found = {path: _ASIDE.fullmatch(path.name) for path in folder.glob(".behind_*")}
    return {int(match[1]): path for path, match in found.items() if match}


def _move_samples(source: Path, target: Path, after: int = 0) -> None:
    for path in source.glob("step_*.jsonl"):
        match = SAMPLE_FILE.fullmatch(path.name)
        if match and int(match[1]) > after:
            target.mkdir(exist_ok=True)
            os.replace(path, target / path.name)
