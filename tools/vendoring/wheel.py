"""The upstream wheel: finding or fetching it, verifying it, and reading its files and RECORD."""

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tools.vendoring.manifest import MANIFEST, Upstream, VendorError

_DIST_INFO = re.compile(r"^[^/]+\.dist-info/")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def plain_path(path: str) -> str:
    """A wheel's path with the version taken out of its metadata folder's name."""
    return _DIST_INFO.sub("dist-info/", path)


def parse_record(data: bytes) -> dict[str, str]:
    """RECORD (PEP 376: path, "sha256=<urlsafe base64>", size) as {plain path: hex sha256}.

    RECORD's own row carries no hash and is left out. ValueError if `data` is not a RECORD.
    """
    hashes = {}
    for row in csv.reader(io.StringIO(data.decode("utf-8"))):
        if len(row) != 3:
            raise ValueError(f"a RECORD row has 3 fields, not {len(row)}: {row}")
        path, digest, _ = row
        if digest:
            encoded = digest.removeprefix("sha256=")
            hashes[plain_path(path)] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    return hashes


class Wheel:
    """A wheel on disk, read by plain path ("dist-info/METADATA", "verl/protocol.py")."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise VendorError(f"{path}: cannot be read as a wheel ({error}); give another --wheel") from None
        self._names = {plain_path(name): name for name in self._zip.namelist() if not name.endswith("/")}

    @property
    def paths(self) -> Iterable[str]:
        return self._names.keys()

    def read(self, path: str) -> bytes:
        """The bytes of one file; KeyError if the wheel does not hold it."""
        return self._zip.read(self._names[path])


def cache_dir() -> Path:
    """$ARCHER_CACHE, or $XDG_CACHE_HOME/archer, or ~/.cache/archer: outside every checkout."""
    if archer := os.environ.get("ARCHER_CACHE"):
        return Path(archer).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "archer"


def pinned_wheel(upstream: Upstream, given: Path | None = None) -> Wheel:
    """The wheel the manifest pins: `given`, else the cached one, else a fresh download. Hash verified."""
    if given is not None:
        _verify(given, upstream)
        return Wheel(given)
    cached = cache_dir() / "wheels" / upstream.file
    if cached.exists() and sha256(cached.read_bytes()) != upstream.sha256:
        print(f"{cached}: not the pinned wheel; fetching it again", file=sys.stderr)
        cached.unlink()
    path = cached if cached.exists() else download(upstream.name, upstream.version)
    _verify(path, upstream)
    return Wheel(path)


def _verify(path: Path, upstream: Upstream) -> None:
    try:
        actual = sha256(path.read_bytes())
    except OSError as error:
        raise VendorError(f"{path}: cannot be read ({error.strerror}); give another --wheel") from None
    if actual != upstream.sha256:
        raise VendorError(
            f"{path}: sha256 is {actual}, {MANIFEST} pins {upstream.sha256}; use {upstream.file} as released"
        )


def find_or_download(name: str, version: str) -> Path:
    """A release that no hash pins (`upgrade` reads it): the cached wheel, else a fresh download."""
    cached = sorted((cache_dir() / "wheels").glob(f"{name}-{version}-*.whl"))
    return cached[0] if cached else download(name, version)


def download(name: str, version: str) -> Path:
    """Fetch one wheel into the cache with pip, without its requirements, and return its path there."""
    folder = cache_dir() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    # Into a folder of its own first, so that a download cut short never looks like a cached wheel.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        command = [_python_with_pip(), "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", temporary, f"{name}=={version}"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)  # its errors go to stderr
        found = list(Path(temporary).glob("*.whl"))
        if done.returncode != 0 or len(found) != 1:
            raise VendorError(
                f"{name}=={version}: pip could not fetch it (exit {done.returncode}); "
                "fetch the wheel on a machine with network and give --wheel PATH"
            )
        return found[0].replace(folder / found[0].name)


def _python_with_pip() -> str:
    """This interpreter or, as an environment made by uv has no pip, the one it was made from."""
    for python in (sys.executable, sys._base_executable):
        if subprocess.run([python, "-P", "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return python
    raise VendorError(f"{sys.executable}: has no pip; run this with a Python that has, or give --wheel PATH")
