"""torch's list of what lies where in a distributed checkpoint, made from ``.metadata`` and held against the files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from recipes.archer.checkpoints.bounded import read_bytes
from recipes.archer.checkpoints.pickled import DTYPES, METADATA, Made, Name, read

MOST_BYTES = 64 << 20  # of the file; a hundred bytes a tensor and worker are usual
MOST_DIMS, MOST_SIZE = 16, 1 << 48


def read_metadata(folder: Path, sizes: Mapping[str, int]) -> Metadata:
    """The metadata of a checkpoint's folder, whatever version of torch wrote it.

    Args:
        sizes: bytes of each file that the checkpoint may take its tensors from.

    Raises:
        ValueError: it holds anything else than places of tensors and values in these files.
        OSError: it is absent or cannot be read.
    """
    content = read_bytes(folder / METADATA, MOST_BYTES)
    try:
        return _Reading(sizes, most=len(content)).metadata(read(content))
    except (TypeError, KeyError):  # of a value that is of another kind than torch's writer gives it
        raise ValueError(f"{METADATA} is damaged") from None
    except ValueError as problem:
        raise ValueError(f"{METADATA} {problem}") from None


def files_named(folder: Path) -> set[str]:
    """The files, in its folder, that a checkpoint's metadata says its tensors are in, there or not.

    Raises:
        ValueError, OSError: as :func:`read_metadata`.
    """
    return {place.relative_path for place in read_metadata(folder, _Unseen()).storage_data.values()}


class _Unseen(dict[str, int]):
    """Sizes of files that nobody has looked at: whatever is said of them may be so."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return 2 * MOST_SIZE


class _Reading:
    """One reading; a list that a pickle refers to many times is one of its few bytes, so they are counted."""

    def __init__(self, sizes: Mapping[str, int], most: int):
        self.sizes, self.left = sizes, most

    def metadata(self, made: Any) -> Metadata:
        state = _state(made, "metadata.Metadata")
        entries = {_text(name): self._entry(entry) for name, entry in _dict(state["state_dict_metadata"]).items()}
        places = {_index(key): self._place(info) for key, info in _dict(state["storage_data"]).items()}
        paths = {_text(name): self._path(path) for name, path in _dict(state.get("planner_data") or {}).items()}
        return Metadata(entries, planner_data=paths, storage_data=places, storage_meta=StorageMeta())

    def _entry(self, made: Any) -> TensorStorageMetadata | BytesStorageMetadata:
        if _is(made, "metadata.BytesStorageMetadata"):
            return BytesStorageMetadata()
        state = _state(made, "metadata.TensorStorageMetadata")
        chunks = [_chunk(chunk) for chunk in self._counted(state["chunks"])]
        return TensorStorageMetadata(_properties(state["properties"]), _size(state["size"]), chunks)

    def _place(self, made: Any) -> _StorageInfo:
        state = _state(made, "filesystem._StorageInfo")
        file, offset, length = state["relative_path"], _number(state["offset"]), _number(state["length"])
        if state.get("transform_descriptors"):
            raise ValueError("wants its files to be transformed")
        if _text(file) not in self.sizes or offset + length > self.sizes[file]:
            raise ValueError("points to where its checkpoint has no bytes")
        return _StorageInfo(file, offset, length)

    def _path(self, path: Any) -> tuple[str | int, ...]:
        if not isinstance(path, tuple) or not all(type(part) in (str, int) for part in self._counted(path)):
            raise TypeError(path)
        return path

    def _counted(self, items: Any) -> Iterator[Any]:
        if not isinstance(items, list | tuple):
            raise TypeError(items)
        self.left -= len(items)
        if self.left < 0:
            raise ValueError("says the same too often")
        yield from items


def _is(made: Any, name: str) -> bool:
    return isinstance(made, Made) and made.name.endswith(f".{name}")


def _state(made: Any, name: str) -> dict[str | Made, Any]:
    if not _is(made, name):
        raise TypeError(made)
    return _dict(made.state)


def _dict(value: Any) -> dict[str | Made, Any]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST_SIZE:
        raise TypeError(value)
    return value


def _size(made: Any) -> torch.Size:
    if not (_is(made, "Size") and len(made.args) == 1 and len(made.args[0]) <= MOST_DIMS):
        raise TypeError(made)
    return torch.Size(_number(n) for n in made.args[0])


def _chunk(made: Any) -> ChunkStorageMetadata:
    state = _state(made, "metadata.ChunkStorageMetadata")
    return ChunkStorageMetadata(_size(state["offsets"]), _size(state["sizes"]))


def _index(made: Any) -> MetadataIndex:
    state = _state(made, "metadata.MetadataIndex")
    offset, index = state.get("offset"), state.get("index")
    return MetadataIndex(
        _text(state["fqn"]),
        None if offset is None else _size(offset),
        None if index is None else _number(index),
    )


def _properties(made: Any) -> TensorProperties:
    """Only the dtype says something; the rest is deprecated."""
    if not (_is(made, "metadata.TensorProperties") and isinstance(made.state, tuple) and made.state):
        raise TypeError(made)
    dtype = made.state[0]
    if not (isinstance(dtype, Name) and dtype.name in DTYPES):
        raise TypeError(dtype)
    return TensorProperties(dtype=getattr(torch, dtype.name.removeprefix("torch.")))
