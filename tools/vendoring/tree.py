"""The state of verl/: every way in which it differs from the manifest and the pinned wheel's RECORD."""

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tools.vendoring.manifest import MANIFEST, SYNC, TREE, Manifest, OwnFile
from tools.vendoring.wheel import parse_record, sha256

TEMP_SUFFIX = ".vendor-tmp"
_LINK, _TEMPORARY = "link", "temporary"  # stand where a hash would
_BYTECODE = re.compile(r"\.pyc(\.\d+)?$")  # with a number while Python is writing it
_IGNORE_ALL = (f"/{TREE}/**", f"!/{TREE}/**/")


class Kind(Enum):
    """What is wrong with a path. `sync` mends what it may write or remove; the rest is for a person."""

    MISSING = f"missing; {SYNC}"
    ALTERED = f"altered; {SYNC} to restore it, or list it in {MANIFEST} as a replacement"
    OUTDATED = f"damaged, or of another version of upstream; {SYNC}"
    DROPPED = f"{MANIFEST} drops it, yet it is here; {SYNC}"
    OLDER = f"left from another version of upstream; {SYNC}"
    LEFTOVER = f"left by an interrupted sync; {SYNC}"
    STRAY = f"neither upstream's nor listed in {MANIFEST}; list it as ours or remove it"
    OWN_MISSING = f"missing, a file of our own which {MANIFEST} lists; restore it from git"
    OWN_UNTOUCHED = f"still upstream's, though {MANIFEST} lists it as replaced; restore ours from git"
    UNLISTED = f".gitignore lets it in as our own, {MANIFEST} does not list it; make the two agree"
    IGNORED = "listed as our own, but .gitignore has no negation for it; add one"
    UNIGNORED = f"upstream's files under {TREE}/ would be committed; add the line "
    MANIFEST = f"{MANIFEST} does not fit RECORD"


WRITTEN = frozenset({Kind.MISSING, Kind.ALTERED, Kind.OUTDATED})
REMOVED = frozenset({Kind.DROPPED, Kind.OLDER, Kind.LEFTOVER})


@dataclass(frozen=True)
class Problem:
    """One path and what is wrong with it; as text, one line with the remedy."""

    path: str
    kind: Kind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.kind.value}{self.detail}"


def shipped_files(manifest: Manifest, record: bytes) -> dict[str, str]:
    """A RECORD's files that belong in the checkout, as {path: hex sha256}.

    RECORD itself is included, and so are files that are dropped or replaced. ValueError if it is damaged.
    """
    targets = {manifest.target(path): digest for path, digest in parse_record(record).items()}
    targets.pop(None, None)
    return targets | {manifest.record_path: sha256(record)}


def tree_record(root: Path, manifest: Manifest) -> bytes | None:
    """The RECORD that lies in verl/, if it is the pinned wheel's."""
    path = root / manifest.record_path
    record = path.read_bytes() if path.is_file() else b""
    return record if sha256(record) == manifest.upstream.record_sha256 else None


def inspect(
    root: Path, manifest: Manifest, shipped: dict[str, str], older: dict[str, str] | None = None
) -> list[Problem]:
    """Every problem of verl/ and of the manifest, one a path; an empty list when all is right.

    `shipped` is `shipped_files` of the pinned wheel, `older` that of another version unpacked before, if any.
    """
    found = scan(root)
    own = {file.path: file for file in manifest.own}
    problems = _manifest_problems(manifest, shipped) + ignore_problems(root, manifest)
    for path in sorted(found.keys() | shipped.keys() | own.keys()):
        actual = found.get(path)
        if path in own:
            kind = _judge_own(own[path], actual)
        else:
            wanted = None if manifest.is_dropped(path) else shipped.get(path)
            kind = _judge(actual, wanted, shipped.get(path), (older or {}).get(path))
        if kind is not None:
            problems.append(Problem(path, kind))
    return problems


def check(root: Path, manifest: Manifest) -> list[Problem]:
    """`inspect` without a wheel: RECORD is the one in verl/, which the manifest pins."""
    record = tree_record(root, manifest)
    if record is not None:
        return inspect(root, manifest, shipped_files(manifest, record))
    detail = " (until then upstream's files cannot be checked)"
    kind = Kind.OUTDATED if (root / manifest.record_path).exists() else Kind.MISSING
    found = scan(root)
    missing = [Problem(o.path, Kind.OWN_MISSING) for o in manifest.own if o.path not in found]
    return [Problem(manifest.record_path, kind, detail), *ignore_problems(root, manifest), *missing]


def scan(root: Path) -> dict[str, str]:
    """Every file under verl/ as {path: hex sha256}, without the bytecode in __pycache__."""
    found = {}
    for folder, folders, files in os.walk(root / TREE):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        if Path(folder).name == "__pycache__":
            files = [name for name in files if not _BYTECODE.search(name)]
        for name in files + links:
            path = Path(folder, name)
            found[path.relative_to(root).as_posix()] = _digest(path)
    return found


def _digest(path: Path) -> str:
    if path.name.endswith(TEMP_SUFFIX):  # another sync may rename it under our hands
        return _TEMPORARY
    return _LINK if path.is_symlink() else sha256(path.read_bytes())


def ignore_problems(root: Path, manifest: Manifest) -> list[Problem]:
    """Where .gitignore and the manifest disagree on which files under verl/ are our own."""
    path = root / ".gitignore"
    if not path.is_file():  # a copy of the checkout without git, as in a container
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = [Problem(".gitignore", Kind.UNIGNORED, line) for line in _IGNORE_ALL if line not in lines]
    negated = {line[2:] for line in lines if line.startswith(f"!/{TREE}/")} - {_IGNORE_ALL[1][2:]}
    listed = {own.path for own in manifest.own}
    problems += [Problem(path, Kind.UNLISTED) for path in sorted(negated - listed)]
    return problems + [Problem(path, Kind.IGNORED) for path in sorted(listed - negated)]


def _judge_own(own: OwnFile, actual: str | None) -> Kind | None:
    if actual is None:
        return Kind.OWN_MISSING
    return Kind.OWN_UNTOUCHED if actual == own.replaces_sha256 else None


def _judge(actual: str | None, wanted: str | None, shipped: str | None, older: str | None) -> Kind | None:
    """What is wrong with a file that is not our own, from four hashes; None where there is no file."""
    if actual == wanted:
        return None
    if actual is None:
        return Kind.MISSING
    if wanted is not None:
        return Kind.OUTDATED if actual == older else Kind.ALTERED
    if actual == _TEMPORARY:
        return Kind.LEFTOVER
    if actual == shipped:
        return Kind.DROPPED
    # Only what is byte for byte upstream's is known to be nobody's work here.
    return Kind.OLDER if actual == older else Kind.STRAY


def _manifest_problems(manifest: Manifest, shipped: dict[str, str]) -> list[Problem]:
    problems = []
    for drop in manifest.drop:
        count = sum(path.startswith(drop.folder) for path in shipped)
        if count != drop.files:
            detail = f": files = {drop.files}, the wheel has {count}"
            problems.append(Problem(drop.folder, Kind.MANIFEST, detail))
    for own in manifest.own:
        theirs = shipped.get(own.path)
        if own.kind == "add" and theirs is not None:
            problems.append(Problem(own.path, Kind.MANIFEST, ": kind = 'add', but upstream ships it"))
        if own.kind == "replace" and theirs != own.replaces_sha256:
            detail = f": replaces_sha256 is not upstream's, {theirs or 'which has no such file'}"
            problems.append(Problem(own.path, Kind.MANIFEST, detail))
    return problems
