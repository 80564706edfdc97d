"""The Makefile: which device each target sets up and what lint asks, where none of that really runs."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def device_of(tmp_path):
    """The DEVICE that set-up is given for a target, with stand-ins for bash and for the environment's Python."""
    stand_ins = {
        "bash": f'echo "$1 ${{DEVICE:-none}}" >>{tmp_path}/calls',
        "python": f'[ "$1" != -P ] || shift; echo "$2" >>{tmp_path}/modules',
    }
    for name, script in stand_ins.items():
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


def test_lint_asks_for_style_types_and_what_is_vendored(device_of, tmp_path):
    device_of("lint")
    assert (tmp_path / "modules").read_text().split() == ["ruff", "mypy", "check"]


def test_no_room_is_excused_from_what_the_types_say():
    """Nothing is switched off for our own modules; mypy itself refuses a bare `type: ignore`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] and "ignore-without-code" in settings["enable_error_code"]
    assert all((ROOT / path).exists() for path in settings["files"])
    for override in settings["overrides"]:
        assert set(override) <= {"module", "ignore_missing_imports", "implicit_reexport"}
        assert not [module for module in override["module"] if module.startswith(("recipes", "*"))]
