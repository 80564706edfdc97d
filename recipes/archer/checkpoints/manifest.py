"""The list of a checkpoint's files with sizes and hashes, by which it is known to be whole."""

import hashlib
import json
import os
from pathlib import Path

from recipes.archer.ending import UserError
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError

MANIFEST = "manifest.json"
FORMAT = 1  # of a checkpoint's folder; raised when an older reader would misunderstand it


def write_manifest(folder: Path) -> None:
    """Lists every file of a finished folder, and flushes files and folders to the disk."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    described = {str(p.relative_to(folder)): {"size": p.stat().st_size, "sha256": _hash(p)} for p in files}
    text = json.dumps({"format": FORMAT, "files": described}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


def problem_of(folder: Path, hashes: bool = True) -> str | None:
    """None when every file of the manifest is there with its size and hash; otherwise what is wrong.

    Args:
        hashes: whether to read the files; without, an altered bit is not noticed.

    Raises:
        UserError: a later version of this code wrote the folder.
    """
    try:
        manifest = read_json(folder / MANIFEST, inside=folder)
        layout, files = manifest.get("format", FORMAT), manifest["files"]
        described = [(name, expected["size"], expected["sha256"]) for name, expected in files.items()]
    except UnreadableError as error:
        if error.absent:
            return f"{MANIFEST} is missing, so it was never finished"
        return f"{MANIFEST} {'is damaged' if isinstance(error, DamagedError) else error.reason}"
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever a torn or altered file may hold
        return f"{MANIFEST} is damaged"
    if not isinstance(layout, int) or layout > FORMAT:
        raise UserError(
            f"checkpoint {folder} has format {layout}, this code reads up to {FORMAT}: continue with the version "
            "that wrote it, or set trainer.experiment_name to another name"
        )
    return next((p for p in (_problem(folder, *file, hashes) for file in described) if p is not None), None)


def listed(folder: Path) -> dict[str, int]:
    """Files of a folder's manifest and their sizes in bytes; empty where there is none to read."""
    try:
        files = read_json(folder / MANIFEST, inside=folder)["files"]
        return {name: int(expected["size"]) for name, expected in files.items()}
    except (UnreadableError, OverflowError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _problem(folder: Path, name: str, size: int, sha256: str, hashes: bool) -> str | None:
    file = folder / name
    try:
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if hashes and _hash(file) != sha256:
            return f"{name} does not have the hash it was written with"
    except OSError as error:  # a bad sector, a share that went away
        return f"{name} cannot be read ({error.strerror})"
    return None


def _hash(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
