"""Room for a checkpoint: how much one takes, and how much there is."""

import math
import shutil
from pathlib import Path

from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.settings.weight_check import tensor_file

MARGIN = 1.1  # of a checkpoint's size, so that rows and samples still find room beside it
HEAD = "lm_head.weight"
COPIES = 3  # a parameter, and Adam's two moments of it


def shortage(folder: Path, size: int) -> str | None:
    """What is missing for a checkpoint of ``size`` bytes in a folder; None when there is room."""
    free, needed = shutil.disk_usage(folder).free, math.ceil(size * MARGIN)
    return f"it needs {readable(needed)}, {folder} has {readable(free)} free" if free < needed else None


def first_size(model: Path, bytes_each: int = 4, copies: int = COPIES) -> int:
    """Bytes of a checkpoint that nobody has seen yet, from the number of parameters; a tied head is the embedding.

    Args:
        model: folder of the weights.
        bytes_each: of a number as it is trained.
        copies: numbers kept for each parameter.
    """
    weights = list(model.glob("*.safetensors"))
    tied = _is_tied(model)
    parameters = (
        sum(_num_parameters(file, tied) for file in weights) or sum(p.stat().st_size for p in model.glob("*.bin")) // 2
    )
    return parameters * bytes_each * copies


def readable(size: int) -> str:
    """Bytes in the unit that suits them."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def _is_tied(model: Path) -> bool:
    """Whether the head is the embedding, whatever the weights' file holds under the head's name."""
    try:
        return read_json(model / "config.json").get("tie_word_embeddings") is True
    except UnreadableError:  # what is wrong with it is said where the model is loaded
        return False


def _num_parameters(file: Path, tied: bool) -> int:
    """Of a safetensors file, from its header."""
    try:
        _, shapes, _ = tensor_file(file)
    except UnreadableError:  # what is wrong with it is said where the model is loaded
        return 0
    return sum(math.prod(shape) for name, shape in shapes.items() if not (tied and name == HEAD))
