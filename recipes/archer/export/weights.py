"""Parameters into safetensors files, one file at a time, and the proof that they hold what the checkpoint holds."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recipes.archer.ending import UserError
from recipes.archer.export.tensors import ModelTensors, same_bits
from recipes.archer.settings.weight_check import INDEX

SHARD_BYTES = 5 * 1000**3


@dataclass(frozen=True)
class Plan:
    """Which tensors go into which file.

    Attributes:
        files: names of tensors by name of file.
        dtype: what floating-point tensors are rounded to; None: as saved.
        num_bytes: of all tensors.
    """

    files: dict[str, list[str]]
    dtype: torch.dtype | None
    num_bytes: int

    @property
    def names(self) -> dict[str, str]:
        """File by tensor."""
        return {name: file for file, names in self.files.items() for name in names}


def plan_files(
    tensors: ModelTensors, names: Iterable[str], dtype: torch.dtype | None, shard_bytes: int = SHARD_BYTES
) -> Plan:
    """Files of at most ``shard_bytes`` each, unless a single tensor is larger; from shapes alone."""

    def kind(saved: torch.dtype) -> torch.dtype:
        return dtype if dtype is not None and saved.is_floating_point else saved

    shapes = {n: torch.empty(tensors[n].shape, dtype=kind(tensors[n].dtype), device="meta") for n in names}
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=shard_bytes)
    return Plan(split.filename_to_tensors, dtype, split.metadata["total_size"])


def write_weights(tensors: ModelTensors, plan: Plan, folder: Path) -> None:
    """Writes the files, and an index where there are several; memory holds one of them, and one tensor.

    Raises:
        OSError, SafetensorError: the disk refuses; see ``files.is_full``.
    """
    for file, names in plan.files.items():
        path = folder / file
        path.touch()
        mode = path.stat().st_mode
        save_file({name: tensors.read(name, plan.dtype) for name in names}, path, {"format": "pt"})
        path.chmod(mode)  # safetensors keeps what it writes to its owner
    if len(plan.files) > 1:
        index = {"metadata": {"total_size": plan.num_bytes}, "weight_map": plan.names}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")


def check_weights(tensors: ModelTensors, plan: Plan, folder: Path) -> None:
    """Reads back what was written and compares it with the checkpoint: count, names, types, shapes, every bit.

    Raises:
        UserError: it differs; the message names the first tensor that does.
    """
    if sorted(file.name for file in folder.glob("*.safetensors")) != sorted(plan.files):
        raise _differs(folder, "not the files that were to be written")
    if len(plan.files) > 1 and json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"] != plan.names:
        raise _differs(folder, f"an {INDEX} that names other files")
    for file, names in plan.files.items():
        try:
            with safe_open(folder / file, framework="pt") as written:
                if sorted(written.keys()) != sorted(names):
                    raise _differs(folder, f"not the {len(names)} tensors that were to be in {file}")
                for name in names:
                    if not same_bits(written.get_tensor(name), tensors.read(name, plan.dtype)):
                        raise _differs(folder, f"{name} in {file} with other values")
        except (OSError, SafetensorError) as error:
            raise _differs(folder, f"{file}, which cannot be read back ({str(error).splitlines()[0]})") from None


def _differs(folder: Path, what: str) -> UserError:
    return UserError(f"{folder} holds {what}: nothing was exported; look after that disk, or name another folder")
