"""A model folder: what transformers makes of it is the checkpoint's model, in whatever precision."""

import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from exporting import STOPS, TEMPLATE, model, save_checkpoint
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.ending import DISK, DiskFullError, UserError
from recipes.archer.export.folder import export_model, loading_lines
from recipes.archer.export.tensors import same_bits


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Of a model with tied embeddings, by two workers."""
    made, folder = model(tied=True), tmp_path_factory.mktemp("folder") / "global_step_2"
    return save_checkpoint(folder, made.state_dict(), config=made.config, workers=2)


@pytest.fixture
def own(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "global_step_2")


@pytest.mark.parametrize(("dtype", "shard_bytes"), [(None, None), ("fp32", 20_000), ("bf16", None), ("bf16", 20_000)])
def test_transformers_loads_what_was_trained(saved, tmp_path, dtype, shard_bytes):
    torch_dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
    exported = export_model(saved, tmp_path / "model", dtype=dtype, shard_bytes=shard_bytes)
    loaded, told = AutoModelForCausalLM.from_pretrained(
        exported.folder, torch_dtype="auto", output_loading_info=True, local_files_only=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and loaded.dtype == torch_dtype
    expected, found = model(tied=True).to(torch_dtype).state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys() and all(same_bits(found[n], t) for n, t in expected.items())
    assert (exported.num_files > 1) is (shard_bytes is not None) and exported.num_tensors == len(expected) - 1


def test_tied_weights_are_written_once(saved, tmp_path):
    export_model(saved, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys() and "model.embed_tokens.weight" in file.keys()  # noqa: SIM118


def test_what_another_precision_was_saved_in_is_kept(tmp_path):
    made = model(tied=False, dtype=torch.bfloat16)
    folder = save_checkpoint(tmp_path / "saved", made.state_dict(), config=made.config)
    assert export_model(folder, tmp_path / "model").dtype == "bfloat16"
    assert json.loads((tmp_path / "model/config.json").read_text())["torch_dtype"] == "bfloat16"
    assert export_model(folder, tmp_path / "other", dtype="fp32").dtype == "float32"


def test_where_responses_end_and_how_turns_are_written_go_along(saved, tmp_path):
    export_model(saved, tmp_path / "model", card=lambda dtype, number: f"{dtype} {number}")
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == STOPS
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == TEMPLATE
    number = sum(p.numel() for p in model(tied=True).parameters())  # tied ones once
    assert (tmp_path / "model/README.md").read_text() == f"float32 {number}"


def test_where_responses_end_is_not_overruled_by_the_models_settings(own, tmp_path):
    """transformers puts config.json's in the place of a generation_config.json that says it was made from that."""
    for name, more in {
        "config": {"temperature": 0.7, "eos_token_id": 7},
        "generation_config": {"_from_model_config": True},
    }.items():
        path = own / "model_config" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    export_model(own, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    loaded.generate(torch.ones(1, 2, dtype=torch.long), max_new_tokens=1, pad_token_id=0)
    assert loaded.generation_config.eos_token_id == STOPS


def test_of_an_older_checkpoint_the_settings_say_where_responses_end(own, tmp_path):
    (own / "model_config/generation_config.json").unlink()
    config = json.loads((own / "model_config/config.json").read_text()) | {"eos_token_id": 7}
    (own / "model_config/config.json").write_text(json.dumps(config))
    write_manifest(own)
    export_model(own, tmp_path / "model")
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == 7


def test_only_settings_and_tokenizer_are_passed_on(own, tmp_path):
    """Neither code that a model brings along, nor what the manifest does not list, nor what a link leads to."""
    (own / "model_config/modeling_own.py").write_text("raise SystemExit")
    write_manifest(own)
    (own / "model_config/unlisted.json").write_text("{}")
    export_model(own, tmp_path / "model")
    expected = {"config.json", "generation_config.json", "model.safetensors"}
    expected |= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert set(os.listdir(tmp_path / "model")) == expected


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_no_link_is_followed(own, tmp_path, name):
    (tmp_path / "secret").write_text('{"secret": 1}')
    (own / "model_config" / name).unlink()
    (own / "model_config" / name).symlink_to(tmp_path / "secret")
    write_manifest(own)
    with pytest.raises(UserError, match=f"{name} is a link"):
        export_model(own, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", "\udcff", "[" * 100_000])
def test_settings_that_are_none_are_named(own, tmp_path, content):
    (own / "model_config/config.json").write_bytes(content.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(UserError, match="config.json holds no settings"):
        export_model(own, tmp_path / "model")


def test_a_folder_inside_the_checkpoint_is_refused(own):
    with pytest.raises(UserError, match="lies in the checkpoint"):
        export_model(own, own / "model")


def test_a_disk_without_room_is_seen_before_anything_is_written(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DiskFullError, match="there is no room for the model: it needs") as caught:
        export_model(saved, tmp_path / "model")
    assert caught.value.exit_code == DISK and os.listdir(tmp_path) == []


def test_what_was_written_wrong_is_not_exported(saved, tmp_path, monkeypatch):
    """A disk that loses a bit."""
    from recipes.archer.export import weights

    def save(tensors, path, metadata):
        real({name: tensor + 1 for name, tensor in tensors.items()}, path, metadata)

    real = weights.save_file
    monkeypatch.setattr(weights, "save_file", save)
    with pytest.raises(UserError, match="with other values: nothing was exported"):
        export_model(saved, tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_the_lines_load_it(saved, tmp_path):
    found = {}
    exec("\n".join(loading_lines(export_model(saved, tmp_path / "it's a model").folder)), found)
    assert found["model"].config.model_type == "qwen3" and found["tokenizer"].chat_template == TEMPLATE
    assert len(loading_lines(tmp_path)) == 3
