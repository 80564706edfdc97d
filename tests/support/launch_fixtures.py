"""What whole runs need, wherever they are tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launching import ROOT


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The tiny model and its data; made once a machine. TINY_DIR names one that is there."""
    if "TINY_DIR" in os.environ:
        return Path(os.environ["TINY_DIR"])
    script = ROOT / "scripts" / "data" / "make_tiny_model.py"
    # minutes where it is not there yet
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("output")
