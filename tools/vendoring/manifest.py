"""vendor/verl.toml as data: the pinned wheel, what is taken from it, and our own files beside it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST = "vendor/verl.toml"
TREE = "verl"  # the one folder that is unpacked, checked and ignored by git
SYNC = "run `python tools/vendor_verl.py sync`"


class VendorError(Exception):
    """The work cannot be done; the text is one line that names the thing and the remedy."""


@dataclass(frozen=True)
class Upstream:
    """The pinned release; hashes are lower-case hex sha256, size is in bytes."""

    name: str
    version: str
    file: str
    size: int
    sha256: str
    record_sha256: str
    licence: str
    copyright: str


@dataclass(frozen=True)
class Drop:
    """A folder of upstream that is not unpacked, with the number of files it holds."""

    folder: str
    files: int
    why: str


@dataclass(frozen=True)
class OwnFile:
    """A file of our own under verl/; `replaces_sha256` is the upstream file a "replace" stands in for."""

    path: str
    kind: str
    why: str
    until: str
    replaces_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything vendor/verl.toml says. Paths are POSIX and relative to the repository root."""

    upstream: Upstream
    extract: dict[str, str]
    drop: tuple[Drop, ...]
    own: tuple[OwnFile, ...]

    def target(self, wheel_path: str) -> str | None:
        """Where a wheel's file goes in the checkout ("dist-info/" as written); None if it is not taken."""
        if wheel_path in self.extract:
            return self.extract[wheel_path]
        for source, folder in self.extract.items():
            if source.endswith("/") and wheel_path.startswith(source):
                return folder + wheel_path.removeprefix(source)
        return None

    def is_dropped(self, path: str) -> bool:
        return any(path.startswith(drop.folder) for drop in self.drop)

    @property
    def record_path(self) -> str:
        """Where RECORD lies in the checkout."""
        return self.extract["dist-info/RECORD"]


def load_manifest(root: Path) -> Manifest:
    """Read and validate vendor/verl.toml under `root`; VendorError names the entry at fault."""
    try:
        data = tomllib.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VendorError(f"{root / MANIFEST}: missing; is --root the repository root?") from None
    except tomllib.TOMLDecodeError as error:
        raise VendorError(f"{MANIFEST}: not valid TOML: {error}") from None
    try:
        manifest = Manifest(
            upstream=Upstream(**data["upstream"]),
            extract=dict(data["extract"]),
            drop=tuple(Drop(**entry) for entry in data.get("drop", [])),
            own=tuple(OwnFile(**entry) for entry in data.get("own", [])),
        )
    except (KeyError, TypeError) as error:  # a field or table that is missing or unknown
        raise VendorError(f"{MANIFEST}: missing or unknown entry: {error}") from None
    _validate(manifest)
    return manifest


def _validate(manifest: Manifest) -> None:
    if "dist-info/RECORD" not in manifest.extract:
        raise VendorError(f"{MANIFEST}: [extract] must take dist-info/RECORD, which `check` reads")
    paths = [own.path for own in manifest.own] + [drop.folder for drop in manifest.drop]
    for path in [*paths, *manifest.extract.values()]:
        parts = PurePosixPath(path).parts
        if parts[:1] != (TREE,) or ".." in parts:
            raise VendorError(f"{MANIFEST}: {path}: lies outside {TREE}/; only that folder is managed")
    for path in paths:
        if paths.count(path) > 1:
            raise VendorError(f"{MANIFEST}: {path}: listed twice; keep one")
    for own in manifest.own:
        if own.kind not in ("add", "replace"):
            raise VendorError(f"{MANIFEST}: {own.path}: kind is {own.kind!r}; use 'add' or 'replace'")
        if (own.kind == "replace") != (own.replaces_sha256 is not None):
            raise VendorError(f"{MANIFEST}: {own.path}: a 'replace' needs replaces_sha256, an 'add' has none")
