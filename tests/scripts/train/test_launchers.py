"""What each launcher would train with: `DRY_RUN=1`, from a directory that is not the checkout (1 to 2 s each)."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from traps import folder_of_traps

LAUNCHERS = Path(__file__).resolve().parents[3] / "scripts" / "train"
MATH = "run_archer2.0_qwen3_0.6b_math.sh"
SMOKE = "run_archer2.0_qwen3_0.6b_math_smoke_4gpu.sh"
FULL = "run_full_qwen3_training.sh"
QWEN25 = "run_archer2.0_qwen2.5_1.5b_math.sh"
TINY = "run_archer2.0_qwen3_tiny_cpu.sh"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"

# what all of V0 to V5 had in common
COMMON = {
    "data.train_batch_size": 64,
    "data.max_prompt_length": 2048,
    f"{ROLLOUT}.n": 16,
    f"{ROLLOUT}.temperature": 1.0,
    f"{ROLLOUT}.top_p": 1.0,
    f"{ROLLOUT}.val_kwargs.n": 4,
    f"{ROLLOUT}.val_kwargs.temperature": 0.6,
    f"{ROLLOUT}.val_kwargs.top_p": 0.95,
    f"{ACTOR}.ppo_mini_batch_size": 16,
    f"{ACTOR}.ppo_epochs": 3,
    f"{ACTOR}.optim.lr": 1e-6,
    f"{ACTOR}.optim.lr_warmup_steps": 10,
    f"{ACTOR}.optim.weight_decay": 0.1,
    f"{ACTOR}.grad_clip": 1.0,
    f"{ACTOR}.clip_ratio_low": 0.2,
    f"{ACTOR}.clip_ratio_high": 0.2,
    f"{ACTOR}.clip_ratio_c": 3.0,
    f"{ACTOR}.loss_agg_mode": "token-mean",
    f"{ACTOR}.policy_loss.loss_mode": "vanilla",
    f"{ACTOR}.use_kl_loss": True,
    f"{ACTOR}.kl_loss_type": "low_var_kl",
    f"{ACTOR}.kl_loss_high_entropy_scale": 1.0,
    "algorithm.adv_estimator": "grpo",
    "trainer.device": "cuda",
}
# experiment: (max response, overlong buffer, entropy_coeff, kl_loss_coef)
DIFFERENCES = {
    "v0": (30720, 16, 0, 0.001),
    "v1": (4096, 256, 0.01, 0.01),
    "v2": (4096, 256, 0.005, 0.01),
    "v3": (4096, 256, 0.01, 0.05),
    "v4": (4096, 256, 0.01, 0.03),
    "v5": (4096, 256, 0.01, 0.05),
}
LENGTHS = (f"{ROLLOUT}.max_num_batched_tokens", f"{ROLLOUT}.max_model_len")


def _launch(launcher: str, *overrides: str, **variables: str) -> subprocess.CompletedProcess:
    own = ("EXPERIMENT", "MODEL_PATH", "TRAIN_FILE", "VAL_FILE", "N_GPUS", "OUTPUT_DIR", "TINY_DIR", "DEVICE")
    own += ("MODEL_DIR", "JOB_NAME", "JOB_UUID")
    clean = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("WANDB_")}
    environment = clean | {"DRY_RUN": "1", "VENV": sys.prefix} | variables
    command = ["bash", str(LAUNCHERS / launcher), *overrides]
    return subprocess.run(command, cwd=folder_of_traps(), env=environment, capture_output=True, text=True, check=False)


def _configuration(launcher: str, *overrides: str, **variables: str) -> dict:
    done = _launch(launcher, *overrides, **variables)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def _get(configuration: dict, name: str):
    for key in name.split("."):
        configuration = configuration[key]
    return configuration


def _assert_holds(configuration: dict, expected: dict) -> None:
    assert {name: _get(configuration, name) for name in expected} == expected


@pytest.fixture(scope="module")
def runs_so_far() -> dict[str, dict]:
    """What each prints; two at a time, as each is one process on one core."""
    with ThreadPoolExecutor(2) as pool:
        printed = pool.map(lambda experiment: _configuration(MATH, EXPERIMENT=experiment), DIFFERENCES)
        return dict(zip(DIFFERENCES, printed, strict=True))


@pytest.mark.parametrize("experiment", DIFFERENCES)
def test_the_runs_so_far(experiment, runs_so_far):
    response, buffer, entropy, kl = DIFFERENCES[experiment]
    configuration = runs_so_far[experiment]
    _assert_holds(configuration, COMMON | dict.fromkeys(LENGTHS, 2048 + response))
    _assert_holds(
        configuration,
        {
            "data.max_response_length": response,
            "reward.overlong_buffer_len": buffer,
            f"{ACTOR}.entropy_coeff": entropy,
            f"{ACTOR}.kl_loss_coef": kl,
            f"{ACTOR}.ppo_max_token_len_per_gpu": 4 * (2048 + response),
            "algorithm.group_filter.metric": "reward",
            "trainer.n_gpus_per_node": 4,
            "trainer.project_name": "Archer2.0",
        },
    )
    assert _get(configuration, "trainer.experiment_name").startswith("Archer2.0-Qwen3-0.6B-Math")
    assert _get(configuration, "actor_rollout_ref.model.path") == "Qwen/Qwen3-0.6B-Base"


def test_full_training_is_the_main_launcher_and_v5_its_default():
    arguments = ("trainer.total_epochs=7", f"{ACTOR}.entropy_coeff=0.02")
    machine = {"MODEL_PATH": "/m", "TRAIN_FILE": "/t.json", "VAL_FILE": "/v.json", "N_GPUS": "2", "OUTPUT_DIR": "/out"}
    configuration = _configuration(FULL, *arguments, **machine)
    assert configuration == _configuration(MATH, *arguments, EXPERIMENT="v5_mended", **machine)
    _assert_holds(
        configuration,
        {
            "trainer.total_epochs": 7,
            f"{ACTOR}.entropy_coeff": 0.02,
            f"{ACTOR}.kl_loss_coef": 0.05,
            "actor_rollout_ref.model.path": "/m",
            "data.train_files": "/t.json",
            "data.val_files": "/v.json",
            "trainer.n_gpus_per_node": 2,
            "trainer.default_local_dir": "/out/Archer2.0/Archer2.0-Qwen3-0.6B-Math-v5_mended",
        },
    )


def test_the_device_may_be_called_as_set_up_calls_it():
    assert _get(_configuration(MATH, DEVICE="gpu"), "trainer.device") == "cuda"


def test_lengths_are_derived_from_what_the_command_line_says():
    configuration = _configuration(MATH, "data.max_prompt_length=100", "data.max_response_length=900", EXPERIMENT="v3")
    _assert_holds(configuration, dict.fromkeys(LENGTHS, 1000))


def test_smoke_is_small_and_short():
    configuration = _configuration(SMOKE, f"{ROLLOUT}.n=8")
    _assert_holds(configuration, dict.fromkeys(LENGTHS, 1024))
    _assert_holds(
        configuration,
        {
            "trainer.total_training_steps": 2,
            "trainer.n_gpus_per_node": 4,
            "data.train_batch_size": 8,
            f"{ACTOR}.ppo_mini_batch_size": 4,
            f"{ACTOR}.ppo_epochs": 3,
            f"{ROLLOUT}.n": 8,  # from the command line
            "trainer.device": "cuda",
        },
    )


@pytest.mark.parametrize("experiment", [*DIFFERENCES, "v5_mended", "v6_recommended"])
def test_every_experiment_of_the_real_job_has_a_smoke_run(experiment):
    """A dry run is refused what a run would be."""
    _assert_holds(_configuration(SMOKE, EXPERIMENT=experiment), {"trainer.total_training_steps": 2})


def test_each_smoke_run_has_a_name_of_its_own(tmp_path):
    """Under the name of a run that is there, the launcher would find its steps done."""

    def name(at: str, **variables: str) -> str:
        (tmp_path / "date").write_text(f"#!/bin/sh\nexec {shutil.which('date')} -d '{at}' \"$@\"\n")
        (tmp_path / "date").chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        return _get(_configuration(SMOKE, PATH=path, **variables), "trainer.experiment_name")

    assert name("2025-01-02 03:04:05") == "Archer2.0-Qwen3-0.6B-Math-smoke-v5_mended-20250102-030405"
    assert name("2025-01-02 03:04:06", EXPERIMENT="v3") == "Archer2.0-Qwen3-0.6B-Math-smoke-v3-20250102-030406"


def test_the_run_that_the_others_derive_from():
    configuration = _configuration(QWEN25)
    _assert_holds(configuration, COMMON | dict.fromkeys(LENGTHS, 2048 + 32768))
    _assert_holds(
        configuration,
        {
            "trainer.n_gpus_per_node": 8,
            "data.max_response_length": 32768,
            "reward.overlong_buffer_len": 16,
            f"{ACTOR}.entropy_coeff": 0,
            f"{ACTOR}.kl_loss_coef": 0.001,
        },
    )
    assert _get(configuration, "actor_rollout_ref.model.path").endswith("/DeepSeek-R1-Distill-Qwen-1.5B")


def test_the_embedded_job(tmp_path):
    configuration = _configuration(TINY, "seed=3", TINY_DIR=str(tmp_path))
    _assert_holds(
        configuration,
        {
            "trainer.device": "cpu",
            "trainer.n_gpus_per_node": 2,
            "trainer.total_training_steps": 50,
            f"{ACTOR}.strategy": "fsdp2",
            "actor_rollout_ref.model.path": f"{tmp_path}/model",
            "data.train_files": f"{tmp_path}/train.json",
            "data.seed": 3,
        },
    )
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_the_embedded_jobs_model_is_where_a_run_would_make_it(tmp_path):
    configuration = _configuration(TINY, ARCHER_CACHE=str(tmp_path))
    model = Path(_get(configuration, "actor_rollout_ref.model.path"))
    assert model.parents[1] == tmp_path / "tiny" and model.name == "model"
    assert _get(configuration, "data.train_files") == f"{model.parent}/train.json"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("launcher", [MATH, SMOKE, QWEN25, TINY])
@pytest.mark.parametrize("dry_run", ["0", "1"])
def test_without_an_environment_the_remedy_is_named(tmp_path, launcher, dry_run):
    done = _launch(launcher, VENV=str(tmp_path), DRY_RUN=dry_run)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path}/bin/python does not exist; run: make -C {LAUNCHERS.parents[1]} setup\n"


@pytest.mark.parametrize(
    "path",
    ["/a\\", "/a\\\\", "\\", "'", "/a'", "/a\\'b", "/a\\\\'\\", "/a\\b", "/$HOME", "/{a}", "/a\nb\\'", "", "/é ü"],
)
def test_a_path_is_written_so_that_hydra_reads_the_same(path):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    script = f'source {LAUNCHERS}/lib/launch.sh; path_value "$1"'
    written = subprocess.run(["bash", "-euc", script, "bash", path], capture_output=True, text=True, check=True).stdout
    assert OverridesParser.create().parse_override(f"key={written}").value() == path


@pytest.mark.parametrize("name", ["MODEL_PATH", "TRAIN_FILE", "VAL_FILE", "OUTPUT_DIR", "HOME"])
def test_a_path_that_the_configuration_would_read_as_a_reference_is_refused(name):
    done = _launch(MATH, **{name: "/data/${oc.env:WANDB_API_KEY}"}, WANDB_API_KEY="0123456789")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {name} has ${{ in it") and done.stderr.count("\n") == 1


def test_paths_may_have_any_characters(tmp_path):
    """A checkout, a disk or a cache may be called as it likes; Hydra's grammar is not the user's affair."""
    odd = "/disk 1/it's (mine), a=b"
    machine = {"MODEL_PATH": f"{odd}/m", "TRAIN_FILE": f"[{tmp_path}/a.json,{tmp_path}/b.json]", "OUTPUT_DIR": odd}
    configuration = _configuration(MATH, VAL_FILE=f"{odd}/v.json", **machine)
    _assert_holds(
        configuration,
        {
            "actor_rollout_ref.model.path": f"{odd}/m",
            "data.train_files": [f"{tmp_path}/a.json", f"{tmp_path}/b.json"],
            "data.val_files": f"{odd}/v.json",
            "trainer.output_dir": odd,
        },
    )
    assert _get(_configuration(TINY, TINY_DIR=odd), "data.val_files") == f"{odd}/val.json"


@pytest.mark.parametrize(
    ("experiment", "overrides", "said"),
    [
        ("v9", [], "experiment=v9 is not known; use archer or aspo or "),
        ("v3", ["actor_rollout_ref.actor.entropy_coef=1"], "did you mean actor_rollout_ref.actor.entropy_coeff?"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(experiment, overrides, said):
    done = _launch(MATH, *overrides, EXPERIMENT=experiment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize("launcher", [SMOKE, QWEN25])  # the smoke launcher starts the main one
def test_gpus_that_are_not_there(launcher):
    done = _launch(launcher, DRY_RUN="0", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (2, "")
    number = 8 if launcher == QWEN25 else 4
    start = f"error: trainer.n_gpus_per_node={number}, but there is no NVIDIA GPU on this machine; set N_GPUS to "
    assert done.stderr.startswith(start) and done.stderr.count("\n") == 1


@pytest.fixture
def programs(tmp_path):
    """Puts stand-ins for programs, which log their arguments, first on PATH; the value is that PATH."""

    def programs(**codes: int) -> str:
        (tmp_path / "bin").mkdir(exist_ok=True)
        for name, code in codes.items():
            program = tmp_path / "bin" / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\nexit {code}\n')
            program.chmod(0o755)
        return f"{tmp_path}/bin:{os.environ['PATH']}"

    return programs


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_full_training_says_so_before_it_sets_anything_up(programs, device):
    done = _launch(FULL, DRY_RUN="0", DEVICE=device, PATH=programs(nvidia_smi=9, make=99))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no NVIDIA GPU answers (nvidia-smi -L); run this where one does, or train")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("train", "overrides", "missing"),
    [
        ("{tmp}/no, train.json", [], "data.train_files: {tmp}/no, train.json"),
        ("[{tmp}/a b.json, {tmp}/c.json]", [], "data.train_files: {tmp}/c.json"),
        ("[{tmp}/a b.json]", [], "data.val_files: {tmp}/val.json"),
        ("['{tmp}/a b.json']", ["++data.val_files=y"], None),
        ("{tmp}/no.json", ["data.train_files=x", "data.val_files=y"], None),
    ],
)
def test_full_training_looks_for_its_data_first(programs, tmp_path, train, overrides, missing):
    (tmp_path / "a b.json").touch()
    variables = {"TRAIN_FILE": train.format(tmp=tmp_path), "VAL_FILE": f"{tmp_path}/val.json"}
    done = _launch(FULL, *overrides, DRY_RUN="0", PATH=programs(nvidia_smi=0, make=99), **variables)
    if missing is None:
        assert done.returncode == 99, "it goes on to set-up"
        return
    what = missing.format(tmp=tmp_path)
    remedy = "make it as docs/data.md says, or set TRAIN_FILE and VAL_FILE"
    assert (done.returncode, done.stderr) == (2, f"error: {what}: no such file; {remedy}\n")


def test_full_training_looks_for_the_model_where_it_was_told_to_put_it(programs, tmp_path):
    file = tmp_path / "data.json"
    file.touch()
    variables = {"TRAIN_FILE": str(file), "VAL_FILE": str(file), "OUTPUT_DIR": str(tmp_path), "VENV": str(tmp_path)}
    path = programs(nvidia_smi=0, make=0, python=0)
    done = _launch(FULL, DRY_RUN="0", MODEL_DIR="/my/model", PATH=path, **variables)
    assert done.returncode == 0, done.stderr
    *_, download, training = (tmp_path / "calls").read_text().splitlines()
    assert "Qwen/Qwen3-0.6B-Base --out /my/model" in download
    assert "actor_rollout_ref.model.path='/my/model'" in training


def test_every_launcher_is_tested():
    assert {path.name for path in LAUNCHERS.glob("run_*.sh")} == {MATH, SMOKE, FULL, QWEN25, TINY}
