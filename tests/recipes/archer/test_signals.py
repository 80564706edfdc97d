"""Stop signals, sent to a process of its own as a terminal or a cluster does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.archer.ending import Ending
from recipes.archer.signals import StopRequested, StopSignals

ROOT = Path(__file__).resolve().parents[3]
LOOP = """
import sys, time
from recipes.archer.signals import StopRequested, StopSignals

checks, grace_s = sys.argv[1] == "checks", float(sys.argv[2])
with StopSignals(grace_s) as stop:
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
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


def test_grace_runs_out(start):
    process = start(checks=False, grace_s=0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err.splitlines()[-1] == "not done in trainer.grace_s=0.3"


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
