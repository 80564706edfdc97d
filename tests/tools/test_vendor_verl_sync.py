"""tools/vendor_verl.py sync: where the wheel comes from; syncs cut short, of a new pin, and at once."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.vendoring.manifest import VendorError
from tools.vendoring.wheel import _python_with_pip

COMMAND = Path(__file__).resolve().parents[2] / "tools/vendor_verl.py"


@pytest.fixture
def pip_finds_only(monkeypatch):
    """Let pip look into one folder and nowhere else; pip itself runs."""
    try:
        _python_with_pip()
    except VendorError:
        pytest.skip("no pip in this Python or in the one it was made from; the wheel was given with --wheel")

    def look_into(folder: Path) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    return look_into


def test_a_wheel_with_another_hash_is_refused(checkout, capsys):
    checkout.wheel.write_bytes(checkout.wheel.read_bytes() + b"\0")
    before = checkout.state()
    assert checkout.sync() == 2
    assert f"{checkout.wheel}: sha256 is" in capsys.readouterr().err
    assert checkout.state() == before


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("wheel", ["missing.whl", "."])
def test_a_wheel_that_cannot_be_read_is_named(checkout, capsys, tmp_path, wheel, mended):
    if mended:
        assert checkout.sync() == 0
    assert checkout.run("sync", "--wheel", str(tmp_path / wheel)) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_with_a_wheel_no_other_program_runs(checkout, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert checkout.sync() == 0


def test_pip_fetches_the_wheel_into_the_cache_and_the_cache_is_reused(checkout, pip_finds_only, tmp_path):
    pip_finds_only(checkout.wheel.parent)
    assert checkout.run("sync") == 0
    cached = tmp_path / "cache/wheels" / checkout.wheel.name
    assert list(cached.parent.iterdir()) == [cached]
    checkout.wheel.unlink()
    shutil.rmtree(checkout.root / "verl/trainer")
    assert checkout.run("sync") == 0, "from the cache"


def test_without_network_the_error_names_the_remedy(checkout, pip_finds_only, capsys, tmp_path):
    pip_finds_only(tmp_path)
    assert checkout.run("sync") == 2
    assert "verl==0.5.0: pip could not fetch it" in capsys.readouterr().err


def test_a_cached_wheel_with_another_hash_is_fetched_again(checkout, pip_finds_only, tmp_path, capsys):
    cached = tmp_path / "cache/wheels" / checkout.wheel.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"cut short")
    pip_finds_only(checkout.wheel.parent)
    assert checkout.run("sync") == 0
    assert "not the pinned wheel" in capsys.readouterr().err


def _cut_short(monkeypatch, checkout, renames: int) -> bool:
    """Interrupt a sync after `renames` files, leaving a temporary file behind; False if it ended before."""
    done = 0
    replace = Path.replace

    def counted(self, target):
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        patch.setattr(os, "getpid", lambda: 0)  # the next sync is another process
        try:
            checkout.sync()
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("renames", range(6))
def test_a_sync_cut_short_anywhere_can_be_run_again(checkout, monkeypatch, renames):
    assert _cut_short(monkeypatch, checkout, renames)
    assert checkout.run("check") == 1
    assert checkout.sync() == 0
    assert not list(checkout.root.rglob("*.vendor-tmp"))


def _next_release(release, build_wheel, checkout) -> None:
    """Move the checkout's pin to a release without verl/extra.py and with another verl/core.py."""
    del release["verl/extra.py"]
    release["verl/core.py"] = "def kept(): ...\n"
    checkout.pin(build_wheel(checkout.wheel.parent, release, "0.6.0"), "0.6.0")


def test_a_new_pin_removes_the_old_releases_files_and_says_so(checkout, release, build_wheel, capsys, tmp_path):
    checkout.sync()
    _next_release(release, build_wheel, checkout)
    assert checkout.run("check") == 1
    assert checkout.sync() == 0
    assert "verl/extra.py: removed, left from another version" in capsys.readouterr().out
    assert not (checkout.root / "verl/extra.py").exists()
    assert not (tmp_path / "cache/altered").exists(), "the old release's files are nobody's edits"


def test_an_edited_file_of_the_old_release_is_not_removed(checkout, release, build_wheel):
    checkout.sync()
    edited = checkout.write("verl/extra.py", "edited = 1\n")
    _next_release(release, build_wheel, checkout)
    assert checkout.sync() == 1
    assert edited.exists()


@pytest.mark.parametrize("renames", range(3))
def test_a_new_pin_cut_short_can_be_run_again(checkout, release, build_wheel, monkeypatch, tmp_path, renames):
    checkout.sync()
    _next_release(release, build_wheel, checkout)
    assert _cut_short(monkeypatch, checkout, renames) == (renames < 2)  # core.py, then RECORD
    assert checkout.sync() == 0
    assert not (checkout.root / "verl/extra.py").exists()
    assert not (tmp_path / "cache/altered").exists(), "RECORD still vouched for the old release's files"


def test_a_sync_waits_for_another(checkout):
    command = [sys.executable, COMMAND, "sync", "--root", checkout.root, "--wheel", checkout.wheel]
    with (checkout.root / "vendor/verl.toml").open("r+b") as manifest:
        fcntl.flock(manifest, fcntl.LOCK_EX)
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)  # alone it takes 0.1 s
    assert waiting.wait(timeout=60) == 0


def test_two_syncs_at_once_both_succeed(checkout):
    command = [sys.executable, COMMAND, "sync", "--root", checkout.root, "--wheel", checkout.wheel]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
