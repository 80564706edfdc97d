"""The tiny model's folder as a cache: where it is, whether it is current, how it is replaced."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

MANIFEST = "manifest.json"


def default_folder(digest: str) -> Path:
    """${ARCHER_CACHE:-${XDG_CACHE_HOME:-~/.cache}/archer}/tiny/<digest>."""
    cache = os.environ.get("ARCHER_CACHE") or (os.environ.get("XDG_CACHE_HOME") or "~/.cache") + "/archer"
    return Path(cache).expanduser() / "tiny" / digest


def read_manifest(folder: Path) -> dict | None:
    """The folder's manifest; None when there is none or it cannot be read, as after a damaged disk."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "fingerprint" in manifest else None


def is_current(folder: Path, digest: str) -> bool:
    """Whether the folder was built from this fingerprint and every file is there in its full size."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["fingerprint"] != digest:
        return False
    return manifest["files"] == file_sizes(folder)


def is_replaceable(folder: Path) -> bool:
    """Whether the folder is absent, empty, or one of ours."""
    if not folder.exists() or read_manifest(folder) is not None:
        return True
    return folder.is_dir() and not any(folder.iterdir())


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file but the manifest, by its path in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def write_manifest(folder: Path, digest: str, **facts: object) -> None:
    """Last of all files, so that a manifest vouches for the rest."""
    manifest = {"fingerprint": digest, **facts, "files": file_sizes(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


@contextmanager
def one_at_a_time(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time is inside, for this folder; `waiting` is called when another one is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` at the end; after an error nothing has changed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        if folder.exists():  # it steps aside first: a folder cannot be renamed onto one that is not empty
            folder.rename(scratch / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(scratch)
