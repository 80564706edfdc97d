"""What a checkpoint belongs to: another model or other data are refused by name, the rest is said and accepted."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from recipes.archer.checkpoints import identity as identity_module
from recipes.archer.checkpoints.identity import check_identity, identity
from recipes.archer.checkpoints.reading import Checkpoint
from recipes.archer.ending import UserError

MODEL = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "torch_dtype": "float32"}
ROWS = [{"data_source": "sums", "prompt": [{"content": f"{i}+1"}], "reward_model": {"ground_truth": i}} for i in (1, 2)]
PATH = Path("run/global_step_20")


@pytest.fixture
def make(tmp_path):
    """A run's identity; each with a model folder of its own."""
    number = iter(range(99))

    def make(rows=ROWS, weight: float = 0.0, settings: dict | None = None, **model) -> dict:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(MODEL | model))
        save_file({"w": np.full(10, weight)}, folder / "model.safetensors")
        config = {
            "seed": 1,
            "actor_rollout_ref.model.path": str(folder),
            "data.seed": 1,
            "data.shuffle": True,
            "trainer.n_gpus_per_node": 2,
            "trainer.nnodes": 1,
            "trainer.resume_mode": "auto",
            "trainer.resume_from_path": None,
        }
        made = OmegaConf.create()
        for name, value in (config | (settings or {})).items():
            OmegaConf.update(made, name, value, force_add=True)
        return json.loads(json.dumps(identity(made, rows)))

    return make


def _check(written: dict, run: dict, with_reference: bool = True) -> list[str]:
    return check_identity(Checkpoint(PATH, 20, {"step": 20, "identity": written}), run, with_reference)


def _refusal(written: dict, run: dict) -> str:
    with pytest.raises(UserError) as caught:
        _check(written, run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_goes_on_from_its_own(make):
    assert _check(make(), make()) == []


@pytest.mark.parametrize("field", identity_module.ARCHITECTURE)
def test_another_model_is_named_by_what_differs(make, field):
    message = _refusal(make(**{field: 7}), make(**{field: 8}))
    assert message == (
        f"checkpoint {PATH} holds a model with {field}=7, the one at actor_rollout_ref.model.path has {field}=8; "
        "use the model it was trained from, or set trainer.experiment_name to another name for a new run"
    )


def test_every_difference_of_a_model_is_named(make):
    message = _refusal(make(), make(hidden_size=128, num_hidden_layers=4))
    assert "hidden_size=64, num_hidden_layers=2, the one at actor_rollout_ref.model.path has hidden_size=128" in message


def test_what_the_configuration_overrides_counts(make):
    override = {"actor_rollout_ref.model.override_config": {"hidden_size": 128}}
    assert "hidden_size=64, the one" in _refusal(make(), make(settings=override))
    assert "lora_rank=0, the one" in _refusal(make(), make(settings={"actor_rollout_ref.model.lora_rank": 8}))


def test_what_one_side_does_not_state_is_no_difference(make):
    """A config.json that another version of transformers wrote names more of the same model."""
    assert _check(make(), make(head_dim=16)) == []


@pytest.mark.parametrize("part", ["", *identity_module.PARTS])
@pytest.mark.parametrize("value", ["absent", None, [], 3.5, {"a": {"b": 1}}, {"\x1b]0;": 1}, {"a": "\x1b]0;"}])
def test_what_does_not_say_what_it_belongs_to_is_refused(make, part, value):
    """Nor is a value printed that would reach the terminal raw."""
    state = {"step": 20, "identity": make()}
    holder, key = (state["identity"], part) if part else (state, "identity")
    holder[key] = value
    if value == "absent":
        del holder[key]
    with pytest.raises(UserError) as caught:
        check_identity(Checkpoint(PATH, 20, state), make(), True)
    assert str(caught.value).startswith(f"checkpoint {PATH} does not say what it belongs to (identity in state.json)")


def test_other_weights_of_the_same_architecture(make):
    """They are replaced by the checkpoint's, but the KL term would measure from another model."""
    message = _refusal(make(weight=0.0), make(weight=0.1))
    assert message.startswith(f"checkpoint {PATH} was trained from other weights than those at actor_rollout_ref.model")
    (note,) = _check(make(weight=0.0), make(weight=0.1), with_reference=False)
    assert note == f"checkpoint {PATH}: it was trained from other weights than those at actor_rollout_ref.model.path"


def test_a_large_file_of_weights_is_sampled_at_both_ends(make, monkeypatch, tmp_path):
    monkeypatch.setattr(identity_module, "_BLOCK", 16)
    path = tmp_path / "w.safetensors"
    hashes = set()
    for content in (b"a" * 100, b"b" + b"a" * 99, b"a" * 99 + b"b", b"a" * 101):
        path.write_bytes(content)
        hashes.add(identity_module._sampled_hash(tmp_path))
    assert len(hashes) == 4


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[::-1], [ROWS[0], ROWS[0]]])
def test_other_prompts_are_refused(make, rows):
    """The position counts prompts: in another list it would point at others."""
    message = _refusal(make(), make(rows=rows))
    assert message.startswith(f"checkpoint {PATH} stands at a place in 2 prompts (")
    assert f"data.train_files has {len(rows)} prompts (" in message and "data.max_prompt_length" in message


def test_a_ground_truth_may_be_put_right(make):
    mended = [ROWS[0], ROWS[1] | {"reward_model": {"ground_truth": 3}}]
    (note,) = _check(make(), make(rows=mended))
    assert "the same questions, but ground truths or other columns have changed" in note


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"seed": 2}, "it was written with seed=1, this run has seed=2"),
        ({"data.seed": 2, "data.shuffle": False}, "data.seed=1, data.shuffle=True, this run has data.seed=2"),
        (
            {"trainer.n_gpus_per_node": 1},
            "it was written with world size 2, this run has 1: sums are taken in another order",
        ),
        ({"trainer.nnodes": 2}, "it was written with world size 2, this run has 4"),
    ],
)
def test_what_makes_the_continuation_another_one_is_said(make, settings, problem):
    (note,) = _check(make(), make(settings=settings))
    assert note.startswith(f"checkpoint {PATH}: ") and problem in note


def test_another_version_of_the_code_is_said_and_accepted(make, monkeypatch):
    written = make()
    monkeypatch.setattr(identity_module, "versions", lambda: {"archer": "9.9", "verl": "0.5.0", "torch": "1"})
    (note,) = _check(written | {"versions": {"archer": "0.1.0", "verl": "0.5.0"}}, make())
    assert note == f"checkpoint {PATH}: it was written by archer=0.1.0, this is archer=9.9"
