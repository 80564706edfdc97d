"""A Hugging Face folder from a checkpoint: weights, settings, tokenizer, model card; proven, then put in its place."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipes.archer.checkpoints.bounded import read_bytes
from recipes.archer.checkpoints.disk_space import shortage
from recipes.archer.checkpoints.manifest import listed
from recipes.archer.ending import DiskFullError, UserError
from recipes.archer.export.placing import check_place, written_beside
from recipes.archer.export.tensors import OWN, ModelTensors, without_tied
from recipes.archer.export.weights import check_weights, plan_files, write_weights

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CONFIG, GENERATION, CARD = "config.json", "generation_config.json", "README.md"
_MOST_BYTES = 256 << 20  # of one file in it
# of a tokenizer; code that a model brings along is not passed on
_COPIED = re.compile(rf"{OWN}/[\w.-]+\.(?:json|txt|model|jinja)", re.ASCII)
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Exported:
    """A model folder that was written and compared.

    Attributes:
        dtype: of its parameters, as config.json names it.
        num_tensors, num_bytes: of its weights, in so many files.
        num_compared: tokens of greedy responses that were the checkpoint's own; None: none were asked for.
    """

    folder: Path
    dtype: str
    num_tensors: int
    num_bytes: int
    num_files: int
    num_compared: int | None = None


def export_model(
    checkpoint: Path,
    out: Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    verify: bool = False,
    card: Callable[[str, int], str] | None = None,
    shard_bytes: int | None = None,
) -> Exported:
    """Writes a checkpoint's model as a folder that transformers and vLLM load, and compares it with the checkpoint.

    Args:
        checkpoint: folder of a whole checkpoint, whose files were compared with its manifest.
        out: absent or empty, unless ``overwrite``.
        dtype: key of ``DTYPES`` to round to; None: as saved.
        verify: whether transformers is to answer a few questions from both.
        card: (dtype, number of parameters) to the text of README.md; None: no such file.
        shard_bytes: most bytes of a file of weights; None: 5 GB.

    Raises:
        UserError: the checkpoint holds no model to export, the folder is not to be had, or what was written differs.
        DiskFullError: there is no room.
    """
    if out.absolute().is_relative_to(checkpoint.absolute()):
        raise UserError(f"{out} lies in the checkpoint {checkpoint}: name another folder")
    check_place(out, overwrite)  # before minutes of reading
    tensors = ModelTensors(checkpoint)
    config = _settings(checkpoint, CONFIG)
    sizes = {} if shard_bytes is None else {"shard_bytes": shard_bytes}
    plan = plan_files(tensors, without_tied(tensors, config), DTYPES[dtype] if dtype else None, **sizes)
    name = str(plan.dtype or tensors.dtype).removeprefix("torch.")
    with written_beside(out, overwrite) as folder:
        if lack := shortage(out.absolute().parent, plan.num_bytes):
            raise DiskFullError(f"{out}: there is no room for the model: {lack}; name a folder on another disk")
        _write_settings(checkpoint, folder, config | {"torch_dtype": name})
        if card is not None:
            num_parameters = sum(tensors[n].shape.numel() for n in plan.names)
            (folder / CARD).write_text(card(name, num_parameters), encoding="utf-8")
        write_weights(tensors, plan, folder)
        check_weights(tensors, plan, folder)
        num_compared = _compared(checkpoint, folder) if verify else None
    return Exported(out, name, len(plan.names), plan.num_bytes, len(plan.files), num_compared)


def loading_lines(folder: Path | str) -> list[str]:
    """The three lines of Python that load an exported model."""
    return [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f'model = AutoModelForCausalLM.from_pretrained({str(folder)!r}, torch_dtype="auto")',
        f"tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})",
    ]


def _compared(checkpoint: Path, folder: Path) -> int:
    from recipes.archer.export.generation import check_generation  # transformers takes seconds to import

    return check_generation(checkpoint, folder)


def _write_settings(checkpoint: Path, folder: Path, config: dict[str, Any]) -> None:
    names = [name for name in listed(checkpoint) if _COPIED.fullmatch(name)]
    for name in names:
        (folder / Path(name).name).write_bytes(_content(checkpoint / name))
    if f"{OWN}/{GENERATION}" in names:
        generation = _settings(checkpoint, GENERATION)
    else:  # a checkpoint from before runs wrote down where responses end
        generation = {name: config[name] for name in _TOKENS if config.get(name) is not None}
    # transformers would take a file that says that it is made from config.json for replaceable by that
    _write_json(folder / GENERATION, {name: value for name, value in generation.items() if not name.startswith("_")})
    _write_json(folder / CONFIG, config)


def _settings(checkpoint: Path, name: str) -> dict[str, Any]:
    path = checkpoint / OWN / name
    try:
        found = json.loads(_content(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no settings: the checkpoint is damaged, use another step")
    return found


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): the checkpoint is damaged") from None
    except ValueError as problem:
        raise UserError(f"{path.parent}: {problem}: the checkpoint is damaged") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
