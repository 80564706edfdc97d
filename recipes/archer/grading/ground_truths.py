"""The check of a data set before training: every ground truth can be graded against."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from recipes.archer.files import LinkError, write_atomically
from recipes.archer.grading.answers import GroundTruthError, ground_truth_of
from recipes.archer.grading.grader import GradingPool
from recipes.archer.prompts.file import PromptFileError, iterate_rows
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import UnreadableError, opened

logger = logging.getLogger(__name__)

_NUM_NAMED = 5  # rows that an error message names
_VERSION = 4  # part of the cache's key: raised when the rules for ground truths change
_BLOCK = 1 << 20


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, row) of a Parquet, JSON (a list) or JSON Lines file; where is "row 3" or "line 3", from 1.

    Raises:
        GroundTruthError: for a file in none of these formats, or a row that is not an object.
    """
    try:
        for where, row in iterate_rows(path):
            if not isinstance(row, Mapping):
                raise GroundTruthError(f"{path}, {where}: not an object: write one JSON object a row")
            yield where, row
    except PromptFileError as error:
        raise GroundTruthError(str(error)) from None


def unreadable_rows(rows: Iterable[tuple[str, Mapping[str, Any]]], pool: GradingPool) -> dict[str, str]:
    """Where a row is to what is wrong with its ground truth, for the rows that cannot be graded, in order.

    Rows that `pool` gives to a user's reward function are passed over: it may take any ground truth.
    """
    places: list[str] = []
    problems: dict[str, str] = {}
    found: dict[str, tuple[str, object]] = {}
    for where, row in rows:
        if not pool.is_mathematics(row.get("data_source")):
            continue
        places.append(where)
        try:
            found[where] = ground_truth_of(row)
        except GroundTruthError as error:
            problems[where] = str(error)
    reasons = pool.unreadable([ground_truth for _, ground_truth in found.values()])
    for (where, (field, _)), reason in zip(found.items(), reasons, strict=True):
        if reason is not None:
            problems[where] = f"{field}: {reason}"
    return {where: problems[where] for where in places if where in problems}


def check_ground_truths(
    rows: Iterable[Mapping[str, Any]], *, source: str = "data", pool: GradingPool | None = None
) -> None:
    """Raises unless every row's ground truth can be graded against.

    Args:
        rows: data rows, as `answers.ground_truth_of` reads them.
        source: what to call them in the message, where rows count from 1: their file.
        pool: grading processes to use; without it, one is started for the check.

    Raises:
        GroundTruthError: names `source`, the rows and their fields.
    """
    with _pool_or_own(pool) as working:
        numbered = ((f"row {number}", row) for number, row in enumerate(rows, 1))
        _raise_if_any(unreadable_rows(numbered, working), source)


def check_file(path: str | Path, *, pool: GradingPool | None = None, cache_dir: str | Path | None = None) -> None:
    """`check_ground_truths` on a data file, once for each content it has.

    Args:
        path: a Parquet, JSON or JSON Lines file.
        pool: as in `check_ground_truths`.
        cache_dir: where results are kept, by the hash of the file and of the sources that `pool` gives to
            functions; by default `$ARCHER_CACHE`, else `$XDG_CACHE_HOME/archer`, else `~/.cache/archer`.

    Raises:
        GroundTruthError: as `check_ground_truths`, and for an unreadable file.
    """
    path = Path(path)
    cached = _cache_folder(cache_dir) / f"ground_truths-v{_VERSION}-{_digest(path, pool)}.json"
    problems = _kept(cached)
    if problems is None:
        with _pool_or_own(pool) as working:
            problems = unreadable_rows(read_rows(path), working)
        _keep(cached, problems)
    _raise_if_any(problems, str(path))


def _pool_or_own(pool: GradingPool | None) -> AbstractContextManager[GradingPool]:
    return GradingPool(max(1, (os.cpu_count() or 1) // 2)) if pool is None else nullcontext(pool)


def _raise_if_any(problems: Mapping[str, str], source: str) -> None:
    if not problems:
        return
    named = "; ".join(f"{where} ({why})" for where, why in list(problems.items())[:_NUM_NAMED])
    more = f"; and {len(problems) - _NUM_NAMED} more" if len(problems) > _NUM_NAMED else ""
    raise GroundTruthError(f"{source}: {named}{more}: correct or drop these rows")


def _digest(path: Path, pool: GradingPool | None) -> str:
    passed_over = sorted(pool.functions) if pool is not None else []
    digest = hashlib.sha256(json.dumps(passed_over).encode())
    try:
        with opened(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except UnreadableError as error:
        raise GroundTruthError(str(error)) from None
    return digest.hexdigest()


def _cache_folder(cache_dir: str | Path | None) -> Path:
    if given := cache_dir or os.environ.get("ARCHER_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archer"


def _kept(cached: Path) -> dict[str, str] | None:
    """What an earlier check found; None where there was none, or its file is torn or of other making."""
    try:
        problems = read_json(cached)
    except UnreadableError:
        return None
    return problems if all(isinstance(why, str) for why in problems.values()) else None


def _keep(cached: Path, problems: Mapping[str, str]) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, json.dumps(problems))
    except (LinkError, OSError) as error:  # a read-only home costs the next run a minute, not this one its start
        logger.warning("%s: the result of the ground truth check is not kept: %s", cached, error)
