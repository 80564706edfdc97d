"""Checkpoints on disk: whole or not there.

A checkpoint is written beside its final place, listed in a manifest with sizes and hashes, flushed, renamed;
only then is the pointer to the latest replaced, and only then are old ones removed.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"
STATE = "state.json"
POINTER = "latest_checkpointed_iteration.txt"  # verl's name for it
PREFIX = "global_step_"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, its step, and the trainer's state in it."""

    path: Path
    step: int
    state: dict


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content so that a reader, or a crash, sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class CheckpointStore:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder; checkpoints are ``global_step_<n>`` in it.
        keep_last: how many to keep, at least 1.
    """

    def __init__(self, folder: Path, keep_last: int = 3):
        if keep_last < 1:
            raise ValueError(f"trainer.keep_last={keep_last}: keep at least 1 checkpoint")
        self.folder, self.keep_last = Path(folder), keep_last

    def begin(self, step: int) -> Path:
        """An empty folder to write step ``step`` into; leftovers of an interrupted save are removed."""
        for leftover in self.folder.glob(f".{PREFIX}*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.folder / f".{PREFIX}{step}.partial"
        partial.mkdir(parents=True)
        return partial

    def commit(self, partial: Path, step: int, state: dict) -> Path:
        """Makes the folder of :meth:`begin` the checkpoint of step ``step``, and removes what is too old."""
        (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
        write_atomically(partial / MANIFEST, json.dumps({"step": step, "files": _describe(partial)}, indent=1))
        for file in partial.rglob("*"):
            if file.is_file():
                _flush(file)
        final = self.folder / f"{PREFIX}{step}"
        if final.exists():  # written by a run that was resumed from before it
            shutil.rmtree(final)
        os.replace(partial, final)
        _flush(self.folder)
        write_atomically(self.folder / POINTER, str(step))
        steps = self._steps()
        # later ones are of an attempt that this run went back behind: kept, a resume would jump to them
        later = [other for other in steps if other > step]
        for old in [other for other in steps if other <= step][: -self.keep_last] + later:
            shutil.rmtree(self.folder / f"{PREFIX}{old}", ignore_errors=True)
        return final

    def newest_whole(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and one line for each newer one that does not."""
        skipped = []
        for step in reversed(self._steps()):
            path = self.folder / f"{PREFIX}{step}"
            try:
                return read(path), skipped
            except ValueError as problem:
                skipped.append(f"skipped checkpoint {path}: {problem}")
        return None, skipped

    def _steps(self) -> list[int]:
        names = (p.name.removeprefix(PREFIX) for p in self.folder.glob(f"{PREFIX}*"))
        return sorted(int(name) for name in names if name.isdigit())


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        ValueError: it is not whole; the message says what is missing or damaged.
    """
    problem = verify(path)
    if problem is not None:
        raise ValueError(problem)
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Checkpoint(path, state["step"], state)


def verify(path: Path) -> str | None:
    """None when every file of the manifest is there with its size and hash; otherwise what is wrong."""
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        described = [(name, expected["size"], expected["sha256"]) for name, expected in files.items()]
    except FileNotFoundError:
        return f"{MANIFEST} is missing, so it was never finished"
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever a torn or altered file may hold
        return f"{MANIFEST} is damaged"
    if STATE not in files:
        return f"{MANIFEST} does not list {STATE}"
    for name, size, sha256 in described:
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _hash(file) != sha256:
            return f"{name} does not have the hash it was written with"
    return None


def _describe(folder: Path) -> dict[str, dict]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): {"size": p.stat().st_size, "sha256": _hash(p)} for p in files}


def _hash(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
