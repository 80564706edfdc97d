"""Where a model lies on this machine, whether it is whole, and how long a sequence it takes."""

import math
import os
import re
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.reading.json import read_json
from recipes.archer.settings.configuration import ROOT
from recipes.archer.settings.weight_check import folder_faults, settings_faults

DOWNLOAD = "scripts/data/download_hf_model.py"
COUNTS = (  # of a model's config.json, where it has them
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size",
)  # fmt: skip
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def remedy(folder: Path) -> str:
    """How to come by a model in this folder."""
    download = f"{DOWNLOAD} OWNER/NAME --out {folder}"
    if folder.name == "Qwen3-0.6B-Base":
        download = "scripts/train/setup_qwen3_0.6b.sh"
    return f"fetch it with {download}, or set actor_rollout_ref.model.path (MODEL_PATH)"


def model_folder(name: str) -> Path:
    """The folder that ``actor_rollout_ref.model.path`` means.

    A name on the Hugging Face hub, owner/name, means what was fetched under it: the checkout's ``models/<name>``, where
    the download script puts it, else the hub's own cache.  Nothing is downloaded here.

    Raises:
        UserError: there is no such folder, or the model of that name has not been fetched.
    """
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(name):
        raise _no_folder(folder)
    fetched = ROOT / "models" / name.partition("/")[2]
    return fetched if fetched.is_dir() else _in_cache(name)


def _no_folder(folder: Path) -> UserError:
    return UserError(f"model folder {folder} does not exist; {remedy(folder)}")


def _in_cache(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError:  # has "--" or "..", ends in "-", or is too long: no name on the hub
        raise _no_folder(Path(name)) from None
    except LocalEntryNotFoundError:
        first = name.partition("/")[0]
        if first == "models" or Path(first).is_dir() or (ROOT / first).is_dir():  # a path was meant
            raise _no_folder(Path(name)) from None
        raise UserError(
            f"model {name} is neither a folder nor fetched; fetch it with {DOWNLOAD} {name} --out "
            f"{ROOT / 'models' / name.partition('/')[2]}"
        ) from None


def model_settings(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        UserError: a file that the model needs is missing or damaged; weights are judged by their headers and sizes.
    """
    old_format = any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))  # has no headers to go by
    faults = settings_faults(folder) if old_format else folder_faults(folder)
    if faults:
        raise UserError(f"model folder {folder}: {faults[0]}; {remedy(folder)}")
    settings: dict[str, Any] = read_json(folder / "config.json")
    for name in COUNTS:
        value = settings.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            problem = f"config.json: {name} must be a whole number above 0, not {value!r:.80}"
            raise UserError(f"model folder {folder}: {problem}; {remedy(folder)}")
    return settings


def context_length(model: dict[str, Any]) -> float:
    """Tokens that the engine lets a sequence have, as vLLM 0.7.3 works it out; infinite where config.json is silent.

    Dynamic scaling stretches nothing here: its frequencies change with the length, which cached keys cannot follow.

    Raises:
        UserError: yarn without the length that it starts from, which vLLM needs.
    """
    positions = _length(model, "max_position_embeddings", math.inf)
    scaling = model.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise UserError(f"rope_scaling in config.json must be an object, not {scaling!r:.80}")
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "yarn":
        if "original_max_position_embeddings" not in scaling:
            raise UserError(
                "rope_scaling in config.json is yarn without original_max_position_embeddings; add the context length "
                "that the model was trained with"
            )
        positions = _length(scaling, "original_max_position_embeddings", math.inf)
    if kind not in ("yarn", "linear"):
        return positions
    stretched = positions * _length(scaling, "factor", 1.0)
    return int(stretched) if math.isfinite(stretched) else stretched


def _length(settings: dict[str, Any], name: str, default: float) -> float:
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{name} in config.json must be a number above 0, not {value!r:.80}")
    return value
