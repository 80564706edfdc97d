"""Starts launchers as a user does, to their end or until a condition holds."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ROOT / "scripts" / "train"
DEADLINE_S = 240


@dataclass
class Launch:
    """A finished launcher."""

    code: int
    output: str
    folder: Path

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def run(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())


def command(launcher: str, *overrides: str) -> list[str]:
    return ["bash", str(LAUNCHERS / launcher), *overrides]


def environment(output: Path, **variables: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "JOB_", "RAY_"))}
    return clean | {"OUTPUT_DIR": str(output), "VENV": sys.prefix, **variables}


def launch(launcher: str, *overrides: str, output: Path, name: str, until=None, send=signal.SIGKILL, **variables):
    """Runs a launcher to its end, or until ``until(folder)`` holds: then it is sent a signal."""
    process = subprocess.Popen(
        command(launcher, *overrides),
        cwd="/",
        env=environment(output, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder, deadline = output / name, time.monotonic() + DEADLINE_S
    while until is not None and process.poll() is None and time.monotonic() < deadline:
        if until(folder):
            process.send_signal(send)
            break
        time.sleep(0.05)
    try:
        text, _ = process.communicate(timeout=max(1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        pytest.fail(f"{launcher} did not end within {DEADLINE_S} s:\n{text[-3000:]}")
    return Launch(process.returncode, text, folder)


def steps_logged(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0
