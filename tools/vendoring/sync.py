"""Make verl/ what the manifest says: unpack what is missing or altered, remove what upstream left over."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.vendoring.manifest import MANIFEST, TREE, Manifest, VendorError
from tools.vendoring.tree import (
    REMOVED,
    TEMP_SUFFIX,
    WRITTEN,
    Kind,
    Problem,
    check,
    inspect,
    shipped_files,
    tree_record,
)
from tools.vendoring.wheel import Wheel, cache_dir, pinned_wheel, sha256


def sync(root: Path, manifest: Manifest, given: Path | None = None) -> list[Problem]:
    """Mend verl/ and return the problems left, which are for a person.

    Quick when nothing is to be mended. Every file is put in place with a rename, RECORD last, so a sync cut
    short at any point can be run again. Files of our own are never touched. `given` is a wheel on disk, verified
    also where nothing is to be mended.
    """
    if given is not None:
        pinned_wheel(manifest.upstream, given)
    problems = check(root, manifest)
    if any(problem.kind in WRITTEN | REMOVED for problem in problems):
        with _locked(root):
            _mend(root, manifest, given)
        problems = check(root, manifest)
    return problems


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One sync at a time in a checkout that several machines may share."""
    with (root / MANIFEST).open("r+b") as handle:  # NFS gives an exclusive lock only on a writable handle
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _mend(root: Path, manifest: Manifest, given: Path | None) -> None:
    record, older, wheel = tree_record(root, manifest), {}, None
    if record is None:
        wheel = pinned_wheel(manifest.upstream, given)
        record = _record_of(wheel, manifest)
        older = _unpacked_before(root, manifest)
    problems = inspect(root, manifest, shipped_files(manifest, record), older)
    write = [problem for problem in problems if problem.kind in WRITTEN]
    remove = [problem for problem in problems if problem.kind in REMOVED]
    for problem in remove:
        _remove(root, problem)
    if write:
        _write(root, manifest, wheel or pinned_wheel(manifest.upstream, given), write)
    if wheel is not None and tree_record(root, manifest) is None:
        # Last: the RECORD in verl/ tells the next sync which files of another version are upstream's.
        write_atomic(root / manifest.record_path, record)
    release = f"{manifest.upstream.name} {manifest.upstream.version}"
    print(f"{release}: {len(write)} files written, {len(remove)} removed")


def _record_of(wheel: Wheel, manifest: Manifest) -> bytes:
    record = wheel.read("dist-info/RECORD")
    if sha256(record) != manifest.upstream.record_sha256:
        raise VendorError(f"{MANIFEST}: record_sha256 should be {sha256(record)}, as in the pinned wheel")
    return record


def _unpacked_before(root: Path, manifest: Manifest) -> dict[str, str]:
    """What another version's RECORD in verl/ says was unpacked; nothing if there is none."""
    path = root / manifest.record_path
    try:
        return shipped_files(manifest, path.read_bytes())
    except (FileNotFoundError, ValueError):  # no RECORD yet, or one that is damaged
        return {}


def _write(root: Path, manifest: Manifest, wheel: Wheel, problems: list[Problem]) -> None:
    sources = {manifest.target(path): path for path in wheel.paths}
    for problem in problems:
        if problem.path == manifest.record_path:
            continue
        if problem.kind is Kind.ALTERED and not (root / problem.path).is_symlink():
            kept = _set_aside(root / problem.path)
            print(f"{problem.path}: restored; the altered one is kept as {kept}")
        write_atomic(root / problem.path, wheel.read(sources[problem.path]))


def _set_aside(path: Path) -> Path:
    """Keep a file that is about to be overwritten: git ignores it, so nothing else has someone's edit."""
    data = path.read_bytes()
    kept = cache_dir() / "altered" / f"{sha256(data)[:12]}-{path.name}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return kept


def write_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary neighbour and a rename, so that `path` is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMP_SUFFIX}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _remove(root: Path, problem: Problem) -> None:
    path = root / problem.path
    if problem.kind is Kind.OLDER:
        print(f"{problem.path}: removed, left from another version of upstream")
    path.unlink()
    for folder in path.parents:
        if folder == root / TREE or {entry.name for entry in folder.iterdir()} - {"__pycache__"}:
            return
        shutil.rmtree(folder)  # nothing is left in it but, perhaps, bytecode of what was removed
