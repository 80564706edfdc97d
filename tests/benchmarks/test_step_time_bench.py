"""The benchmark against TRL: its environment is repaired, and brought up to date; with stand-ins for uv and Python."""

import shutil
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from benchmarks.step_time.bench_step_time import SPIN, one_core_taken, trl_python


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with a uv that makes an environment, and installs where the file ``network`` is."""
    monkeypatch.setenv("ARCHER_CACHE", str(tmp_path))
    (tmp_path / "uv-1" / "bin").mkdir(parents=True)
    environment = tmp_path / "bench-trl" / "bin"
    program(tmp_path / "new", f"test -e {tmp_path}/trl")
    program(
        tmp_path / "uv-1" / "bin" / "uv",
        f'echo "$1 $*" >>{tmp_path}/calls\n'
        f"[ $1 != venv ] || {{ mkdir -p {environment}; cp {tmp_path}/new {environment}/python; exit; }}\n"
        f"[ -e {tmp_path}/network ] || {{ echo 'error: no route' >&2; echo 'hint: none' >&2; exit 2; }}\n"
        f"touch {tmp_path}/trl",
    )
    return tmp_path


def program(path, script: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)


def calls(cache) -> list[list[str]]:
    text = (cache / "calls").read_text()
    (cache / "calls").unlink()
    return [line.split() for line in text.splitlines()]


def test_made_once_and_the_newest_each_time(cache, capsys):
    (cache / "network").touch()
    assert trl_python() == cache / "bench-trl" / "bin" / "python"
    assert [call[0] for call in calls(cache)] == ["venv", "pip"]
    trl_python()
    (call,) = calls(cache)
    assert call[0] == "pip" and "--upgrade" in call and call[-1] == "trl"
    assert capsys.readouterr().err == ""


def test_an_install_that_broke_off_is_an_error_in_one_line_and_made_good(cache):
    with pytest.raises(SystemExit) as caught:
        trl_python()
    assert str(caught.value).startswith(f"error: {cache}/bench-trl: TRL could not be installed: error: no route; check")
    assert "\n" not in str(caught.value)
    (cache / "network").touch()
    assert trl_python().exists() and (cache / "trl").exists()


def test_without_network_the_one_that_is_there_is_used(cache, capsys):
    (cache / "network").touch()
    trl_python()
    (cache / "network").unlink()
    assert trl_python().exists()
    assert capsys.readouterr().err == "warning: TRL could not be brought up to date: error: no route\n"


def test_without_set_up(cache):
    shutil.rmtree(cache / "uv-1")
    with pytest.raises(SystemExit, match="there is no uv in .*; run make setup"):
        trl_python()


def test_one_core_is_taken_while_it_is_measured_and_not_longer():
    before = set(psutil.Process().children())  # another test may have left some
    with one_core_taken(False):
        assert set(psutil.Process().children()) <= before
    with one_core_taken():
        (child,) = set(psutil.Process().children()) - before
        assert child.is_running()
    assert not child.is_running()


def test_what_takes_a_core_ends_with_the_benchmark_that_was_killed(tmp_path):
    said = tmp_path / "child"
    start = f"subprocess.Popen([sys.executable, '-P', '-c', {SPIN!r}, str(os.getpid())])"
    parent = f"import os, subprocess, sys; print({start}.pid)"
    with said.open("w") as out:
        subprocess.run([sys.executable, "-P", "-c", parent], stdout=out, check=True)
    child, deadline = int(said.read_text()), time.monotonic() + 20
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.05)
