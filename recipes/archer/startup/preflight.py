"""Everything that can be found wrong before Ray starts is found here, and said in one line."""

import importlib.util
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.experiments.courses import check_courses
from recipes.archer.experiments.records import record_in, require_plan
from recipes.archer.monitoring.guard import Guard
from recipes.archer.prompts.file import PromptFileError, read_prompt_file
from recipes.archer.session.ray_session import names_cluster
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.engine import ROLLOUT
from recipes.archer.settings.model_folder import context_length, model_folder, model_settings
from recipes.archer.settings.relations import engine_length, longer_cap, longest_response
from recipes.archer.startup.gpus import num_gpus, out_of_reach
from recipes.archer.startup.memory import check_memory

NEEDS_FLASH_ATTN = (
    "needs flash-attn, which make setup builds where CUDA 12's nvcc is on PATH; install the CUDA toolkit and run make "
    "setup again"
)


def check(config: DictConfig) -> None:
    """Raises on the first thing that would stop the run.

    Raises:
        UserError: with the file or setting, and the remedy.
    """
    try:
        check_anywhere(config)
        _check_complete(config)
        if (record := record_in(config)) is not None:
            require_plan(record)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None
    _check_device(config)  # before what takes a download to put right
    folder = model_folder(config.actor_rollout_ref.model.path)
    model = model_settings(folder)
    _check_context(config, context_length(model))
    _check_heads(config, model)
    check_memory(config, folder)
    _check_resume_from(config.trainer)
    _check_data(config)


def check_anywhere(config: DictConfig, *, elsewhere: bool = False) -> None:
    """Raises on the first thing that is wrong on every machine, with every model and all data.

    Args:
        elsewhere: see :func:`check_settings`.

    Raises:
        UserError: names the setting, and the remedy.
    """
    check_settings(config, elsewhere=elsewhere)
    Guard.from_config(config)
    if config.guard.action == "rollback":
        check_courses(config, elsewhere=elsewhere)


def _check_complete(config: DictConfig) -> None:
    try:
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key
        raise UserError(f"{name} is not set; give it on the command line: {name}=...") from None


def _check_context(config: DictConfig, context: float) -> None:
    prompt, response = config.data.max_prompt_length, longest_response(config)
    needed = prompt + response
    if needed > context:
        room, name = context - prompt, longer_cap(config)
        remedy = f"lower {name} to {room} or less" if room > 0 else "lower data.max_prompt_length"
        raise UserError(
            f"data.max_prompt_length={prompt} plus {name}={response} is {needed} tokens, the "
            f"model's context is {context}; {remedy}"
        )
    if (engine := engine_length(config)) > context:
        raise UserError(
            f"{ROLLOUT}.max_model_len={engine} is more than the model's context, {context}; leave it out to have it "
            "derived"
        )


def _check_device(config: DictConfig) -> None:
    trainer, device, found = config.trainer, config.trainer.device, num_gpus()
    if device == "cuda" and not found and out_of_reach():
        raise UserError(
            "this environment is the CPU's, which does not reach this machine's NVIDIA GPU; run DEVICE=gpu make setup, "
            "with VENV=another folder, there and here, to keep both"
        )
    here = trainer.nnodes == 1 and not names_cluster()  # or the workers may be elsewhere
    if device == "cuda" and here and found < trainer.n_gpus_per_node:
        there = f"{found} NVIDIA GPU{'s' * (found != 1)}" if found else "no NVIDIA GPU"
        raise UserError(
            f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}, but there is {there} on this machine; set N_GPUS "
            "to what there is, or train the embedded job: scripts/train/run_archer2.0_qwen3_tiny_cpu.sh"
        )
    if device == "cuda" and found and importlib.util.find_spec("flash_attn") is None:
        raise UserError(f"device=cuda {NEEDS_FLASH_ATTN}")
    if device == "cpu" and found:
        raise UserError("device=cpu on a machine with a GPU: hide it with CUDA_VISIBLE_DEVICES= or use device=cuda")


def _check_heads(config: DictConfig, model: dict) -> None:
    size = config.actor_rollout_ref.rollout.tensor_model_parallel_size
    name, heads = f"{ROLLOUT}.tensor_model_parallel_size={size}", model.get("num_attention_heads", size)
    if heads % size:
        raise UserError(f"{name} does not divide the model's {heads} attention heads; use 1")
    kv_heads = model.get("num_key_value_heads") or heads
    if max(size, kv_heads) % min(size, kv_heads):
        raise UserError(f"{name} neither divides the model's {kv_heads} key-value heads nor is a multiple; use 1")


def _check_resume_from(trainer: DictConfig) -> None:
    """The path is there, or was: the run's own checkpoints may show that it went on from it before."""
    path, own = trainer.resume_from_path, Path(trainer.default_local_dir).glob("*global_step_*")
    if trainer.resume_mode == "resume_path" and not (Path(path).is_dir() or any(own)):
        raise UserError(f"trainer.resume_from_path={path} is no folder; name a checkpoint, .../global_step_<n>")


def _check_data(config: DictConfig) -> None:
    function = config.custom_reward_function.path
    if function is not None and not Path(function).is_file():
        raise UserError(f"custom_reward_function.path={function} is no file; name a Python file, or leave it out")
    if not isinstance(prompt_key := config.data.prompt_key, str):
        raise UserError(f"data.prompt_key={prompt_key} is not the name of a field; leave it out for prompt")
    for name in ("train_files", "val_files"):
        files = config.data[name]
        for path in files if isinstance(files, ListConfig) else [files]:
            try:
                read_prompt_file(path, prompt_key)
            except PromptFileError as error:
                raise UserError(f"data.{name}: {error}") from None
