"""Reads the metrics of a W&B run from its local ``run-<id>.wandb`` file, also while it is being written.

The file is a log in LevelDB's format (github.com/google/leveldb, doc/log_format.md) of protocol-buffer records, with
W&B's own header and CRC-32.  The W&B package no longer ships a reader of it, but it does ship the records' schema.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.reading.json import parse_json
from recipes.archer.reading.regular import TABLE, read_bytes

_HEADER = struct.Struct("<4sHB")  # b":W&B", magic number, version
_MAGIC = 0xBEE1
_BLOCK = 32768  # bytes; a fragment never crosses one
_FRAGMENT = struct.Struct("<IHB")  # CRC-32 of type and data, length, type
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class WandbRun:
    """What a W&B file holds.

    Attributes:
        rows: one a step, as W&B's history has them, with ``_step``.
        config: the run's configuration.
    """

    rows: list[dict[str, Any]]
    config: dict[str, Any]


def read_wandb(path: Path, inside: Path | None = None) -> WandbRun:
    """Reads a ``.wandb`` file; ``inside``: a folder that links may not leave.

    Raises:
        UserError: it is none, it is damaged before its end, or wandb is not installed.
    """
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        # its module picks the schema for the protobuf that is installed, where no checker can follow
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]
    except ImportError:
        raise UserError(f"{path} needs the wandb package to be read: install it, or give metrics.jsonl") from None
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for data in _records(read_bytes(path, TABLE, inside), path):
        try:
            record = Record.FromString(data)
        except DecodeError:  # its checksum is right, so whoever wrote it wrote this
            raise UserError(f"{path} holds what is no record of W&B's: give metrics.jsonl") from None
        kind = record.WhichOneof("record_type")
        if kind == "history":
            rows.append(_plain(record.history.item, path))
        elif kind == "run":
            config |= _plain(record.run.config.update, path)
        elif kind == "config":
            config |= _plain(record.config.update, path)
    return WandbRun(rows, config)


def _plain(items: Iterable[Any], path: Path) -> dict[str, Any]:
    """Key and value of history or configuration items; a key is a string or a path of strings."""
    keyed = ((item.key or ".".join(item.nested_key), item.value_json) for item in items)
    return {key: parse_json(value, f"{path}: the value of {key}") for key, value in keyed}


def _records(data: bytes, path: Path) -> Iterator[bytes]:
    """The records of the log; an unfinished last one is left out."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[:2] != (b":W&B", _MAGIC):
        raise UserError(f"{path} is not a W&B run file: give the run folder, its .wandb file or metrics.jsonl")
    parts: list[bytes] = []
    position = _HEADER.size
    while position + _FRAGMENT.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _FRAGMENT.size:  # a block's end too short for a fragment is padding
            position += left
            continue
        checksum, length, kind = _FRAGMENT.unpack_from(data, position)
        start = position + _FRAGMENT.size
        position = start + length
        if position > len(data):
            return  # torn: still being written, or its writer was killed
        if zlib.crc32(data[start - 1 : position]) != checksum:
            if not any(data[position:]):
                return  # torn, in a file that had been extended before it was filled
            raise UserError(f"{path} is damaged at byte {start}: copy it again, or give metrics.jsonl")
        parts = [data[start:position]] if kind in (_FULL, _FIRST) else [*parts, data[start:position]]
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
