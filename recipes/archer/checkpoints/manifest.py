"""The list of a checkpoint's files with sizes and hashes, by which it is known to be whole."""

import hashlib
import json
import os
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.checkpoints.bounded import files_in, is_plain_name, open_regular, read_json
from recipes.archer.ending import UserError

MANIFEST = "manifest.json"
REFERENCE = "reference"  # folder of the reference policy's parameters, where they are not the model's own
# of a checkpoint's folder; raised when an older reader would misunderstand it
FORMAT = 3  # 2: without a reference, and still written where there is none
WITHOUT_REFERENCE = 2  # 1: each worker's own state was a pickle, host_<rank>.pt
MOST_BYTES = 64 << 20  # of the manifest


def write_manifest(folder: Path) -> None:
    """Lists every file of a finished folder, and flushes files and folders to the disk."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    described = {str(p.relative_to(folder)): {"size": p.stat().st_size, "sha256": _hash(p)} for p in files}
    layout = FORMAT if any(name.startswith(f"{REFERENCE}/") for name in described) else WITHOUT_REFERENCE
    text = json.dumps({"format": layout, "files": described}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint's folder holds.

    Attributes:
        layout: number of the format; below ``WITHOUT_REFERENCE``: the folder has pickles that run what is in them.
        files: (size in bytes, SHA-256) by name, relative to the folder.
    """

    layout: int
    files: dict[str, tuple[int, str]]

    @property
    def is_old(self) -> bool:
        return self.layout < WITHOUT_REFERENCE


def old_refused(folder: Path) -> UserError:
    """Why a folder of an earlier format is not read, and what to do about it."""
    return UserError(
        f"checkpoint {folder} is of an earlier format, with pickles that run what is in them; if it is your own, "
        "continue it with trainer.trust_old_checkpoints=true, or set trainer.experiment_name to another name"
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder.

    Raises:
        ValueError: it is absent or damaged, so the checkpoint is not whole.
        UserError: a later version of this code wrote the folder.
    """
    try:
        manifest = read_json(folder / MANIFEST, MOST_BYTES)
        layout = manifest["format"]
        files = {name: _described(name, file) for name, file in manifest["files"].items()}
    except FileNotFoundError:
        raise ValueError(f"{MANIFEST} is missing, so it was never finished") from None
    except OSError as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, AttributeError):  # whatever a torn or altered file may hold
        raise ValueError(f"{MANIFEST} is damaged") from None
    if isinstance(layout, bool) or not isinstance(layout, int) or layout < 1:
        raise ValueError(f"{MANIFEST} is damaged")
    if layout > FORMAT:
        raise UserError(
            f"checkpoint {folder} has format {layout}, this code reads up to {FORMAT}: continue with the version "
            "that wrote it, or set trainer.experiment_name to another name"
        )
    return Manifest(layout, files)


def problem_of(folder: Path, hashes: bool = True) -> str | None:
    """None when every file of the manifest is there with its size and hash; otherwise what is wrong.

    Args:
        hashes: whether to read the files; without, an altered bit is not noticed.

    Raises:
        UserError: a later version of this code wrote the folder.
    """
    try:
        files = read_manifest(folder).files
    except ValueError as problem:
        return str(problem)
    return next((p for p in (_problem(folder, n, *f, hashes) for n, f in files.items()) if p is not None), None)


def stranger_in(folder: Path, files: Container[str]) -> str | None:
    """What a folder holds besides the files of its manifest, in words; None where there is nothing.

    A link is a stranger wherever it leads, and so is what is neither file nor folder.
    """
    try:
        extra = next((name for name in files_in(folder) if name != MANIFEST and name not in files), None)
    except ValueError as stranger:
        return str(stranger)
    return f"{MANIFEST} does not list {extra}" if extra else None


def listed(folder: Path) -> dict[str, int]:
    """Files of a folder's manifest and their sizes in bytes; empty where there is none to read."""
    try:
        return {name: size for name, (size, _) in read_manifest(folder).files.items()}
    except (ValueError, UserError):
        return {}


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _described(name: str, file: dict[str, Any]) -> tuple[int, str]:
    size, sha256 = file["size"], file["sha256"]
    is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    if not (is_plain_name(name) and is_size and isinstance(sha256, str)):
        raise TypeError(name)
    return size, sha256


def _problem(folder: Path, name: str, size: int, sha256: str, hashes: bool) -> str | None:
    try:
        with open_regular(folder / name) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
            if hashes and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return f"{name} does not have the hash it was written with"
    except (FileNotFoundError, NotADirectoryError):
        return f"{name} is missing"
    except OSError as error:  # a bad sector, a share that went away
        return f"{name} cannot be read ({error.strerror})"
    except ValueError as problem:
        return str(problem)
    return None


def _hash(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
