"""Only with the GPUs' lock, `make test-gpu-stack`: elsewhere nothing here is collected."""

from importlib.metadata import version
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements" / "gpu.lock"

if f"\ntorch=={version('torch')} " not in LOCK.read_text():
    collect_ignore_glob = ["test_*.py"]
