"""Temporary folders of a process: gone with it, and after a kill with the next one; nobody else's are touched."""

import os
import signal
import subprocess
import sys

import pytest

from recipes.archer.session.temporary import hold, remove_leftovers, temporary_folder

PREFIX = "archer-model-"
HOLDER = """
import sys, time
from pathlib import Path
from recipes.archer.session.temporary import temporary_folder

with temporary_folder("archer-model-", Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("1")
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def dead() -> int:
    """A number of no process."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    return ended.pid


def test_what_a_kill_left_goes_when_the_next_one_starts(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        left = holder.stdout.readline().strip()
        remove_leftovers(PREFIX, tmp_path)
        assert [str(path) for path in tmp_path.iterdir()] == [left]  # it lives
        holder.send_signal(signal.SIGKILL)
    with temporary_folder(PREFIX, tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_elsewhere_stays(tmp_path, dead):
    """In another container its process has a number that is nobody's here."""
    folder = tmp_path / f"{PREFIX}{dead}-abc"
    folder.mkdir()
    held = hold(folder)
    remove_leftovers(PREFIX, tmp_path)
    assert folder.is_dir()
    os.close(held)
    remove_leftovers(PREFIX, tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "another user's", "no number", "within"])
def test_only_own_folders_are_removed_and_no_link_is_followed(tmp_path, dead, monkeypatch, kind):
    kept, place = tmp_path / "kept", tmp_path / "tmp"
    place.mkdir()
    kept.mkdir()
    (kept / "work").touch()
    folder = place / f"{PREFIX}{'notes' if kind == 'no number' else dead}-abc"
    if kind == "file":
        folder.touch()
    elif kind == "link":
        folder.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(folder)
    else:
        folder.mkdir()
        (folder / "link").symlink_to(kept)
    if kind == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    remove_leftovers(PREFIX, place)
    assert (kept / "work").exists()
    assert os.path.lexists(folder) == (kind != "within")
