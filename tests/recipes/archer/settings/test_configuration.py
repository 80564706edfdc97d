"""Composing the configuration: from any directory, without importing what it configures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from recipes.archer.settings.configuration import compose

ROOT = Path(__file__).resolve().parents[4]
NEEDED = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
FROM_ELSEWHERE = """
import sys
from recipes.archer.settings.configuration import compose
config = compose(sys.argv[1:])
print(config.trainer.experiment_name, config.actor_rollout_ref.rollout.max_model_len)
print({"torch", "verl", "ray", "vllm"} & set(sys.modules))
"""


def test_from_any_directory_and_light(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FROM_ELSEWHERE, "experiment=v3", *NEEDED],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["Archer2.0-Qwen3-0.6B-Math-v3 6144", "set()"]


def test_it_is_a_delta_over_verls_own():
    config = compose(NEEDED)
    assert config.actor_rollout_ref.actor.checkpoint.save_contents == ["model", "optimizer", "extra"]  # verl's
    assert config.actor_rollout_ref.actor.ratio_cap == 3.0  # ours
    assert config.trainer.default_local_dir == f"output/Archer2.0/{config.trainer.experiment_name}"


def test_a_loss_that_is_named_alone_is_where_reports_and_pages_look_for_it():
    assert compose([*NEEDED, "actor_rollout_ref.actor.policy_loss=aspo"]).actor_rollout_ref.actor.policy_loss == {
        "loss_mode": "aspo"
    }


def test_devices():
    cuda, cpu = (compose([*NEEDED, f"device={name}"]) for name in ("cuda", "cpu"))
    assert (cuda.trainer.device, cpu.trainer.device) == ("cuda", "cpu")
    assert cuda.actor_rollout_ref.model.use_remove_padding and cuda.actor_rollout_ref.rollout.free_cache_engine
    assert (cuda.actor_rollout_ref.actor.strategy, cuda.actor_rollout_ref.rollout.dtype) == ("fsdp", "bfloat16")
    assert not cpu.actor_rollout_ref.model.use_remove_padding and not cpu.actor_rollout_ref.rollout.free_cache_engine
    assert (cpu.actor_rollout_ref.actor.strategy, cpu.actor_rollout_ref.rollout.dtype) == ("fsdp2", "float32")


@pytest.mark.parametrize("override", ["actor_rollout_ref.actor.entropy_coef=0.1", "experiment=v99", "device=tpu"])
def test_a_name_that_does_not_exist_is_refused(override):
    with pytest.raises(HydraException):
        compose([*NEEDED, override])
