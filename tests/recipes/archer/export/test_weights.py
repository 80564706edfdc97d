"""Files of weights, and that every way in which they can differ from the checkpoint is noticed."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting import model, save_checkpoint
from recipes.archer.ending import UserError
from recipes.archer.export.tensors import ModelTensors
from recipes.archer.export.weights import INDEX, check_weights, plan_files, write_weights

SHARD = 20_000


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    return ModelTensors(save_checkpoint(tmp_path_factory.mktemp("weights") / "saved", model(tied=False).state_dict()))


@pytest.fixture
def written(tensors, tmp_path):
    """In several files, with their plan."""
    plan = plan_files(tensors, tensors, None, SHARD)
    write_weights(tensors, plan, tmp_path)
    return plan, tmp_path


def test_files_are_full_and_not_too_full(tensors, written):
    plan, folder = written
    sizes = [sum(t.numel() * t.element_size() for t in load_file(folder / file).values()) for file in plan.files]
    assert len(sizes) > 2 and max(sizes) <= SHARD and sum(sizes) == plan.num_bytes
    index = json.loads((folder / INDEX).read_text())
    assert set(index["weight_map"]) == set(tensors) and index["metadata"]["total_size"] == plan.num_bytes
    check_weights(tensors, plan, folder)


def test_a_model_that_fits_is_one_file_of_the_usual_name_and_mode(tensors, tmp_path):
    plan = plan_files(tensors, tensors, torch.bfloat16)
    write_weights(tensors, plan, tmp_path)
    (tmp_path / "other").touch()
    (file,) = tmp_path.glob("*.safetensors")
    assert file.name == "model.safetensors" and file.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.bfloat16}
    assert plan.num_bytes * 2 == plan_files(tensors, tensors, None).num_bytes
    check_weights(tensors, plan, tmp_path)


def _changed(folder, change) -> None:
    file = sorted(folder.glob("*.safetensors"))[1]
    content = load_file(file)
    change(content)
    save_file(content, file)


def _flip(content: dict) -> None:
    name = sorted(content)[0]
    content[name].view(torch.int32).view(-1)[-1] ^= 1


def _rename(content: dict) -> None:
    content["other"] = content.pop(sorted(content)[0])


DAMAGE = {
    "one bit": (lambda f: _changed(f, _flip), "with other values"),
    "a type": (lambda f: _changed(f, lambda c: c.update({n: t.bfloat16() for n, t in c.items()})), "with other values"),
    "a shape": (lambda f: _changed(f, lambda c: c.update({n: t[None] for n, t in c.items()})), "with other values"),
    "a tensor less": (lambda f: _changed(f, lambda c: c.pop(sorted(c)[0])), "tensors that were to be in"),
    "a tensor more": (lambda f: _changed(f, lambda c: c.update(more=torch.ones(1))), "tensors that were to be in"),
    "a name": (lambda f: _changed(f, _rename), "tensors that were to be in"),
    "a file less": (lambda f: sorted(f.glob("*.safetensors"))[0].unlink(), "not the files"),
    "a file more": (lambda f: (f / "model.safetensors").write_bytes(b""), "not the files"),
    "a file cut": (lambda f: _cut(sorted(f.glob("*.safetensors"))[0]), "which cannot be read back"),
    "the index": (lambda f: (f / INDEX).write_text('{"weight_map": {}}'), "names other files"),
}


def _cut(file) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_differs_is_noticed(tensors, written, damage):
    plan, folder = written
    change, problem = DAMAGE[damage]
    change(folder)
    with pytest.raises(UserError, match=problem):
        check_weights(tensors, plan, folder)
