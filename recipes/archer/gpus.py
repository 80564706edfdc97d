"""How many GPUs this process may use, found out without torch where there can be none."""

import shutil
from pathlib import Path

DEVICES = Path("/dev")


def num_gpus() -> int:
    """As torch counts them; it is asked, which takes seconds of imports, only where something of NVIDIA's is there."""
    nodes = any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "dxg").exists()  # dxg: under Windows
    if not nodes and shutil.which("nvidia-smi") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
