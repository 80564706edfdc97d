"""The device that this process trains on: cuda, npu or cpu, each answering the same questions.

Replaces upstream's ``verl/utils/device.py`` (verl 0.5.0), which knows the name ``cpu`` but hands out
``torch.cpu``, a namespace without memory figures, random state or caches, and has no collective backend for
it.  Names and behaviour on cuda and npu are upstream's.
"""

import resource
from types import ModuleType

import psutil
import torch


def is_torch_npu_available() -> bool:
    """Whether an Ascend NPU and its torch extension are there."""
    try:
        import torch_npu  # noqa: F401

        return torch.npu.is_available()
    except ImportError:
        return False


is_cuda_available = torch.cuda.is_available()
is_npu_available = is_torch_npu_available()


class CpuDevice:
    """``torch.cuda``'s questions, answered for the host: its memory is the process's resident memory.

    Everything ``torch.cpu`` has is passed through.  Sizes are bytes.
    """

    _process = psutil.Process()

    def __getattr__(self, name):
        return getattr(torch.cpu, name)

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def current_device() -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def get_device_name(device=None) -> str:
        return "cpu"

    @staticmethod
    def set_device(device) -> None:
        """The host is one device; there is nothing to choose."""

    @staticmethod
    def synchronize(device=None) -> None:
        """Host operations are complete when they return."""

    @staticmethod
    def empty_cache() -> None:
        """torch keeps no cache of host memory."""

    @staticmethod
    def ipc_collect() -> None:
        """No device memory is shared between processes."""

    def memory_allocated(self, device=None) -> int:
        return self._process.memory_info().rss

    memory_reserved = memory_allocated

    @staticmethod
    def max_memory_allocated(device=None) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB

    max_memory_reserved = max_memory_allocated

    @staticmethod
    def reset_peak_memory_stats(device=None) -> None:
        """The kernel's high-water mark cannot be reset without privileges; the peak is the process's."""

    @staticmethod
    def mem_get_info(device=None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    @staticmethod
    def manual_seed(seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    @staticmethod
    def get_rng_state(device=None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device=None) -> None:
        torch.set_rng_state(state)


_CPU = CpuDevice()


def get_visible_devices_keyword() -> str:
    """Environment variable that selects devices; on a host without accelerators it selects none."""
    return "ASCEND_RT_VISIBLE_DEVICES" if is_npu_available and not is_cuda_available else "CUDA_VISIBLE_DEVICES"


def get_device_name() -> str:
    """``cuda``, ``npu`` or ``cpu``, in this order of preference."""
    if is_cuda_available:
        return "cuda"
    return "npu" if is_npu_available else "cpu"


def get_torch_device() -> ModuleType | CpuDevice:
    """Namespace of the device: ``torch.cuda``, ``torch.npu`` or :class:`CpuDevice`."""
    return _CPU if get_device_name() == "cpu" else getattr(torch, get_device_name())


def get_device_id() -> int | torch.device:
    """Current device: an index on cuda and npu, ``torch.device("cpu")`` on the host."""
    return get_torch_device().current_device()


def get_nccl_backend() -> str:
    """Collective backend of the device: nccl, hccl or gloo."""
    return {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}[get_device_name()]
