"""Every experiment composes for GPUs, and passes all checks before the start on a machine that has as many."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from recipes.archer.experiments import registry
from recipes.archer.settings.configuration import compose
from recipes.archer.startup import preflight

SETTINGS = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 65_536,
}
REAL = [name for name in registry.names() if not name.startswith("tiny")]


@pytest.fixture
def files(tmp_path):
    """A model folder and a prompt file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SETTINGS))
    (model / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.zeros(8)}, model / "model.safetensors")
    row = {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": "1 + 2?"}],
        "reward_model": {"ground_truth": "3"},
    }
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([row] * 4))
    return [
        f"actor_rollout_ref.model.path={model}",
        f"data.train_files={prompts}",
        f"data.val_files={prompts}",
        f"trainer.output_dir={tmp_path}",
    ]


def with_gpus(monkeypatch, number: int) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(preflight, "num_gpus", lambda: number)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: True if name == "flash_attn" else found(name, *more)
    )


@pytest.mark.parametrize("name", REAL)
def test_an_experiment_would_start_on_its_gpus(name, files, monkeypatch):
    config = compose([f"experiment={name}", "device=cuda", *files])
    assert config.trainer.device == "cuda" and config.actor_rollout_ref.actor.strategy == "fsdp"
    with_gpus(monkeypatch, config.trainer.n_gpus_per_node)
    preflight.check(config)
    with_gpus(monkeypatch, config.trainer.n_gpus_per_node - 1)
    with pytest.raises(preflight.UserError, match="trainer.n_gpus_per_node"):
        preflight.check(config)
