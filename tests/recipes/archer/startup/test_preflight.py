"""Bad input: one line that names the file or the setting and the remedy, before Ray starts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from configurations import configuration
from recipes.archer.ending import WRONG_CALL, UserError
from recipes.archer.startup import preflight
from recipes.archer.startup.preflight import check

ROOT = Path(__file__).resolve().parents[4]
CONTEXT = 200  # tokens
ROW = {
    "data_source": "sums",
    "prompt": [{"role": "user", "content": "1 + 2?"}],
    "reward_model": {"ground_truth": "3"},
}
N = "actor_rollout_ref.rollout.n"
RESPONSE = "data.max_response_length"


@pytest.fixture
def good(tmp_path) -> list[str]:
    """Overrides of the tiny experiment with which nothing is wrong."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT, "num_attention_heads": 4}))
    (model / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(8)}, model / "model.safetensors")
    for name in ("train", "val"):
        (tmp_path / f"{name}.json").write_text(json.dumps([ROW]))
    files = [f"data.{name}_files={tmp_path}/{name}.json" for name in ("train", "val")]
    return [f"actor_rollout_ref.model.path={model}", *files]


@pytest.fixture
def make_config(good, monkeypatch):
    """The good configuration with further settings, on a machine without a GPU; ``device=cuda`` is for another one."""
    monkeypatch.setattr(preflight, "num_gpus", lambda: 0)
    monkeypatch.setattr(preflight, "out_of_reach", lambda: False)

    def make_config(*settings: str):
        device = "cuda" if "device=cuda" in settings else "cpu"
        given = [setting for setting in settings if not setting.startswith("device=")]
        return configuration("trainer.n_gpus_per_node=1", *good, *given, device=device)

    return make_config


@pytest.fixture
def refusal(make_config):
    """The message for further settings; it is one line, and what it sends people to is there."""

    def refusal(*settings: str) -> str:
        with pytest.raises(UserError) as caught:
            check(make_config(*settings))
        message = str(caught.value)
        assert "\n" not in message
        for script in re.findall(r"scripts/\S+\.sh", message):
            assert (ROOT / script).is_file(), f"the message sends people to {script}, which is not there"
        return message

    return refusal


def test_nothing_is_wrong(make_config):
    check(make_config())
    check(make_config(f"{RESPONSE}={CONTEXT - 64}", "reward.overlong_buffer_len=0", "trainer.n_gpus_per_node=2"))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda m: [f.unlink() for f in m.iterdir()] and m.rmdir(), "does not exist"),
        (lambda m: (m / "config.json").unlink(), "config.json: is missing"),
        (lambda m: (m / "config.json").write_text("{"), "config.json: is not JSON"),
        (lambda m: (m / "config.json").write_text("[]"), "config.json: is not a JSON object"),
        (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json: is missing"),
        (lambda m: (m / "model.safetensors").unlink(), "model.safetensors: is missing"),
        (lambda m: (m / "model.safetensors").write_bytes(b""), "model.safetensors: is cut short"),
        (
            lambda m: (m / "model.safetensors.index.json").write_text('{"weight_map": {"w": "a.safetensors"}}'),
            "a.safetensors: is missing",
        ),
    ],
)
def test_model_folder(refusal, tmp_path, spoil, problem):
    spoil(tmp_path / "model")
    message = refusal()
    assert problem in message
    assert str(tmp_path / "model") in message
    assert "MODEL_PATH" in message


def test_weights_of_the_former_format_are_not_looked_into(make_config, tmp_path):
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    check(make_config())


def _without(field: str) -> str:
    return json.dumps([ROW, {key: value for key, value in ROW.items() if key != field}])


