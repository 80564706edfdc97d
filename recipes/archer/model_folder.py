"""Where a model lies on this machine."""

import os
import re
from pathlib import Path

from recipes.archer.configuration import ROOT
from recipes.archer.ending import UserError

DOWNLOAD = "scripts/data/download_hf_model.py"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
        raise UserError(
            f"model folder {folder} does not exist; fetch it with scripts/train/setup_qwen3_0.6b.sh, or set "
            "actor_rollout_ref.model.path (MODEL_PATH)"
        )
    fetched = ROOT / "models" / name.partition("/")[2]
    return fetched if fetched.is_dir() else _in_cache(name)


def _in_cache(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        raise UserError(
            f"model {name} is neither a folder nor fetched; fetch it with {DOWNLOAD} {name} --out "
            f"{ROOT / 'models' / name.partition('/')[2]}"
        ) from None
