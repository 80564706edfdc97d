"""Reads a run's metrics from wherever they are: a run folder, a bare metrics.jsonl, or a W&B offline folder."""

import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.reading.json import parse_json, read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError, line_blocks
from recipes.archer.reading.yaml import read_yaml
from recipes.archer.runs.names import CONFIG, METRICS, RUN, STEP_KEYS, without_course

ALIASES = {"logical_connectives": "logical_connectives/mean"}  # how the runs V0 to V5 logged it
NOT_FINITE = ("nan", "inf", "-inf", "infinity", "-infinity")  # in any case: W&B's text, Python's, strict JSON writers'
MOST_STEPS = 1 << 53  # beyond, a float no longer tells one step from the next
_BLANK = b"\0 \r\t"  # NUL: what a file system makes of a write that a power cut interrupted
_NAMED = 20  # torn lines that a note names
_OVER = ("finished", "stopped", "failed")
_WANDB_FILES = ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb")  # in a run's folder, in wandb/, beside wandb/


@dataclass(frozen=True)
class Metrics:
    """A run's metrics.

    Attributes:
        source: the file that was read; of several, the newest.
        rows: one a step, in order, each with ``step``; a step that was done again after a resume is its last version.
        config: the run's configuration; empty where there is none.
        over: whether run.json says that the run has ended.
        notes: what had to be left out, in words.
    """

    source: Path
    rows: list[dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)
    over: bool = False
    notes: tuple[str, ...] = ()


def read_metrics(path: Path) -> Metrics:
    """Reads metrics.

    Args:
        path: a run folder, a JSON Lines file, a ``.wandb`` file, or a folder with one.

    Raises:
        UserError: there is nothing to read there, or what there is cannot be read; names file and line.
    """
    given = Path(path)
    try:
        source = _source(given)
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"{given} cannot be read ({error.strerror}): check its permissions") from None
    beside = source.parent
    facts = _facts(beside / RUN)  # before the rows: a run that is over by now has written all of them
    inside = None if given.is_file() else given  # a file that the user names may lie anywhere, a folder's may not
    if source.suffix == ".wandb":
        return _wandb(source, _parts(given, source), inside)
    rows, notes = _json_rows(source, inside)
    over = isinstance(facts.get("status"), str) and facts["status"] in _OVER
    return Metrics(source, _in_order(rows, source), read_config(beside), over, notes)


def _source(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        return path
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a run folder, a metrics.jsonl or a W&B offline folder")
    if os.path.lexists(path / METRICS):
        return path / METRICS
    for pattern in _WANDB_FILES:
        found = sorted(path.glob(pattern), key=_written)
        if found:
            return found[-1]
    raise UserError(f"{path} has neither {METRICS} nor a .wandb file: give the folder of one run")


def _parts(given: Path, source: Path) -> list[Path]:
    """The files of a W&B run, the oldest first: each attempt at each course wrote its own, named for the run's id."""
    if given.is_file():
        return [source]
    run = without_course(source.stem)
    found = {path for pattern in _WANDB_FILES for path in given.glob(pattern) if without_course(path.stem) == run}
    return sorted(found, key=_written)


def _wandb(source: Path, parts: list[Path], inside: Path | None) -> Metrics:
    from recipes.archer.runs.wandb_offline import read_wandb

    runs = [read_wandb(part, inside) for part in parts]
    config = {key: value for run in runs for key, value in run.config.items()}
    return Metrics(source, _in_order((row for run in runs for row in run.rows), source), config)


def _written(path: Path) -> float:
    return os.lstat(path).st_mtime


def _json_rows(path: Path, inside: Path | None) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Rows and notes.  Torn lines are no error: the last one is being written, an earlier one was at a kill."""
    rows: list[dict[str, Any]] = []
    torn: list[int] = []
    number = 0
    for block in line_blocks(path, inside=inside):
        lines = [line for line in block if line.strip(_BLANK)]
        together = _parsed_together(lines)
        if together is not None:
            rows += together
        else:
            for place, line in enumerate(block, start=number + 1):
                if line.strip(_BLANK):
                    row = _row(line, f"{path} line {place}")
                    rows.append(row) if row is not None else torn.append(place)
        number += len(block)
    if torn and torn[-1] == number:  # what comes after the last line end is still being written
        torn.pop()
    if torn and not rows:
        raise UserError(f"{path} holds no readable row: not a run's metrics")
    named = ", ".join(map(str, torn[:_NAMED])) + (f" and {len(torn) - _NAMED} more" if len(torn) > _NAMED else "")
    return rows, (f"left out torn line {named}",) if torn else ()


def _parsed_together(lines: list[bytes]) -> list[dict[str, Any]] | None:
    """Rows of many lines at once, which share their keys' memory; None where one line has to be looked at alone."""
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return rows if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows) else None


def _row(line: bytes, where: str) -> dict[str, Any] | None:
    """A line's row; None of one that is torn."""
    text = line.decode("utf-8-sig", errors="replace")  # sig: some editors put a mark first
    try:
        row = parse_json(text, where)
    except DamagedError as error:
        if not text.lstrip().startswith("{"):
            raise UserError(f"{where} is not JSON: not a run's metrics") from None
        if error.too_deep:
            raise UserError(f"{error}: not a run's metrics") from None
        return None
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object: not a run's metrics")
    return row


def _in_order(rows: Iterable[dict[str, Any]], source: Path) -> list[dict[str, Any]]:
    """Rows with their step, ascending; where the steps go back, the run was resumed and the earlier rows are void."""
    ordered: list[dict[str, Any]] = []
    last = -MOST_STEPS - 1
    for number, row in enumerate(rows, start=1):
        step = next((int(row[key]) for key in STEP_KEYS if _is_step(row.get(key))), None)
        if step is None:
            raise UserError(f'{source} row {number} has no whole-number "step": not a run\'s metrics')
        if step <= last:
            while ordered and ordered[-1]["step"] >= step:
                ordered.pop()
        last = step
        if not ALIASES.keys().isdisjoint(row):
            row = {ALIASES.get(key, key): value for key, value in row.items()}
        for key, value in row.items():
            if isinstance(value, float) or value is None:  # nearly all of them
                continue
            if isinstance(value, str):
                if value.lower() in NOT_FINITE:
                    row[key] = float(value)
            elif isinstance(value, int) and abs(value) > sys.float_info.max:  # JSON knows no bounds
                row[key] = math.inf if value > 0 else -math.inf
        row["step"] = step
        ordered.append(row)
    return ordered


def _is_step(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST_STEPS and value % 1 == 0


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = read_json(path, inside=path.parent)
    except UnreadableError:  # absent, or a run of another tool; the metrics do not depend on it
        return {}
    return facts


def read_config(folder: Path) -> dict[str, Any]:
    """A run folder's config.yaml; empty when there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / CONFIG
    try:
        config = read_yaml(path, inside=folder)
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error.reason}): mend it, or move it away") from None
    except UnreadableError as error:
        if error.absent:
            return {}
        raise
    return config if isinstance(config, dict) else {}
