"""Download a model from the Hugging Face hub, or complete and repair a folder that holds part of it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for recipes.archer, from any directory
from recipes.archer.settings.weight_check import Fault, folder_faults  # noqa: E402

WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "LICENSE*", "README*"]
UNWANTED = ["original/*", "onnx/*"]  # the same weights again, in other formats


class DownloadError(Exception):
    """The model could not be had; the message is one line with the remedy and holds no token."""


def fetch(repo: str, revision: str | None, folder: Path) -> None:
    """Bring the folder up to the hub's revision; files that are there are kept, partial ones continued.

    Raises:
        DownloadError: the hub refuses, cannot be reached, or the disk is full.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError
    from requests import RequestException

    try:
        # Asked first: snapshot_download takes whatever the folder holds when the hub does not answer.
        commit = HfApi().model_info(repo, revision=revision).sha
        snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    except HFValidationError:
        raise DownloadError(f"{repo}: not a model's name; write it as owner/name") from None
    except (RequestException, OSError) as error:  # what the hub and the disk can cause; the hub's errors are both
        raise DownloadError(f"{repo}: {explain(error, revision)}") from error


def explain(error: Exception, revision: str | None) -> str:
    """Reason and remedy of a failed download, in one line."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "access is restricted; accept its terms on its page, then set HF_TOKEN to your token"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {revision}; check --revision"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return "no such model, or no access to it; check the name and HF_TOKEN"
    if status is not None:
        return f"the hub answered {status}; run the same command again later, it goes on where it stopped"
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again, it goes on where it stopped"
    if isinstance(error, PermissionError):
        return f"may not write {error.filename}; choose another --out"
    return (
        f"cannot reach {constants.ENDPOINT} ({type(error).__name__}); check the network, HF_ENDPOINT and "
        "HF_HUB_OFFLINE, or copy the model's folder here; the same command goes on where it stopped"
    )


def remove_damaged(folder: Path, faults: list[Fault]) -> None:
    """A damaged file is named and deleted, so that the hub's copy takes its place."""
    for fault in faults:
        if (folder / fault.file).is_file():
            typer.echo(f"{folder / fault.file} {fault.reason}: fetching it again", err=True)
            (folder / fault.file).unlink()


def main(
    repo: Annotated[str, typer.Argument(help="The model's name on the hub, owner/name.")],
    out: Annotated[Path | None, typer.Option(help="Folder; default: models/<name> here.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
) -> None:
    """Download REPO, keep what is there, and check that the weights are whole.

    HF_TOKEN, HF_ENDPOINT and the hub's other environment variables work. A whole folder is left alone, without
    asking the hub, unless --revision names what it must hold.
    """
    folder = (out or Path("models") / repo.rsplit("/", 1)[-1]).absolute()
    faults = folder_faults(folder)
    if not faults and revision is None:
        typer.echo(f"{folder}: whole, nothing to fetch")
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        remove_damaged(folder, faults)
        fetch(repo, revision, folder)
        if faults := folder_faults(folder):
            named = "; ".join(map(str, faults))
            raise DownloadError(f"{folder} is not whole: {named}; run again, or check that {repo} has safetensors")
    except DownloadError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    typer.echo(f"{folder}: whole, {weights / 1e9:.2f} GB of weights")


if __name__ == "__main__":
    typer.run(main)
