"""What is left of a session when its driver is gone: processes, shared memory, its folder."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from recipes.archer.session import reaper

HOLDER = """
import mmap, os, sys, time
for path in sys.argv[1:]:
    file = open(path, "w+b")
    file.truncate(4096)
    globals()[path] = mmap.mmap(file.fileno(), 4096)
    file.close()
print("ready", flush=True)
time.sleep(100)
"""


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    return folder


@pytest.fixture
def start(session):
    started = []

    def start(*paths, mark: str | None = None) -> subprocess.Popen:
        environment = os.environ | {reaper.MARK: mark or str(session)}
        process = subprocess.Popen([sys.executable, "-c", HOLDER, *paths], env=environment, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def names():
    """Names in shared memory: as Python and NCCL choose them, and one of a user."""
    unique = uuid.uuid4().hex[:12]
    found = [f"/dev/shm/psm_{unique}", f"/dev/shm/nccl-{unique}", f"/dev/shm/model-{unique}"]
    yield found
    for path in found:
        Path(path).unlink(missing_ok=True)


def test_processes_shared_memory_and_folder_go_and_nothing_else(session, start, names):
    of_session, of_other = start(*names), start(mark=f"{session}-other")
    reaper.reap(str(session))
    assert of_session.wait(timeout=10) == -signal.SIGKILL
    assert of_other.poll() is None
    assert [Path(name).exists() for name in names] == [False, False, True]
    assert not session.exists()


def test_it_acts_when_its_parent_is_killed_and_not_before(session, start):
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, {reaper.__file__!r}, {str(session)!r}], "
    script += "stdin=subprocess.PIPE, process_group=0); print('ready', flush=True); time.sleep(100)"
    process = start()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        assert process.poll() is None
        parent.send_signal(signal.SIGKILL)
    assert process.wait(timeout=20) == -signal.SIGKILL


def test_it_does_not_listen_to_the_signals_that_stop_a_run(session):
    command = [sys.executable, reaper.__file__, str(session)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while signal.SIGTERM not in _ignored(process.pid):
            assert process.poll() is None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert not session.exists()


def _ignored(process: int) -> set[int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_a_worker_that_was_forked_is_known_by_where_its_output_goes(session):
    """It shows the environment of the process that it was forked from, which has no mark."""
    (session / "logs").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(100)"]
    environment = {name: value for name, value in os.environ.items() if name != reaper.MARK}
    with open(session / "logs/worker.out", "w") as out, open(session.parent / "other.out", "w") as elsewhere:
        worker = subprocess.Popen(command, env=environment, stdout=out)
        stranger = subprocess.Popen(command, env=environment, stdout=elsewhere)
    try:
        assert reaper.processes_of(str(session)) == [worker.pid]
        reaper.reap(str(session))
        assert worker.wait(10) == -signal.SIGKILL and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
