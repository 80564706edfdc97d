"""Greedy responses of an export and of its checkpoint are compared, and a difference is seen."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting import model, save_checkpoint
from recipes.archer.ending import UserError
from recipes.archer.export.folder import export_model
from recipes.archer.export.generation import check_generation


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A checkpoint and its export."""
    folder, made = tmp_path_factory.mktemp("generation"), model(tied=True)
    checkpoint = save_checkpoint(folder / "saved", made.state_dict(), config=made.config)
    return checkpoint, export_model(checkpoint, folder / "model").folder


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_an_export_says_what_its_checkpoint_says(pair, tmp_path, dtype):
    exported = export_model(pair[0], tmp_path / "model", dtype=dtype, verify=True)
    assert exported.num_compared > 3


def _weights(folder, change) -> None:
    content = load_file(folder / "model.safetensors")
    change(content)
    save_file(content, folder / "model.safetensors", {"format": "pt"})


def _settings(folder, **changes) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


DAMAGE = {
    "other values": (lambda f: _weights(f, lambda c: c["model.norm.weight"].neg_()), "otherwise than checkpoint"),
    "one missing": (lambda f: _weights(f, lambda c: c.pop("model.norm.weight")), "1 missing keys"),
    "one more": (lambda f: _weights(f, lambda c: c.update(more=torch.ones(1))), "1 unexpected keys"),
    "other settings": (lambda f: _settings(f, rms_norm_eps=3.0), "otherwise than checkpoint"),
    "no architecture": (lambda f: _settings(f, model_type="never heard of"), "transformers does not load"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "transformers does not load"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_differs_is_seen(pair, tmp_path, damage):
    folder = shutil.copytree(pair[1], tmp_path / "model")
    change, problem = DAMAGE[damage]
    change(folder)
    with pytest.raises(UserError, match=problem) as caught:
        check_generation(pair[0], folder)
    assert "\n" not in str(caught.value)
