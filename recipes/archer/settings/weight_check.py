"""Whether a model folder is whole: settings, tokenizer and safetensors weights, judged by headers and sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from recipes.archer.reading.json import parse_json, read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError, opened

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


@dataclass(frozen=True)
class Fault:
    """A file that is missing or damaged; `file` is its name in the folder."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def folder_faults(folder: Path) -> list[Fault]:
    """Everything that keeps the folder from being loaded; empty when it is whole."""
    return settings_faults(folder) + weight_faults(folder)


def settings_faults(folder: Path) -> list[Fault]:
    """Missing and damaged files other than weights."""
    faults = [fault for fault in [json_fault(folder / "config.json", dict)] if fault]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        faults.append(Fault(TOKENIZERS[0], "is missing"))
    small = (path for path in sorted(folder.glob("*.json")) if path.name not in ("config.json", INDEX))
    return faults + [fault for path in small if (fault := json_fault(path))]


def weight_faults(folder: Path) -> list[Fault]:
    """Missing and damaged weight files, by the index when there is one."""
    if not (folder / INDEX).is_file():
        return [fault for fault in [tensor_file_fault(folder / SINGLE, set())] if fault]
    if fault := json_fault(folder / INDEX, dict):
        return [fault]
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        return [Fault(INDEX, "has no weight_map")]
    names: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or file != Path(file).name:
            return [Fault(INDEX, f"has {tensor} in {file!r:.80}, which is no file of this folder")]
        names.setdefault(file, set()).add(tensor)
    checked = (tensor_file_fault(folder / file, tensors) for file, tensors in sorted(names.items()))
    return [fault for fault in checked if fault]


def tensor_file_fault(path: Path, expected: set[str]) -> Fault | None:
    """What is wrong with a safetensors file that must hold the `expected` tensors; None when it is whole."""
    try:
        size, tensors, needed = tensor_file(path)
    except UnreadableError as error:
        return Fault(path.name, _reason(error))
    if size != needed:
        return Fault(path.name, f"has {size} bytes, its header says {needed}")
    if lacking := sorted(expected - tensors.keys()):
        return Fault(path.name, f"lacks {len(lacking)} tensors of the index, the first is {lacking[0]}")
    return None


def tensor_file(path: Path) -> tuple[int, dict[str, list[int]], int]:
    """Of a safetensors file: its bytes, the shapes of its tensors, and the bytes that its header says.

    Raises:
        UnreadableError: it is absent, cut short, no safetensors file, or has a damaged header.
    """
    with opened(path, None) as file:
        size = os.fstat(file.fileno()).st_size
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > min(LARGEST_HEADER, size - 8):
            raise UnreadableError(path, f"is cut short or is no safetensors file ({size} bytes)")
        header = file.read(header_size)
    try:
        entries = {name: entry for name, entry in parse_json(header, path).items() if name != "__metadata__"}
        tensors = {name: [_size(length) for length in entry["shape"]] for name, entry in entries.items()}
        ends = [_size(end) for _, end in (entry["data_offsets"] for entry in entries.values())]
    except (UnreadableError, ValueError, TypeError, KeyError, AttributeError):
        raise UnreadableError(path, "has a damaged header") from None
    return size, tensors, 8 + header_size + max(ends, default=0)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _reason(error: UnreadableError) -> str:
    if error.absent:
        return "is missing"
    return f"is {error.reason}" if isinstance(error, DamagedError) else error.reason


def json_fault(path: Path, kind: type = object) -> Fault | None:
    """Missing, or not JSON, or of another kind: dict for a JSON object."""
    try:
        read_json(path, kind)
    except UnreadableError as error:
        return Fault(path.name, _reason(error))
    return None
