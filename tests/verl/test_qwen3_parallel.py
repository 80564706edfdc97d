"""Qwen3 split over two processes (parallel_cases.py), tested in a process of its own.

Its workers are forks. A process that has run other tests has their threads, and a fork keeps what locks these hold.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).parent / "parallel_cases.py"
NUM_CASES, LONGEST_S = 6, 240  # some 25 s on an idle machine


def test_two_processes_agree_with_transformers():
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(CASES)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-2, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=LONGEST_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0 and f"{NUM_CASES} passed" in output, output[-5000:]