@pytest.mark.parametrize("name", ["train", "val"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no such file"),
        ("", "holds no rows"),
        ("[]", "holds no rows"),
        ('[{"data_source": "x"', "line 1: not JSON"),
        (f"[{json.dumps(ROW)},\n{json.dumps(ROW)[:-9]}\n,{json.dumps(ROW)}]", "line 2: not JSON (Invalid control char"),
        (f"{json.dumps(ROW)}\n{json.dumps(ROW)[:-9]}\n{json.dumps(ROW)}", "line 2: not JSON"),
        (f"{json.dumps(ROW)}\n3\n{json.dumps(ROW)}", "line 2: is a number, must be an object"),
        (_without("prompt"), "row 2: prompt: is missing"),
        (_without("reward_model"), "row 2: reward_model: is missing"),
        (_without("data_source"), "row 2: data_source: is missing"),
        (json.dumps([ROW | {"reward_model": {}}]), "row 1: reward_model.ground_truth: is missing"),
    ],
)
def test_data_files(refusal, tmp_path, name, text, problem):
    path = tmp_path / f"{name}.json"
    path.unlink() if text is None else path.write_text(text)
    message = refusal()
    assert message.startswith(f"data.{name}_files: {path}")
    assert problem in message


def test_one_bad_file_of_several(refusal, tmp_path):
    message = refusal(f"data.train_files=[{tmp_path}/train.json,{tmp_path}/more.json]")
    assert message.startswith(f"data.train_files: {tmp_path}/more.json: no such file")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.train_files=???"], "data.train_files is not set; give it on the command line: data.train_files=..."),
        (["data.train_files=/no/such/file"], "data.train_files: /no/such/file"),
        (["data.train_files=null"], "data.train_files=null: use the path of a file"),
        (["data.max_val_response_length=137"], "the model's context is 200; lower data.max_val_response_length to 136"),
        ([f"{RESPONSE}=137"], f"201 tokens, the model's context is {CONTEXT}; lower data.max_response_length to 136"),
        ([f"data.max_prompt_length={CONTEXT}"], "the model's context is 200; lower data.max_prompt_length"),
        (["actor_rollout_ref.rollout.max_model_len=201"], "=201 is more than the model's context, 200; leave it out"),
        (
            ["trainer.resume_mode=resume_path", "trainer.resume_from_path=/none"],
            "trainer.resume_from_path=/none is no folder; name a checkpoint",
        ),
        (["custom_reward_function.path=/no/reward.py"], "custom_reward_function.path=/no/reward.py is no file"),
        (["data.prompt_key=chat"], "train.json, row 1: chat: is missing, which data.prompt_key names; correct the row"),
        (["data.seed=${nothing.there}"], "the configuration does not resolve: Interpolation key 'nothing.there'"),
        (["guard.action=halt"], "guard.action=halt: use off or warn or stop"),
    ],
)
def test_settings(refusal, overrides, problem):
    assert problem in refusal(*overrides)


def test_gpus_that_are_not_there(refusal, monkeypatch):
    message = refusal("device=cuda", "trainer.n_gpus_per_node=4")
    assert message.startswith("trainer.n_gpus_per_node=4, but there is no NVIDIA GPU on this machine; set N_GPUS")
    monkeypatch.setattr(preflight, "num_gpus", lambda: 1)
    assert "but there is 1 NVIDIA GPU on this machine" in refusal("device=cuda", "trainer.n_gpus_per_node=4")
    assert "CUDA_VISIBLE_DEVICES=" in refusal()


