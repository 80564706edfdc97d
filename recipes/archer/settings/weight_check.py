"""Whether a model folder is whole: settings, tokenizer and safetensors weights, judged by headers and sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
    weight_map = json.loads((folder / INDEX).read_text()).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        return [Fault(INDEX, "has no weight_map")]
    names: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        names.setdefault(str(file), set()).add(tensor)
    checked = (tensor_file_fault(folder / file, tensors) for file, tensors in sorted(names.items()))
    return [fault for fault in checked if fault]


def tensor_file_fault(path: Path, expected: set[str]) -> Fault | None:
    """What is wrong with a safetensors file that must hold the `expected` tensors; None when it is whole."""
    if not path.is_file():
        return Fault(path.name, "is missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > min(LARGEST_HEADER, size - 8):
            return Fault(path.name, f"is cut short or is no safetensors file ({size} bytes)")
        try:
            header = json.loads(file.read(header_size))
            tensors = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
            needed = 8 + header_size + max((end for _, end in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            return Fault(path.name, "has a damaged header")
    if size != needed:
        return Fault(path.name, f"has {size} bytes, its header says {needed}")
    if lacking := sorted(expected - tensors.keys()):
        return Fault(path.name, f"lacks {len(lacking)} tensors of the index, the first is {lacking[0]}")
    return None


def json_fault(path: Path, kind: type = object) -> Fault | None:
    """Missing, or not JSON, or of another kind: dict for a JSON object."""
    if not path.is_file():
        return Fault(path.name, "is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # bad UTF-8 is one too
        return Fault(path.name, "is not JSON")
    return None if isinstance(content, kind) else Fault(path.name, "is not a JSON object")
