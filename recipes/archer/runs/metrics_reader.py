"""Reads a run's metrics from wherever they are: a run folder, a bare metrics.jsonl, or a W&B offline folder."""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.runs.names import CONFIG, METRICS, RUN, STEP_KEYS

ALIASES = {"logical_connectives": "logical_connectives/mean"}  # how the runs V0 to V5 logged it
NOT_FINITE = ("nan", "inf", "-inf", "infinity", "-infinity")  # in any case: W&B's text, Python's, strict JSON writers'
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
    source = _source(Path(path))
    beside = source.parent
    facts = _facts(beside / RUN)  # before the rows: a run that is over by now has written all of them
    try:
        if source.suffix == ".wandb":
            return _wandb(source, _parts(Path(path), source))
        rows, notes = _json_rows(source)
    except OSError as error:  # permissions, a share that went away
        raise UserError(f"{source} cannot be read: {error.strerror}") from None
    return Metrics(source, _in_order(rows, source), _config(beside / CONFIG), facts.get("status") in _OVER, notes)


def _source(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a run folder, a metrics.jsonl or a W&B offline folder")
    if (path / METRICS).is_file():
        return path / METRICS
    for pattern in _WANDB_FILES:
        found = sorted(path.glob(pattern), key=_written)
        if found:
            return found[-1]
    raise UserError(f"{path} has neither {METRICS} nor a .wandb file: give the folder of one run")


def _parts(given: Path, source: Path) -> list[Path]:
    """The files of a W&B run, the oldest first: each attempt at it wrote its own, all of them with the run's id."""
    if given.is_file():
        return [source]
    found = {path for pattern in _WANDB_FILES for path in given.glob(pattern) if path.name == source.name}
    return sorted(found, key=_written)


def _wandb(source: Path, parts: list[Path]) -> Metrics:
    from recipes.archer.runs.wandb_offline import read_wandb

    runs = [read_wandb(part) for part in parts]
    config = {key: value for run in runs for key, value in run.config.items()}
    return Metrics(source, _in_order((row for run in runs for row in run.rows), source), config)


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _json_rows(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Rows and notes.  Torn lines are no error: the last one is being written, an earlier one was at a kill."""
    rows, torn = [], []
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")  # sig: some editors put a mark first
    for number, line in enumerate(lines, start=1):
        if not line.strip("\0 \r\t"):  # NUL: what a file system makes of a write that a power cut interrupted
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if not line.lstrip().startswith("{"):
                raise UserError(f"{path} line {number} is not JSON: not a run's metrics") from None
            if number < len(lines):
                torn.append(number)
            continue
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number} is not an object: not a run's metrics")
        rows.append(row)
    if torn and not rows:
        raise UserError(f"{path} holds no readable row: not a run's metrics")
    notes = (f"left out torn line {', '.join(map(str, torn))}",) if torn else ()
    return rows, notes


def _in_order(rows: Iterable[dict[str, Any]], source: Path) -> list[dict[str, Any]]:
    """Rows with their step, ascending; where the steps go back, the run was resumed and the earlier rows are void."""
    ordered: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        step = next((int(row[key]) for key in STEP_KEYS if _is_whole(row.get(key))), None)
        if step is None:
            raise UserError(f'{source} row {number} has no whole-number "step": not a run\'s metrics')
        while ordered and ordered[-1]["step"] >= step:
            ordered.pop()
        if ALIASES.keys() & row.keys():
            row = {ALIASES.get(key, key): value for key, value in row.items()}
        for key, value in row.items():
            if isinstance(value, float):  # nearly all of them
                continue
            if isinstance(value, str) and value.lower() in NOT_FINITE:
                row[key] = float(value)
            elif isinstance(value, int) and abs(value) > sys.float_info.max:  # JSON knows no bounds
                row[key] = math.inf if value > 0 else -math.inf
        row["step"] = step
        ordered.append(row)
    return ordered


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value % 1 == 0


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or a run of another tool; the metrics do not depend on it
        return {}
    return facts if isinstance(facts, dict) else {}


def _config(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): mend it, or move it away") from None
    return config if isinstance(config, dict) else {}
