"""Settings of vLLM's CPU engine, and a process that runs plain vLLM beside the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

# a small cache, a quiet log, one thread: the models are tiny
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_USE_V1": "0",
    "VLLM_NO_USAGE_STATS": "1",  # each engine would start a program that asks the processor for its name
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def vllm_environment():
    """The settings above; afterwards the process is as it was found, since vLLM changes thread counts for good."""
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ.update(SETTINGS)
    torch.set_num_threads(1)
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def plain_vllm(request):
    """``plain_vllm.py`` running; started before the first test that is run here, as its imports take 20 s."""
    if not any(item.path.name == "test_vllm_plugin.py" for item in request.session.items):
        yield None
        return
    command = [sys.executable, "-P", Path(__file__).with_name("plain_vllm.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | SETTINGS
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, cwd="/", env=environment, **pipes) as process:
        yield process
        process.kill()
