"""How many GPUs this process may use, found out without torch where there can be none."""

import os
import shutil
from pathlib import Path

DEVICES = Path("/dev")


def num_gpus() -> int:
    """As torch counts them; it is asked, which takes seconds of imports, only where something of NVIDIA's is there."""
    if not _has_node() and shutil.which("nvidia-smi") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def out_of_reach() -> bool:
    """Whether this machine has a GPU, not hidden, that this environment's torch cannot use: it was built for a CPU."""
    if not _has_node() or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    import torch

    return torch.version.cuda is None


def _has_node() -> bool:
    return any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "dxg").exists()  # dxg: under Windows
