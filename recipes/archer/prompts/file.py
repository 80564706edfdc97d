"""The prompt files that training and validation read: reading with every fault named, and writing.

A file is a JSON array, JSON lines or Parquet. A row:
    {"data_source": str, "prompt": [{"role": str, "content": str}, ...], "ability": "math",
     "reward_model": {"style": "rule", "ground_truth": str}, "extra_info": {"index": int, "split": str}}
`ability`, `reward_model.style` and `extra_info` may be absent; `ground_truth` may also be a number or a list.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.archer.printable import one_line
from recipes.archer.reading.json import bounded, parse_json
from recipes.archer.reading.regular import TABLE, DamagedError, UnreadableError, read_text

if TYPE_CHECKING:
    import pyarrow

FORMAT_HELP = "docs/data.md shows the format"
_ROW_REMEDY = f"correct the row or remove it ({FORMAT_HELP})"
_JSON_REMEDY = "write a JSON array, or one JSON object a line"
SUFFIXES = (".json", ".jsonl", ".parquet")
PARQUET_BATCH = 4096  # rows
# A data source is the end of a metric's key, val/accuracy/SOURCE, and trackers and tables show it
RESERVED_SOURCES = ("low", "high")  # ends of keys that are there anyway: the bounds of the accuracy's interval
LONGEST_SOURCE = 128  # characters; W&B and TensorBoard cut or refuse what is much longer


class PromptFileError(ValueError):
    """A prompt file that cannot be used; the message is one line with file, row, field and remedy."""


def prompt_row(data_source: str, question: str, ground_truth: str, *, index: int, split: str, **extra: object) -> dict:
    """One row: a single user message with a checkable answer; `extra` joins `extra_info`."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": question}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {"index": index, "split": split, **extra},
    }


def read_prompt_file(path: str | Path, prompt_key: str = "prompt") -> list[dict]:
    """The file's rows, in order, all usable.

    Args:
        prompt_key: the field that holds the messages.

    Raises:
        PromptFileError: the file is absent, empty or damaged, or a row lacks a field or has a wrong one.
    """
    return [row for _, row in usable_rows(path, prompt_key)]


def usable_rows(path: str | Path, prompt_key: str = "prompt") -> Iterator[tuple[str, dict]]:
    """(where, row) for every row, as :func:`read_prompt_file`; where is "data/train.json, row 3"."""
    for place, row in iterate_rows(Path(path)):
        if fault := row_fault(row, prompt_key):
            raise PromptFileError(f"{path}, {place}: {fault}; {_ROW_REMEDY}")
        yield f"{path}, {place}", row


@dataclass(frozen=True)
class Unreadable:
    """In the place of a row that cannot be read, in a file of which others can: why, and what to do about it."""

    fault: str
    remedy: str


