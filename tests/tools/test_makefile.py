"""The Makefile: which device each target sets up, where neither set-up nor tests really run."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def device_of(tmp_path):
    """The DEVICE that set-up is given for a target, with stand-ins for bash and for the environment's Python."""
    for name, script in {"bash": f'echo "$1 ${{DEVICE:-none}}" >>{tmp_path}/calls', "python": "exit 0"}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def device_of(target: str, **variables: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name not in ("DEVICE", "MAKEFLAGS")}
        environment = clean | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "VENV": str(tmp_path)} | variables
        subprocess.run(["make", "-C", ROOT, target], env=environment, check=True, capture_output=True, timeout=30)
        first, device = (tmp_path / "calls").read_text().split()[:2]
        assert first == "tools/setup.sh"
        return device

    return device_of


@pytest.mark.parametrize("target", ["train", "test", "test-faults", "bench"])
def test_what_is_for_a_cpu_sets_up_the_cpu(device_of, target):
    assert device_of(target) == "cpu"


def test_set_up_itself_looks_for_a_gpu(device_of):
    assert device_of("setup") == "none"


def test_the_users_word_counts(device_of):
    assert device_of("train", DEVICE="gpu") == "gpu"
