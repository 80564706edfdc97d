"""GPUs are counted by torch where there may be some; where there can be none, torch is not even imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recipes.archer.startup import gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without devices or tools, on which torch says that there are three GPUs."""
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    return tmp_path


def test_none_where_nothing_of_nvidias_is_there(machine):
    (machine / "nvidiactl").touch()
    assert gpus.num_gpus() == 0


@pytest.mark.parametrize("name", ["nvidia0", "dxg", "nvidia-smi"])
def test_torch_counts_where_something_is(machine, name, monkeypatch):
    (machine / name).touch(mode=0o755)
    assert gpus.num_gpus() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus.num_gpus() == 0


def test_a_gpu_is_out_of_reach_of_a_torch_for_the_cpu(machine, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not gpus.out_of_reach()
    (machine / "nvidia0").touch()
    assert gpus.out_of_reach()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not gpus.out_of_reach()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    assert not gpus.out_of_reach()


def test_torch_stays_out_of_it_where_it_can(tmp_path):
    program = (
        "import sys, pathlib; from recipes.archer.startup import gpus; gpus.DEVICES = pathlib.Path(sys.argv[1]); "
        "assert gpus.num_gpus() == 0; assert 'torch' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[4]
    subprocess.run([sys.executable, "-c", program, tmp_path], cwd=root, env={"PATH": str(tmp_path)}, check=True)
