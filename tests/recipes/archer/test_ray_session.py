"""What a run asks of Ray, without starting it; starting it is the end-to-end tests' affair."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipes.archer import ray_session
from recipes.archer.ray_session import remove_stale, worker_environment
from recipes.archer.resources import POOL, HostResourcePoolManager


def _config(device: str, workers: int):
    return SimpleNamespace(trainer=SimpleNamespace(device=device, n_gpus_per_node=workers, nnodes=1))


@pytest.mark.parametrize(("cores", "workers", "threads"), [(2, 1, "2"), (2, 2, "1"), (16, 3, "5"), (2, 4, "1")])
def test_workers_share_the_cores(monkeypatch, cores, workers, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert worker_environment(_config("cpu", workers))["OMP_NUM_THREADS"] == threads


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    environment = worker_environment(_config("cpu", 1))
    assert "OMP_NUM_THREADS" not in environment
    assert "NCCL_DEBUG" not in environment


def test_host_settings_are_not_for_gpus(monkeypatch):
    for name in ("VLLM_TARGET_DEVICE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert not {"VLLM_TARGET_DEVICE", "OMP_NUM_THREADS"} & worker_environment(_config("cuda", 4)).keys()


def test_only_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = [f"archer-ray-{ended.pid}-abc", f"archer-ray-{os.getpid()}-abc", "archer-ray-notes", "ray"]
    for name in names:
        (tmp_path / name / "session").mkdir(parents=True)
    monkeypatch.setattr(ray_session, "Path", lambda p: tmp_path if p == "/tmp" else Path(p))
    remove_stale()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.parametrize(("device", "use_gpu"), [("cpu", False), ("cuda", True)])
def test_one_pool_for_every_role(monkeypatch, device, use_gpu):
    monkeypatch.setattr(HostResourcePoolManager, "_check_resource_available", lambda _: None)  # asks the cluster
    manager = HostResourcePoolManager.for_roles(["actor", "reference"], _config(device, 3).trainer)
    manager.create_resource_pool()
    pool = manager.resource_pool_dict[POOL]
    assert pool.use_gpu is use_gpu
    assert pool.world_size == 3
    assert manager.get_resource_pool("actor") is manager.get_resource_pool("reference") is pool
