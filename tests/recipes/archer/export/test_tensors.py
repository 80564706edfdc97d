"""Parameters of a checkpoint, read by one process without a group, whatever the number of workers that saved it."""

import shutil

import pytest
import torch
import torch.distributed as dist

from exporting import model, save_checkpoint
from recipes.archer.ending import UserError
from recipes.archer.export.tensors import ModelTensors, same_bits, without_tied


@pytest.mark.parametrize("workers", [1, 2, 3])  # 3: more than some parameters have rows that divide
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_is_read_bit_for_bit(tmp_path, workers, dtype):
    expected = model(dtype=dtype).state_dict()
    tensors = ModelTensors(save_checkpoint(tmp_path / "saved", expected, workers=workers))
    assert not dist.is_initialized()
    assert set(tensors) == set(expected) and tensors.dtype == dtype
    for name, tensor in expected.items():
        assert tensors[name].shape == tensor.shape and same_bits(tensors.read(name), tensor), name


def test_only_numbers_with_a_fraction_are_rounded(tmp_path):
    state = {"weight": torch.tensor([1 / 3, float("nan")]), "count": torch.tensor([2**40 + 1])}
    tensors = ModelTensors(save_checkpoint(tmp_path / "saved", state))
    assert same_bits(tensors.read("weight", torch.bfloat16), state["weight"].bfloat16())
    assert same_bits(tensors.read("count", torch.bfloat16), state["count"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.tensor(float("nan")), torch.tensor(float("nan")), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.tensor([1.0]), torch.tensor([[1.0]]), False),
        (torch.tensor([1.0]), torch.tensor([1.0]).bfloat16(), False),
        (torch.zeros(0, 3), torch.zeros(0, 3), True),
    ],
)
def test_same_bits(one, other, same):
    assert same_bits(one, other) is same


@pytest.mark.parametrize(("tied", "number"), [(True, 24), (False, 25)])
def test_a_tied_head_is_left_out(tmp_path, tied, number):
    made = model(tied)
    tensors = ModelTensors(save_checkpoint(tmp_path / "saved", made.state_dict()))
    names = without_tied(tensors, {"tie_word_embeddings": tied})
    assert len(names) == number and ("lm_head.weight" in names) is not tied


def test_a_head_that_is_tied_only_by_the_settings_is_refused(tmp_path):
    """Loaders would put the embeddings in its place, without a word."""
    tensors = ModelTensors(save_checkpoint(tmp_path / "saved", model(tied=False).state_dict()))
    for settings in ({"tie_word_embeddings": True}, {}):
        with pytest.raises(UserError, match="ties lm_head.weight to the embeddings, which have other values"):
            without_tied(tensors, settings)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (
            {"base_model.model.q_proj.lora_A.default.weight": torch.ones(1)},
            "a LoRA adapter .*, which is not merged",
        ),
        ({"layer.lora_B.weight": torch.ones(1)}, "holds a LoRA adapter"),
        ({"a\x1b[2J": torch.ones(1)}, r"holds 'a\\x1b\[2J' in its model, which is no parameter"),
        ({"../../x y": torch.ones(1)}, "which is no parameter"),
        ({}, "holds no parameters of a model"),
    ],
)
def test_what_is_no_whole_model_is_refused(tmp_path, state, problem):
    with pytest.raises(UserError, match=problem):
        ModelTensors(save_checkpoint(tmp_path / "saved", state))


def test_files_that_are_gone_or_broken_are_one_line(tmp_path):
    folder = save_checkpoint(tmp_path / "saved", {"weight": torch.ones(4)})
    tensors = ModelTensors(folder)
    (folder / "__0_0.distcp").write_bytes(b"not an archive")
    with pytest.raises(UserError) as caught:
        tensors.read("weight")
    assert "cannot be read" in str(caught.value) and "\n" not in str(caught.value)
    shutil.rmtree(folder)
    for attempt in (lambda: tensors.read("weight"), lambda: ModelTensors(folder)):
        with pytest.raises(UserError, match="cannot be read"):
            attempt()
