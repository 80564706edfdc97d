"""Everything that can be found wrong before Ray starts is found here, and said in one line."""

import importlib.util
import math
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.experiments.records import record_in, require_plan
from recipes.archer.monitoring.guard import Guard
from recipes.archer.prompts.file import PromptFileError, read_prompt_file
from recipes.archer.reward.group_filter import METRICS
from recipes.archer.runs.trackers import KNOWN
from recipes.archer.settings.checks import ACTOR, MICRO_BATCHES, ROLLOUT, check_settings
from recipes.archer.settings.model_folder import context_length, model_folder, model_settings
from recipes.archer.startup.gpus import num_gpus, out_of_reach

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
        check_settings(config)
        _check_complete(config)
        _check_guard(config)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None
    _check_choices(config)
    _check_device(config)  # before what takes a download to put right
    _check_batches(config)
    model = model_settings(model_folder(config.actor_rollout_ref.model.path))
    _check_lengths(config, context_length(model))
    _check_tensor_parallel(config, model)
    _check_data(config)
    _check_threshold(config)


def _check_complete(config: DictConfig) -> None:
    try:
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        needed = ("data.train_files", "data.val_files", "actor_rollout_ref.model.path")
        missing = next((name for name in needed if not OmegaConf.select(config, name)), None)
    except MissingMandatoryValue as error:
        missing = error.full_key
    if missing:
        raise UserError(f"{missing} is not set; give it on the command line: {missing}=...")


def _check_guard(config: DictConfig) -> None:
    """The plan is whole, and the monitor can start."""
    record = record_in(config)
    if record is not None:
        require_plan(record)
    Guard.from_config(config)


def _check_lengths(config: DictConfig, context: float) -> None:
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    needed = prompt + response
    if needed > context:
        room = context - prompt
        remedy = f"lower data.max_response_length to {room} or less" if room > 0 else "lower data.max_prompt_length"
        raise UserError(
            f"data.max_prompt_length={prompt} plus data.max_response_length={response} is {needed} tokens, the "
            f"model's context is {context}; {remedy}"
        )
    buffer = config.reward.overlong_buffer_len
    if buffer > response:
        raise UserError(f"reward.overlong_buffer_len={buffer} exceeds data.max_response_length={response}; 0 is off")
    rollout = config.actor_rollout_ref.rollout
    engine = needed if rollout.max_model_len is None else rollout.max_model_len
    if not needed <= engine <= context:
        most = "" if math.isinf(context) else f" and at most the model's context, {context}"
        raise UserError(
            f"{ROLLOUT}.max_model_len={engine} must be at least data.max_prompt_length plus "
            f"data.max_response_length, {needed}{most}; leave it out to have it derived"
        )
    batched = rollout.max_num_batched_tokens
    if batched is not None and batched < engine:
        raise UserError(
            f"{ROLLOUT}.max_num_batched_tokens={batched} is less than {ROLLOUT}.max_model_len={engine}, so a full "
            f"sequence does not fit; raise it to {engine} or more"
        )


def _check_device(config: DictConfig) -> None:
    trainer, device, found = config.trainer, config.trainer.device, num_gpus()
    if device == "cuda" and not found and out_of_reach():
        raise UserError(
            "this environment is the CPU's, which does not reach this machine's NVIDIA GPU; run DEVICE=gpu make setup, "
            "with VENV=another folder, there and here, to keep both"
        )
    if device == "cuda" and trainer.nnodes == 1 and found < trainer.n_gpus_per_node:
        there = f"{found} NVIDIA GPU{'s' * (found != 1)}" if found else "no NVIDIA GPU"
        raise UserError(
            f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}, but there is {there} on this machine; set N_GPUS "
            "to what there is, or train the embedded job: scripts/train/run_archer2.0_qwen3_tiny_cpu.sh"
        )
    if device == "cuda" and found and importlib.util.find_spec("flash_attn") is None:
        raise UserError(f"device=cuda {NEEDS_FLASH_ATTN}")
    if device == "cpu" and found:
        raise UserError("device=cpu on a machine with a GPU: hide it with CUDA_VISIBLE_DEVICES= or use device=cuda")


def _check_tensor_parallel(config: DictConfig, model: dict) -> None:
    size, workers = config.actor_rollout_ref.rollout.tensor_model_parallel_size, _num_workers(config)
    name = f"{ROLLOUT}.tensor_model_parallel_size={size}"
    if size > 1 and config.trainer.device == "cpu":
        raise UserError(f"{name}: on CPU every worker has an engine of its own; use 1")
    heads = model.get("num_attention_heads", size)
    if workers % size or heads % size:
        raise UserError(f"{name} does not divide {workers} workers and {heads} attention heads; use 1")
    kv_heads = model.get("num_key_value_heads") or heads
    if max(size, kv_heads) % min(size, kv_heads):
        raise UserError(f"{name} neither divides the model's {kv_heads} key-value heads nor is a multiple; use 1")


def _num_workers(config: DictConfig) -> int:
    return config.trainer.n_gpus_per_node * config.trainer.nnodes


