"""The device layer: cuda and npu answer as upstream's do, and the host answers the same questions for itself."""

import mmap
import os
import re
import resource
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from verl.utils import device
from verl.utils.device import CpuDevice

VERL = Path(device.__file__).resolve().parents[1]
# Not asked on a host: streams and their events are used by activation offloading, which is off there.
ACCELERATOR_ONLY = {"Event"}


@pytest.fixture
def on(monkeypatch):
    """Pretends that the machine has an accelerator, or none."""

    def on(name: str):
        monkeypatch.setattr(device, "is_cuda_available", name == "cuda")
        monkeypatch.setattr(device, "is_npu_available", name == "npu")
        if name == "npu":
            monkeypatch.setattr(torch, "npu", SimpleNamespace(current_device=lambda: 2), raising=False)

    return on


@pytest.mark.parametrize(
    ("name", "backend", "variable"),
    [
        ("cuda", "nccl", "CUDA_VISIBLE_DEVICES"),
        ("npu", "hccl", "ASCEND_RT_VISIBLE_DEVICES"),
        ("cpu", "gloo", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_names(on, name, backend, variable):
    on(name)
    assert device.get_device_name() == name
    assert device.get_nccl_backend() == backend
    assert device.get_visible_devices_keyword() == variable


def test_namespace_and_id(on, monkeypatch):
    on("cuda")
    assert device.get_torch_device() is torch.cuda
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert device.get_device_id() == 3
    on("npu")
    assert device.get_torch_device() is torch.npu
    assert device.get_device_id() == 2
    on("cpu")
    assert isinstance(device.get_torch_device(), CpuDevice)
    assert device.get_torch_device() is device.get_torch_device()
    assert torch.zeros(1).to(device.get_device_id()).device == torch.device("cpu")


def test_everything_verl_asks_of_a_device_has_an_answer_on_the_host(on):
    on("cpu")
    asked = set()
    for path in VERL.rglob("*.py"):
        asked |= set(re.findall(r"get_torch_device\(\)\.(\w+)", path.read_text(encoding="utf-8")))
    assert {"memory_allocated", "max_memory_reserved", "empty_cache", "mem_get_info", "manual_seed"} <= asked
    assert {name for name in asked if not hasattr(device.get_torch_device(), name)} <= ACCELERATOR_ONLY


def test_the_host_is_one_device_that_is_there():
    host = CpuDevice()
    assert host.is_available() and host.is_initialized()
    assert host.device_count() == 1
    assert host.get_device_name() == "cpu"
    for call in (lambda: host.set_device(0), host.synchronize, host.empty_cache, host.ipc_collect):
        assert call() is None
    with pytest.raises(AttributeError, match="no_such_question"):
        host.no_such_question  # noqa: B018


def test_memory_is_the_processs_resident_memory():
    host, size = CpuDevice(), 64 * 2**20
    before = host.memory_allocated()
    assert before == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    block = mmap.mmap(-1, size)  # not from malloc, which may have as much in store
    block.write(bytes(size))  # written to, so that it is resident
    assert host.memory_allocated() - before > 0.9 * size
    peak = host.max_memory_allocated()
    assert peak == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak >= 0.99 * host.memory_allocated()  # the kernel counts pages in batches
    block.close()
    assert host.max_memory_reserved() >= peak
    assert host.reset_peak_memory_stats() is None


def test_free_and_total_memory_are_the_machines():
    free, total = CpuDevice().mem_get_info()
    assert 0 < free < total
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("seed_with", ["manual_seed", "manual_seed_all"])
def test_random_state_goes_back_and_forth(seed_with):
    host = CpuDevice()
    getattr(host, seed_with)(7)
    first = torch.rand(3)
    state = host.get_rng_state()
    second = torch.rand(3)
    host.set_rng_state(state)
    assert torch.equal(torch.rand(3), second)
    getattr(host, seed_with)(7)
    assert torch.equal(torch.rand(3), first)


def test_verls_own_memory_report_works_on_the_host(on):
    on("cpu")
    from verl.utils.profiler.performance import _get_current_mem_info

    allocated, reserved, used, total = (float(value) for value in _get_current_mem_info("MB"))
    assert 50 < allocated <= total
    assert reserved == pytest.approx(allocated, rel=0.1)
    assert 0 < used < total
