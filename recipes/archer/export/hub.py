"""A model folder onto the Hugging Face hub, by its own client, which retries and resumes; no token is shown."""

import os
import re
from pathlib import Path

from recipes.archer.ending import UserError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def check_name(name: str) -> None:
    """Refuses what is no name of a model on the hub, before anything is written.

    Raises:
        UserError: it is not OWNER/NAME.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--push {name!a:.120}: write it as OWNER/NAME")


def push(folder: Path, name: str) -> str:
    """Uploads a folder; a repository that is made for it is private.

    Returns:
        The address of the model's page.

    Raises:
        UserError: the hub refuses or cannot be reached; the folder stays, and the message says how to try again.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError
    from requests import RequestException

    hub = HfApi()
    try:
        hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Exported by archer")
    # what the hub and the network can cause: its errors are of these kinds; what they say may quote what was sent
    except (RequestException, OSError, HFValidationError, RuntimeError) as error:
        raise UserError(
            f"{folder} is written, but could not be pushed: {_reason(error)}; then: "
            f"huggingface-cli upload --private {name} {folder}"
        ) from None
    return f"{constants.ENDPOINT}/{name}"


def _reason(error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return "the hub takes no such name; choose another OWNER/NAME"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return "the hub does not let you write there; set HF_TOKEN to a token with write access, and check the name"
    if status is not None:
        return f"the hub answered {status}; try again later"
    return (
        f"cannot reach {constants.ENDPOINT} ({type(error).__name__}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
    )
