"""What a GPU run loads can be loaded from the GPUs' lock: ours, verl's, and verl's where it believes in a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVERY_MODULE = """
import importlib, pkgutil
import recipes.archer
for module in pkgutil.walk_packages(recipes.archer.__path__, "recipes.archer."):
    importlib.import_module(module.name)
"""
# what verl imports of flash-attn, which needs nvcc to be built, and torch's word on GPUs
PRETENDED = """
import importlib.machinery, sys, types, torch
class Anything(types.ModuleType):
    __path__, __version__ = [], "2.7.4.post1"
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **named: None
for name in ("flash_attn", "flash_attn.bert_padding", "flash_attn.ops.triton.cross_entropy"):
    sys.modules[name] = Anything(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
torch.cuda.is_available = lambda: True
from verl.utils.device import get_device_name
assert get_device_name() == "cuda"
"""
OF_A_RUN = (  # not vLLM's own worker, whose allocator asks for the driver's library
    "verl.workers.fsdp_workers",
    "verl.workers.actor.dp_actor",
    "verl.workers.rollout.vllm_rollout",
    "verl.workers.rollout.vllm_rollout.vllm_rollout_spmd",
    "verl.workers.sharding_manager.fsdp_vllm",
    "verl.workers.sharding_manager.fsdp_ulysses",
    "verl.third_party.vllm",
    "verl.third_party.vllm.qwen3",
    "verl.trainer.ppo.ray_trainer",
    "verl.models.transformers.monkey_patch",
    "recipes.archer.workers.worker",
    "recipes.archer.rollout.engine",
    "recipes.archer.trainer",
)


def run(script: str) -> None:
    """In a process of its own, without a GPU."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_module_of_ours():
    run(EVERY_MODULE)


@pytest.mark.parametrize("pretended", ["", PRETENDED], ids=["no GPU", "a GPU"])
def test_what_a_run_loads(pretended):
    run(pretended + "import importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in OF_A_RUN))


def test_the_workers_process_is_made_ready():
    """The two names that verl looks up are ours, and Qwen3 is known to vLLM."""
    run(
        PRETENDED + "from recipes.archer.rollout.engine import SeededLLM, SeededRollout, install\n"
        "from verl.workers.rollout import vllm_rollout\n"
        "import verl.workers.rollout.vllm_rollout.vllm_rollout_spmd as spmd\n"
        "import verl.third_party.vllm\n"
        "install()\n"
        "assert spmd.LLM is SeededLLM and vllm_rollout.vLLMRollout is SeededRollout\n"
        "from vllm import ModelRegistry\n"
        "assert 'Qwen3ForCausalLM' in ModelRegistry.get_supported_archs()\n"
    )