def iterate_rows(path: Path, *, keep_unreadable: bool = False) -> Iterator[tuple[str, object]]:
    """(where, row) for every row of a file, unchecked; where is "row 3" or, in JSON lines, "line 3".

    Args:
        keep_unreadable: a row that cannot be read is an :class:`Unreadable`, and those behind it are read.

    Raises:
        PromptFileError: the file is absent, empty, of an unknown kind, or not what its name says; or one of its rows
            cannot be read.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise PromptFileError(f"{path}: {what}; check the path, or make the file as docs/data.md says")
    if path.suffix not in SUFFIXES:
        raise PromptFileError(f"{path}: unknown kind of file; use one of {', '.join(SUFFIXES)}")
    rows = _iterate_parquet(path) if path.suffix == ".parquet" else _iterate_json(path)
    first = next(rows, None)
    if first is None:
        raise PromptFileError(f"{path}: holds no rows; make the file again as docs/data.md says")
    for place, row in chain([first], rows):
        if isinstance(row, Unreadable) and not keep_unreadable:
            raise PromptFileError(f"{path}, {place}: {row.fault}; {row.remedy}")
        yield place, row


def _iterate_json(path: Path) -> Iterator[tuple[str, object]]:
    """A JSON array or JSON lines, whatever the suffix says: both are met under both names."""
    try:
        text = read_text(path, TABLE)
    except UnreadableError as error:
        raise PromptFileError(f"{error}; save it as UTF-8, or check its permissions") from None
    if text.lstrip().startswith("["):
        try:
            rows = parse_json(text, path)
        except DamagedError as error:
            raise PromptFileError(f"{path}, line {error.line}: {error.reason}; {_JSON_REMEDY}") from None
        yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): a string may hold U+2028
        if line.strip():
            yield f"line {number}", _parsed(line, path)


def _parsed(line: str, path: Path) -> object:
    try:
        return parse_json(line, path)
    except DamagedError as error:
        return Unreadable(error.reason, _JSON_REMEDY)


def _iterate_parquet(path: Path) -> Iterator[tuple[str, object]]:
    """In pieces: a raw set of millions of repeated prompts does not fit in memory as Python objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(path)
        columns = Counter(file.schema_arrow.names)
        if twice := next((name for name, times in columns.items() if times > 1), None):
            raise PromptFileError(f"{path}: has two columns {twice!a:.80}; take one out ({FORMAT_HELP})")
        for batch in file.iter_batches(PARQUET_BATCH):
            for row in _python_rows(batch):
                number += 1
                yield f"row {number}", _bounded(row, path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PromptFileError(f"{path}: not a whole Parquet file ({reason}); fetch it again") from None


def _bounded(row: object, path: Path) -> object:
    try:
        return bounded(row, path) if isinstance(row, dict) else row
    except DamagedError as error:
        return Unreadable(error.reason, _ROW_REMEDY)


def _python_rows(batch: pyarrow.RecordBatch) -> Iterable[object]:
    """A piece's rows; an Unreadable for one that Python cannot hold: a date of the year 300,000, torn text."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except Exception:  # of datetime, of time zones, of text, of pandas, as the value has it
        return (_python_row(batch, number) for number in range(batch.num_rows))


def _python_row(batch: pyarrow.RecordBatch, number: int) -> object:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except Exception as error:
            why = f"holds a value of type {column.type!s:.60} that cannot be read ({one_line(error):.120})"
            return Unreadable(f"{name}: {why}", _ROW_REMEDY)
    return row


def row_fault(row: object, prompt_key: str = "prompt") -> str | None:
    """What is wrong with a row, beginning with the dotted name of the field; None when it can be used."""
    if not isinstance(row, dict):
        return f"is {_kind(row)}, must be an object with the fields data_source, {prompt_key} and reward_model"
    return (
        _text_fault(row, "data_source", "data_source")
        or _source_fault(row["data_source"])
        or _prompt_fault(row, prompt_key)
        or _object_fault(row, "reward_model", needed=True)
        or _ground_truth_fault(row["reward_model"])
        or _object_fault(row, "extra_info", needed=False)
    )


def _source_fault(source: str) -> str | None:
    """What keeps a data source from being a part of a metric's key."""
    if source in RESERVED_SOURCES:
        return f"data_source: is {source!r}, which would be the metric val/accuracy/{source}; call the set otherwise"
    if len(source) > LONGEST_SOURCE:
        return f"data_source: has {len(source)} characters, a name of a set has at most {LONGEST_SOURCE}"
    if not source.isprintable() or source != source.strip():
        return f"data_source: is {source!a:.80}, a name of a set has no control characters and no blanks at its ends"
    return None


def _prompt_fault(row: dict, key: str) -> str | None:
    messages = row.get(key)
    if messages is None:
        return f"{key}: is missing" if key == "prompt" else f"{key}: is missing, which data.prompt_key names"
    if not isinstance(messages, list) or not messages:
        return f"{key}: is {_kind(messages)}, must be a list of messages with role and content, not empty"
    for number, message in enumerate(messages):
        name = f"{key}[{number}]"
        if not isinstance(message, dict):
            return f"{name}: is {_kind(message)}, must be an object with role and content"
        for field in ("role", "content"):
            if fault := _text_fault(message, field, f"{name}.{field}"):
                return fault
    return None


def _object_fault(row: dict, field: str, *, needed: bool) -> str | None:
    value = row.get(field)
    if value is None:
        return f"{field}: is missing" if needed else None
    return None if isinstance(value, dict) else f"{field}: is {_kind(value)}, must be an object"


def _ground_truth_fault(reward_model: dict) -> str | None:
    name, value = "reward_model.ground_truth", reward_model.get("ground_truth")
    if isinstance(value, list) and value:
        faults = (_answer_fault(part, f"{name}[{number}]") for number, part in enumerate(value))
        return next((fault for fault in faults if fault), None)
    return _answer_fault(value, name)


def _answer_fault(value: object, name: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name}: is {value}, must be a finite number, or text"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return None
    return _text_fault({name: value}, name, name)


def _text_fault(row: dict, field: str, name: str) -> str | None:
    value = row.get(field)
    if value is None:
        return f"{name}: is missing"
    if not isinstance(value, str):
        return f"{name}: is {_kind(value)}, must be text"
    if not value.strip():
        return f"{name}: is empty"
    return f"{name}: {fault}" if (fault := surrogate_fault(value)) else None


def surrogate_fault(text: str) -> str | None:
    """Where a text holds half of a surrogate pair: JSON can spell it, no file can hold it and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds {ascii(text[error.start])[1:-1]}, half of a surrogate pair, as character {error.start + 1}"
    return None


def _kind(value: object) -> str:
    """The JSON name of a value's type, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    kind = names.get(type(value), type(value).__name__)
    return f"{kind} without entries" if value in ([], {}) else kind


def write_prompt_file(path: Path, rows: Iterable[dict]) -> None:
    """A JSON array with one row a line, or JSON lines for .jsonl; whole or not at all."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) if path.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes it private
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
