"""A small upstream release and a checkout that vendors it, for the tests of tools/vendor_verl.py."""

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.vendor_verl import main

RELEASE = {
    "verl/__init__.py": "from .core import kept\n",
    "verl/core.py": "def kept(): ...\ndef lost(): ...\n",
    "verl/extra.py": "",
    "verl/utils/device.py": "name = 'cuda'\n",
    "verl/stale/a.py": "a = 1\n",
    "verl/stale/b.py": "b = 1\n",
    "verl/trainer/config/_generated_ppo_trainer.yaml": "actor: {lr: 1, clip: 0.2}\ntrainer: {logger: []}\n",
    "tests/test_upstream.py": "",
    "dist-info/LICENSE": "Apache License\n",
    "dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
REQUIRES = ("numpy<2.0.0", "ray>=2.41", 'vllm<=0.8.5; extra == "vllm"')
OURS = {"verl/utils/device.py": "name = 'cpu'\n", "verl/ours.py": "mine = 1\n"}
GITIGNORE = "/verl/**\n!/verl/**/\n!/verl/utils/device.py\n!/verl/ours.py\n__pycache__/\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build_wheel(folder: Path, files: dict[str, str], version="0.5.0", requires=REQUIRES) -> Path:
    """Write verl-<version>-py3-none-any.whl with a RECORD that is true of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["Metadata-Version: 2.1", "Name: verl", f"Version: {version}"]
    metadata = "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires)]) + "\n"
    named = {
        path.replace("dist-info/", f"verl-{version}.dist-info/"): text
        for path, text in {**files, "dist-info/METADATA": metadata}.items()
    }
    record = ""
    for path, text in named.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    named[f"verl-{version}.dist-info/RECORD"] = record + f"verl-{version}.dist-info/RECORD,,\n"
    wheel = folder / f"verl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in named.items():
            archive.writestr(path, text)
    return wheel


@dataclass
class Checkout:
    """A temporary repository root and the wheel its manifest pins."""

    root: Path
    wheel: Path

    def pin(self, wheel: Path, version: str) -> None:
        """Write a manifest that pins `wheel`."""
        with zipfile.ZipFile(wheel) as archive:
            record = archive.read(f"verl-{version}.dist-info/RECORD")
            theirs = archive.read("verl/utils/device.py")
        self.wheel = wheel
        (self.root / "vendor").mkdir(exist_ok=True)
        (self.root / "vendor/verl.toml").write_text(f"""
            [upstream]
            name = "verl"
            version = "{version}"
            file = "{wheel.name}"
            size = {wheel.stat().st_size}
            sha256 = "{_sha256(wheel.read_bytes())}"
            record_sha256 = "{_sha256(record)}"
            licence = "Apache-2.0"
            copyright = "its authors"
            [extract]
            "verl/" = "verl/"
            "dist-info/LICENSE" = "verl/LICENSE"
            "dist-info/RECORD" = "verl/RECORD"
            [[drop]]
            folder = "verl/stale/"
            files = 2
            why = "stale"
            [[own]]
            path = "verl/utils/device.py"
            kind = "replace"
            replaces_sha256 = "{_sha256(theirs)}"
            why = "cpu"
            until = "never"
            [[own]]
            path = "verl/ours.py"
            kind = "add"
            why = "mine"
            until = "never"
        """)

    def write(self, path: str, text: str) -> Path:
        """Put one file into the checkout."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def run(self, *argv: str) -> int:
        """The command's exit status on this checkout."""
        return main([*argv, "--root", str(self.root)])

    def sync(self) -> int:
        return self.run("sync", "--wheel", str(self.wheel))

    def state(self) -> dict[str, tuple[int, bytes]]:
        """{path: (modification time in ns, content)} of every file."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(name="build_wheel")
def build_wheel_fixture():
    return build_wheel


@pytest.fixture
def release() -> dict[str, str]:
    """The files of the release that is vendored, free to be doctored."""
    return dict(RELEASE)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Checkout:
    """A clone as git leaves it: the manifest and our own files, nothing of upstream's; an empty cache."""
    monkeypatch.setenv("ARCHER_CACHE", str(tmp_path / "cache"))
    made = Checkout(tmp_path / "checkout", tmp_path)
    for path, text in {**OURS, ".gitignore": GITIGNORE}.items():
        made.write(path, text)
    made.pin(build_wheel(tmp_path / "wheels", RELEASE), "0.5.0")
    return made
