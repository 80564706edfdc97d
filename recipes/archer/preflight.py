"""Everything that can be found wrong before Ray starts is found here, and said in one line."""

import json
import math
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.group_filter import METRICS
from recipes.archer.prompt_file import PromptFileError, read_prompt_file
from recipes.archer.trackers import KNOWN


def check(config: DictConfig) -> None:
    """Raises on the first thing that would stop the run.

    Raises:
        UserError: with the file or setting, and the remedy.
    """
    _check_complete(config)
    model = _check_model(config)
    _check_lengths(config, model)
    _check_device(config, model)
    _check_batches(config)
    _check_choices(config)
    _check_losses(config)
    _check_data(config)


def _check_complete(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} is not set; give it on the command line: {missing[0]}=...")
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None


def _check_model(config: DictConfig) -> dict:
    path = Path(os.path.expanduser(config.actor_rollout_ref.model.path))
    remedy = "fetch it with scripts/train/setup_qwen3_0.6b.sh, or set actor_rollout_ref.model.path (MODEL_PATH)"
    if not path.is_dir():
        raise UserError(f"model folder {path} does not exist; {remedy}")
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"model folder {path} has no config.json, so it is not a model; {remedy}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); {remedy}") from None


def _check_lengths(config: DictConfig, model: dict) -> None:
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    for name, value in (("max_prompt_length", prompt), ("max_response_length", response)):
        if value < 1:
            raise UserError(f"data.{name}={value}: at least 1 token is needed")
    scaling = (model.get("rope_scaling") or {}).get("factor", 1.0)
    context = int(model.get("max_position_embeddings", math.inf) * scaling)
    if prompt + response > context:
        raise UserError(
            f"data.max_prompt_length={prompt} plus data.max_response_length={response} is {prompt + response} "
            f"tokens, the model's context is {context}; lower data.max_response_length to {context - prompt} or less"
        )
    buffer = config.reward.overlong_buffer_len
    if not 0 <= buffer <= response:
        raise UserError(
            f"reward.overlong_buffer_len={buffer} is not within 0..data.max_response_length={response}; 0 is off"
        )


def _check_device(config: DictConfig, model: dict) -> None:
    import torch

    trainer, device = config.trainer, config.trainer.device
    if device not in ("cuda", "cpu"):
        raise UserError(f"trainer.device={device} is not known; choose with device=cuda or device=cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and trainer.nnodes == 1 and found < trainer.n_gpus_per_node:
        there = f"{found} NVIDIA GPU{'s' * (found != 1)}" if found else "no NVIDIA GPU"
        raise UserError(
            f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}, but there is {there} on this machine; set N_GPUS "
            "to what there is, or train the embedded job: scripts/train/run_archer2.0_qwen3_tiny_cpu.sh"
        )
    if device == "cpu" and found:
        raise UserError("device=cpu on a machine with a GPU: hide it with CUDA_VISIBLE_DEVICES= or use device=cuda")
    tensor_parallel = config.actor_rollout_ref.rollout.tensor_model_parallel_size
    workers = trainer.n_gpus_per_node * trainer.nnodes
    heads = model.get("num_attention_heads", tensor_parallel)
    if workers % tensor_parallel or heads % tensor_parallel:
        raise UserError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={tensor_parallel} does not divide "
            f"{workers} workers and {heads} attention heads; use 1"
        )


def _check_batches(config: DictConfig) -> None:
    workers = config.trainer.n_gpus_per_node * config.trainer.nnodes
    prompts, n = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    mini = config.actor_rollout_ref.actor.ppo_mini_batch_size
    if n < 2:
        raise UserError(f"actor_rollout_ref.rollout.n={n}: GRPO compares the responses to a prompt; use at least 2")
    if mini < 1 or prompts < 1 or prompts % mini:
        raise UserError(
            f"data.train_batch_size={prompts} is not a multiple of "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}; both count prompts"
        )
    if mini * n % workers:
        raise UserError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini} x actor_rollout_ref.rollout.n={n} responses do not "
            f"divide by {workers} workers (trainer.n_gpus_per_node x trainer.nnodes); change one of them"
        )


def _check_choices(config: DictConfig) -> None:
    group_filter = config.algorithm.group_filter
    choices = {
        "algorithm.adv_estimator": (config.algorithm.adv_estimator, ("grpo",)),
        "algorithm.group_filter.metric": (group_filter.metric, METRICS),
        "guard.action": (config.guard.action, ("off", "warn", "stop")),
        "grading.answer_format": (config.grading.answer_format, ("boxed", "any")),
        "trainer.resume_mode": (config.trainer.resume_mode, ("auto", "disable", "resume_path")),
        "actor_rollout_ref.rollout.name": (config.actor_rollout_ref.rollout.name, ("vllm",)),
        "actor_rollout_ref.rollout.mode": (config.actor_rollout_ref.rollout.mode, ("sync",)),
        **{f"trainer.logger[{i}]": (name, KNOWN) for i, name in enumerate(config.trainer.logger)},
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name}={value} is not known; use {' or '.join(known)}")
    if group_filter.max_gen_batches < 1:
        raise UserError(f"algorithm.group_filter.max_gen_batches={group_filter.max_gen_batches}: use at least 1")


def _check_losses(config: DictConfig) -> None:
    from recipes.archer.loss_config import loss_config_from

    try:
        loss_config_from(config.actor_rollout_ref.actor)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_data(config: DictConfig) -> None:
    for name in ("train_files", "val_files"):
        files = config.data[name]
        for path in [files] if isinstance(files, str) else files:
            try:
                read_prompt_file(path)
            except PromptFileError as error:
                raise UserError(f"data.{name}: {error}") from None