def _check_batches(config: DictConfig) -> None:
    workers = _num_workers(config)
    prompts, n = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    mini = config.actor_rollout_ref.actor.ppo_mini_batch_size
    if prompts % mini:
        raise UserError(
            f"data.train_batch_size={prompts} is not a multiple of {ACTOR}.ppo_mini_batch_size={mini}; both count "
            "prompts, change one of them"
        )
    if mini * n % workers:
        raise UserError(
            f"{ACTOR}.ppo_mini_batch_size={mini} x {ROLLOUT}.n={n} responses do not divide by {workers} workers "
            "(trainer.n_gpus_per_node x trainer.nnodes); change one of them"
        )
    _check_micro_batches(config, mini * n // workers)


def _check_micro_batches(config: DictConfig, responses: int) -> None:
    """Sizes that only count where micro-batches are not cut by tokens; ``responses``: of a worker's mini-batch."""
    for name in MICRO_BATCHES:
        former = name.removesuffix("_per_gpu")
        if (value := OmegaConf.select(config, former)) is not None:
            raise UserError(f"{former}={value} is upstream's former name, which counted all workers; use {name}")
        size = OmegaConf.select(config, name)
        if size is None and not config.actor_rollout_ref.actor.use_dynamic_bsz:
            raise UserError(f"{ACTOR}.use_dynamic_bsz=false needs {name}; set it to a number of responses")
    size = config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu
    if size is not None and responses % size:
        raise UserError(
            f"{MICRO_BATCHES[0]}={size} does not divide the {responses} responses of a worker's mini-batch "
            f"({ACTOR}.ppo_mini_batch_size x {ROLLOUT}.n / workers); use a divisor"
        )


def _check_choices(config: DictConfig) -> None:
    if isinstance(config.trainer.logger, str):
        raise UserError(f"trainer.logger={config.trainer.logger} is not a list; write trainer.logger=[console]")
    choices = {
        "trainer.device": (config.trainer.device, ("cuda", "cpu")),
        "algorithm.adv_estimator": (config.algorithm.adv_estimator, ("grpo",)),
        "algorithm.use_kl_in_reward": (config.algorithm.use_kl_in_reward, (False,)),  # use_kl_loss is ours
        "reward_model.enable": (config.reward_model.enable, (False,)),
        "algorithm.group_filter.metric": (config.algorithm.group_filter.metric, METRICS),
        "trainer.console_metrics": (config.trainer.console_metrics, ("auto", "main", "all")),
        "guard.action": (config.guard.action, ("off", "warn", "stop")),
        "grading.answer_format": (config.grading.answer_format, ("boxed", "any")),
        "trainer.export": (config.trainer.export, ("best", "last", None)),
        "trainer.resume_mode": (config.trainer.resume_mode, ("auto", "disable", "resume_path")),
        "actor_rollout_ref.rollout.name": (config.actor_rollout_ref.rollout.name, ("vllm",)),
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size": (
            config.actor_rollout_ref.actor.ulysses_sequence_parallel_size,
            (1,),  # the token forward looks at its right neighbour, which may lie on another rank
        ),
        "actor_rollout_ref.rollout.mode": (config.actor_rollout_ref.rollout.mode, ("sync",)),
        **{f"trainer.logger[{i}]": (name, KNOWN) for i, name in enumerate(config.trainer.logger)},
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name}={value} is not known; use {' or '.join(map(_written, known))}")
    if config.trainer.resume_mode == "resume_path":
        _check_resume_from(config.trainer)


def _written(value: object) -> str:
    """As one writes it on the command line."""
    return "null" if value is None else str(value)


def _check_resume_from(trainer: DictConfig) -> None:
    """The path is there, or was: the run's own checkpoints may show that it went on from it before."""
    path, own = trainer.resume_from_path, Path(trainer.default_local_dir).glob("*global_step_*")
    if not path or not (Path(path).is_dir() or any(own)):
        raise UserError(f"trainer.resume_from_path={path} is no folder; name a checkpoint, .../global_step_<n>")


def _check_threshold(config: DictConfig) -> None:
    threshold = config.actor_rollout_ref.actor.rollout_is_threshold
    if threshold is not None and not config.actor_rollout_ref.rollout.calculate_log_probs:
        raise UserError(
            f"{ACTOR}.rollout_is_threshold={threshold} compares with the engine's log-probabilities; "
            f"set {ROLLOUT}.calculate_log_probs=true"
        )


def _check_data(config: DictConfig) -> None:
    function = config.custom_reward_function.path
    if function is not None and not Path(function).is_file():
        raise UserError(f"custom_reward_function.path={function} is no file; name a Python file, or leave it out")
    for name in ("train_files", "val_files"):
        files = config.data[name]
        for path in files if isinstance(files, ListConfig) else [files]:
            if not isinstance(path, str):
                raise UserError(f"data.{name}={path} is not the path of a file; docs/data.md says how to make one")
            try:
                read_prompt_file(path)
            except PromptFileError as error:
                raise UserError(f"data.{name}: {error}") from None