def test_gpus_of_a_cluster_are_not_counted_here(make_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check(make_config("device=cuda", "trainer.n_gpus_per_node=4"))


def test_a_gpu_in_an_environment_for_the_cpu(refusal, monkeypatch):
    monkeypatch.setattr(preflight, "out_of_reach", lambda: True)
    assert "this environment is the CPU's" in (message := refusal("device=cuda"))
    assert "DEVICE=gpu make setup" in message


@pytest.fixture
def flash_attn(tmp_path, monkeypatch):
    """A package of that name, which verl's actor imports on a GPU."""
    (tmp_path / "packages" / "flash_attn").mkdir(parents=True)
    (tmp_path / "packages" / "flash_attn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")


def test_a_gpu_without_flash_attn(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # also in an environment that has it
    monkeypatch.setattr(preflight, "num_gpus", lambda: 1)
    message = refusal("device=cuda")
    assert message.startswith("device=cuda needs flash-attn, which make setup builds where CUDA 12's nvcc is on PATH")


@pytest.mark.usefixtures("flash_attn")
def test_a_gpu_with_flash_attn(make_config, monkeypatch):
    monkeypatch.setattr(preflight, "num_gpus", lambda: 1)
    check(make_config("device=cuda"))


def test_gpus_that_are_not_there_come_before_a_model_that_is_not_there(refusal):
    """Whoever lacks both should not fetch a gigabyte to be told so."""
    assert "no NVIDIA GPU" in refusal("device=cuda", "actor_rollout_ref.model.path=/none/model")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["trainer.n_gpus_per_node=3", "{TP}=3", f"{N}=6"], "=3 does not divide the model's 8 attention heads"),
        (["trainer.n_gpus_per_node=4", "{TP}=4"], "=4 neither divides the model's 6 key-value heads nor is a multiple"),
    ],
)
@pytest.mark.usefixtures("flash_attn")
def test_tensor_parallelism_that_does_not_fit(refusal, tmp_path, monkeypatch, settings, problem):
    monkeypatch.setattr(preflight, "num_gpus", lambda: 4)
    model = {"max_position_embeddings": CONTEXT, "num_attention_heads": 8, "num_key_value_heads": 6}
    (tmp_path / "model" / "config.json").write_text(json.dumps(model))
    name = "actor_rollout_ref.rollout.tensor_model_parallel_size"
    assert name + problem in refusal("device=cuda", *(setting.format(TP=name) for setting in settings))


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        ({"type": "linear", "factor": 2.0}, 2 * CONTEXT),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}, 400),
        ({"rope_type": "dynamic", "factor": 2.0}, CONTEXT),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 100}, CONTEXT),
    ],
)
def test_a_context_is_stretched_as_the_engine_stretches_it(make_config, tmp_path, scaling, context):
    model = {"max_position_embeddings": CONTEXT, "rope_scaling": scaling}
    (tmp_path / "model" / "config.json").write_text(json.dumps(model))
    check(make_config(f"{RESPONSE}={context - 64}"))
    with pytest.raises(UserError, match=f"the model's context is {context};"):
        check(make_config(f"{RESPONSE}={context - 63}"))


def test_yarn_that_the_engine_cannot_read(refusal, tmp_path):
    model = {"max_position_embeddings": CONTEXT, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(model))
    assert "yarn without original_max_position_embeddings; add" in refusal()


@pytest.mark.parametrize(
    "override, words",
    [
        ("record.title=TODO", "experiment/tiny.yaml: the plan is not written yet: title; write it"),
        ("record.criteria=[]", "the plan is not written yet: criteria"),
        ("record.hypothesis=", "record.hypothesis"),
    ],
)
def test_a_plan_that_is_not_written(refusal, override, words):
    assert words in refusal(override)


def test_a_monitor_that_cannot_start(make_config):
    config = make_config("guard.detectors={score_lost: {best: 1}}")
    with pytest.raises(UserError, match="guard.detectors.score_lost.best is no threshold"):
        check(config)


def test_a_run_without_a_record_needs_none(make_config):
    config = make_config()
    config.record = None
    check(config)


STARTED = """
import runpy, sys
try:
    runpy.run_module("recipes.archer.main", run_name="__main__")
finally:
    assert not {"ray", "torch"} & set(sys.modules), "a wrong call has to wait for their imports"
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.train_files={}/none.json", "data.train_files: {}/none.json: no such file; check the path"),
        ("actor_rollout_ref.actor.ratio_cap=0.5", "actor_rollout_ref.actor.ratio_cap is 0.5: a cap on the ratio must"),
    ],
)
def test_the_entry_point_says_it_in_one_line_before_it_imports_what_takes_long(good, tmp_path, setting, said):
    """In a process of its own, as a user sees it (2 s)."""
    overrides = ["experiment=tiny", "device=cpu", *good, f"trainer.output_dir={tmp_path}/output"]
    overrides.append(setting.format(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", STARTED, *overrides]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == WRONG_CALL, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: " + said.format(tmp_path))
    assert done.stdout == ""
    assert not (tmp_path / "output").exists()
