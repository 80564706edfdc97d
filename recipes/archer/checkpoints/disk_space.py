"""Room for a checkpoint: how much one takes, and how much there is."""

import json
import math
import shutil
from pathlib import Path

MARGIN = 1.1  # of a checkpoint's size, so that rows and samples still find room beside it
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format
COPIES = 3  # a parameter, and Adam's two moments of it


def shortage(folder: Path, size: int) -> str | None:
    """What is missing for a checkpoint of ``size`` bytes in a folder; None when there is room."""
    free, needed = shutil.disk_usage(folder).free, math.ceil(size * MARGIN)
    return f"it needs {readable(needed)}, {folder} has {readable(free)} free" if free < needed else None


def first_size(model: Path, bytes_each: int = 4, copies: int = COPIES) -> int:
    """Bytes of a checkpoint that nobody has seen yet, from the number of parameters.

    Args:
        model: folder of the weights.
        bytes_each: of a number as it is trained.
        copies: numbers kept for each parameter; 1 where an adapter is trained and the rest is frozen.
    """
    weights = list(model.glob("*.safetensors"))
    parameters = sum(map(_num_parameters, weights)) or sum(p.stat().st_size for p in model.glob("*.bin")) // 2
    return parameters * bytes_each * copies


def readable(size: int) -> str:
    """Bytes in the unit that suits them."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def _num_parameters(file: Path) -> int:
    """Of a safetensors file, from its header: its length in 8 bytes, then JSON with each tensor's shape.

    0 where it has no such header: this is an estimate, and what is wrong with the file is found elsewhere.
    """
    if not file.is_file():  # a pipe would be waited for
        return 0
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(file.stat().st_size, LARGEST_HEADER):
            return 0
        try:
            header = json.loads(stream.read(length) or "{}")
            return sum(math.prod(map(int, t["shape"])) for name, t in header.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return 0
