"""Stop signals, sent to a process of its own as a terminal or a cluster does."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

import pytest

from recipes.archer.ending import Ending
from recipes.archer.session.signals import StopRequested, StopSignals

ROOT = Path(__file__).resolve().parents[4]
LOOP = """
import os, sys, time
from recipes.archer.session.signals import StopRequested, StopSignals

checks, grace_s = sys.argv[1] == "checks", float(sys.argv[2])
def record(ending):
    # not print: the signal may have come in the middle of one, which has the stream to itself
    os.write(1, f"recorded|{ending.exit_code}|{ending.reason}\\n".encode())

with StopSignals(grace_s, record) as stop:
    print("ready", flush=True)
    try:
        for stage in range(2000):
            time.sleep(0.01)  # a stage: a signal in it does not interrupt it
            print("stage", stage, flush=True)
            if checks:
                stop.check()
    except StopRequested:
        time.sleep(0.05)  # saving
        print("saved", flush=True)
        ending = stop.ending()
print(ending.status, ending.reason, sep="|", flush=True)
time.sleep(float(sys.argv[3]))
sys.exit(ending.exit_code)
"""


@pytest.fixture
def start():
    """Starts the loop; it is there when this returns."""
    running = []

    def start(checks: bool, grace_s: float = 30.0, linger_s: float = 0.0) -> subprocess.Popen:
        arguments = ["checks" if checks else "never", str(grace_s), str(linger_s)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", LOOP, *arguments]
        process = subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_first_signal_ends_the_run_between_stages(start, number, code):
    process = start(checks=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    *stages, saved, ending = out.splitlines()
    assert stages[-1].startswith("stage")
    assert saved == "saved"
    assert ending == f"stopped|{number.name} received; continue with the same command"
    assert err == f"{number.name} received: saving, then leaving\n"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGINT, signal.SIGINT, 130), (signal.SIGINT, signal.SIGTERM, 130)],
)
def test_second_signal_leaves_at_once(start, first, second, code):
    process = start(checks=False)
    process.send_signal(first)
    assert process.stderr.readline() == f"{first.name} received: saving, then leaving\n"
    sent = time.monotonic()
    process.send_signal(second)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - sent < 10  # a busy machine may be slow, but this is not the 30 s of grace
    assert process.returncode == code
    assert err == f"second {second.name}: leaving at once\n"
    assert "saved" not in out
    reason = f"{first.name} received, second {second.name}: leaving at once; continue with the same command"
    assert out.splitlines()[-1] == f"recorded|{code}|{reason}"


@pytest.mark.parametrize(("first", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_second_hang_up_does_not_cut_off_the_save(start, first, code):
    """A terminal that closes sends one, and its shell another; also after Ctrl-C, and after the save."""
    process = start(checks=True, linger_s=1.0)
    process.send_signal(first)
    assert process.stderr.readline() == f"{first.name} received: saving, then leaving\n"
    process.send_signal(signal.SIGHUP)
    while process.stdout.readline() != "saved\n":
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == code
    assert process.stdout.read() == f"stopped|{first.name} received; continue with the same command\n"
    assert process.stderr.read() == ""


@pytest.fixture
def full_pipe():
    """The two ends of a pipe into which nothing more goes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@contextmanager
def _started(script: str, stderr: int, *arguments: str):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # as a run has it
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=stderr) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_a_signal_is_obeyed_though_nobody_takes_what_is_said_about_it(full_pipe):
    with _started(LOOP, full_pipe[1], "checks", "30", "0") as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)  # not the 30 s of grace
    assert process.returncode == 143 and b"saved\n" in out


def test_a_second_signal_is_obeyed_though_nobody_takes_what_is_said_about_it(full_pipe):
    with _started(LOOP, full_pipe[1], "never", "30", "0") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two at the same moment would be one
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and b"recorded|143|SIGTERM received, second SIGTERM" in out


def test_a_signal_in_the_middle_of_a_write_to_standard_error(full_pipe):
    """Python allows no second write from inside the first."""
    script = LOOP.replace("        for stage in", '        sys.stderr.write("a warning\\n")\n        for stage in')
    reader, writer = full_pipe
    with _started(script, writer, "checks", "30", "0") as process:
        time.sleep(0.5)  # it waits in its write
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        said = b""
        while select([reader], [], [], 3.0)[0]:
            said += os.read(reader, 1 << 16)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and b"saved\n" in out
    assert said.lstrip(b"\0").splitlines().count(b"SIGTERM received: saving, then leaving") == 1


def test_grace_runs_out(start):
    process = start(checks=False, grace_s=0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err.splitlines()[-1] == "not done in trainer.grace_s=0.3"


def test_a_disk_that_hangs_does_not_keep_the_process():
    script = LOOP.replace("os.write(1", "time.sleep(100); os.write(1")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, "never", "0.1", "0"]
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "recorded" not in out


SET_UP = """
import sys, time
from recipes.archer.session.signals import StopRequested, StopSignals

with StopSignals(30.0) as stop:
    try:
        with stop.nothing_to_save():
            print("ready", flush=True)
            for _ in range(1000):
                time.sleep(0.1)  # not one long one: it does not end for a signal that came just before it began
    except StopRequested:
        print(stop.ending(" during set-up").reason, flush=True)
    sys.exit(stop.ending().exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_set_up_is_left_at_once(number, code):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", SET_UP], env=environment, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)  # not the 100 s of set-up, nor the 30 s of grace
    assert process.returncode == code
    assert out == f"{number.name} received during set-up; continue with the same command\n"
    assert err == f"{number.name} received: leaving\n"


def test_a_signal_before_set_up_ends_set_up():
    with StopSignals(30.0) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested), stop.nothing_to_save():
            pytest.fail("set-up began")


def test_an_ignored_signal_stays_ignored():
    """As ``nohup`` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(30.0) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_does_not_break_the_save():
    """After SIGHUP a write to the terminal would raise; what the run says then goes nowhere."""
    parent, child = os.openpty()
    script = SET_UP.replace("print(stop.ending", 'print("x" * 100_000, flush=True); print(stop.ending')
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=child, stderr=child) as process:
        os.close(child)
        with open(parent, "rb", buffering=0) as terminal:
            assert terminal.readline() == b"ready\r\n"  # the line's end as well: into a closed terminal is an error
        process.send_signal(signal.SIGHUP)  # where it is the controlling terminal, the kernel sends one as well
        assert process.wait(timeout=20) == 129


def test_the_clock_stops_when_the_state_is_saved():
    with StopSignals(0.2) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.disarm()
        time.sleep(0.5)  # the process is still here
        assert stop.requested


def test_grace_ends_with_the_run(start):
    """What comes after training, such as the report, is not cut off by training's clock."""
    process = start(checks=True, grace_s=0.3, linger_s=0.8)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "not done" not in err


def test_without_a_signal_nothing_happens_and_handlers_come_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with StopSignals(1.0) as stop:
        stop.check()
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before


def test_each_check_after_the_signal_raises(monkeypatch):
    """A stage that was on its way when the first check raised meets the second one."""
    with StopSignals(30.0) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(StopRequested):
                stop.check()
        assert stop.ending() == Ending("stopped", "SIGTERM received; continue with the same command", 143)
