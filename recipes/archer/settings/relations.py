"""What several settings must be together: lengths, batches, workers. No machine, no model and no data is needed."""

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.losses.constants import ACTOR, loss_config_from
from recipes.archer.settings.engine import ROLLOUT
from recipes.archer.settings.learning import REF
from recipes.archer.settings.running import START_STEPS

MICRO_BATCHES = (  # of passes over the actor and the reference, where ``use_dynamic_bsz`` does not cut by tokens
    f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    f"{REF}.log_prob_micro_batch_size_per_gpu",
)


def check_relations(config: DictConfig) -> None:
    """Raises on the first settings that do not go together; each makes sense alone.

    Raises:
        UserError: names them, and the remedy.
    """
    try:
        loss_config_from(config.actor_rollout_ref.actor)
    except ValueError as error:
        raise UserError(str(error)) from None
    _check_reward(config)
    _check_lengths(config)
    _check_batches(config)
    _check_workers(config)
    _check_control(config)
    _check_refresh(config)
    threshold = config.actor_rollout_ref.actor.rollout_is_threshold
    if threshold is not None and not config.actor_rollout_ref.rollout.calculate_log_probs:
        raise UserError(
            f"{ACTOR}.rollout_is_threshold={threshold} compares with the engine's log-probabilities; "
            f"set {ROLLOUT}.calculate_log_probs=true"
        )
    if config.guard.action == "rollback":
        _check_rollback(config)
    if config.trainer.resume_mode == "resume_path" and config.trainer.resume_from_path is None:
        raise UserError(
            "trainer.resume_mode=resume_path goes on from a checkpoint; name it with "
            "trainer.resume_from_path=.../global_step_<n>"
        )


def _check_rollback(config: DictConfig) -> None:
    trainer, every = config.trainer, config.trainer.save_freq
    if every < 1:
        raise UserError(
            f"guard.action=rollback goes back to checkpoints, but trainer.save_freq={every} makes none on the way; set "
            "it to a number of steps, e.g. 10"
        )
    steps = trainer.total_training_steps
    if not config.guard.rollback.to_start and steps is not None and every >= steps:
        raise UserError(
            f"guard.action=rollback goes back to checkpoints, but trainer.save_freq={every} makes none before the last "
            f"of trainer.total_training_steps={steps}; lower it, or set guard.rollback.to_start=true"
        )


def num_workers(config: DictConfig) -> int:
    """Processes that hold the models, one a GPU."""
    return int(config.trainer.n_gpus_per_node * config.trainer.nnodes)


def engine_length(config: DictConfig) -> int:
    """Tokens that a sequence may have in the engine."""
    longest = config.actor_rollout_ref.rollout.max_model_len
    return int(config.data.max_prompt_length + longest_response(config) if longest is None else longest)


def longest_response(config: DictConfig) -> int:
    """Tokens that a response may have, in training or in validation."""
    return int(max(config.data.max_response_length, config.data.max_val_response_length or 0))


def _check_reward(config: DictConfig) -> None:
    right, wrong = config.reward.correct, config.reward.incorrect
    if right <= wrong:
        raise UserError(f"reward.correct={right} is no more than reward.incorrect={wrong}; raise it, e.g. to 1.0")


def _check_lengths(config: DictConfig) -> None:
    response, rollout = config.data.max_response_length, config.actor_rollout_ref.rollout
    needed, engine = config.data.max_prompt_length + longest_response(config), engine_length(config)
    buffer = config.reward.overlong_buffer_len
    if buffer > response:
        raise UserError(f"reward.overlong_buffer_len={buffer} exceeds data.max_response_length={response}; 0 is off")
    if engine < needed:
        raise UserError(
            f"{ROLLOUT}.max_model_len={engine} must be at least data.max_prompt_length plus "
            f"{longer_cap(config)}, {needed}; leave it out to have it derived"
        )
    batched = rollout.max_num_batched_tokens
    for name, least, why in (
        ("max_model_len", engine, "so a full sequence does not fit"),
        ("max_num_seqs", rollout.max_num_seqs, "so not every sequence gets its token"),
    ):
        if batched < least:
            raise UserError(
                f"{ROLLOUT}.max_num_batched_tokens={batched} is less than "
                f"{ROLLOUT}.{name}={least}, {why}; raise it to {least} or more, or leave it out to have it derived"
            )
    if (least := rollout.get("min_tokens", 0)) > response:
        raise UserError(f"{ROLLOUT}.min_tokens={least} exceeds data.max_response_length={response}; lower it")


def longer_cap(config: DictConfig) -> str:
    """Which of the two caps is the longer one."""
    longer = longest_response(config) > config.data.max_response_length
    return "data.max_val_response_length" if longer else "data.max_response_length"


def _check_batches(config: DictConfig) -> None:
    workers, actor = num_workers(config), config.actor_rollout_ref.actor
    prompts, n, mini = config.data.train_batch_size, config.actor_rollout_ref.rollout.n, actor.ppo_mini_batch_size
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
    for name in MICRO_BATCHES:
        if not actor.use_dynamic_bsz and OmegaConf.select(config, name) is None:
            raise UserError(f"{ACTOR}.use_dynamic_bsz=false needs {name}; set it to a number of responses")
    responses, size = mini * n // workers, actor.ppo_micro_batch_size_per_gpu
    if size is not None and responses % size:
        raise UserError(
            f"{MICRO_BATCHES[0]}={size} does not divide the {responses} responses of a worker's mini-batch "
            f"({ACTOR}.ppo_mini_batch_size x {ROLLOUT}.n / workers); use a divisor"
        )


def _check_workers(config: DictConfig) -> None:
    size, workers = config.actor_rollout_ref.rollout.tensor_model_parallel_size, num_workers(config)
    name = f"{ROLLOUT}.tensor_model_parallel_size={size}"
    if size > 1 and config.trainer.device == "cpu":
        raise UserError(f"{name}: on CPU every worker has an engine of its own; use 1")
    if workers % size:
        raise UserError(f"{name} does not divide {workers} workers (trainer.n_gpus_per_node x trainer.nnodes); use 1")
    cores = config.ray_init.num_cpus
    if cores is not None and config.trainer.nnodes == 1 and cores < workers:
        raise UserError(
            f"ray_init.num_cpus={cores} is less than the {workers} workers, which Ray gives a core each; use "
            f"{workers + 1} or more, or leave it out"
        )


def _check_control(config: DictConfig) -> None:
    name, control, steps = "control.entropy", config.control.entropy, config.trainer.total_training_steps
    if control.actuator is None:
        return
    if control.unit == "start" and control.warmup_steps < START_STEPS:
        raise UserError(
            f"{name}.warmup_steps={control.warmup_steps} is too few for {name}.unit=start, the median of the first "
            f"{START_STEPS} steps; use {START_STEPS} or more, or {name}.unit=nats"
        )
    if steps is not None and control.warmup_steps >= steps:
        raise UserError(
            f"{name}.warmup_steps={control.warmup_steps} is no less than trainer.total_training_steps={steps}, so "
            f"{name}.actuator={control.actuator} would never act; lower it"
        )
    if (control.final_band is None) != (control.anneal_steps is None):
        raise UserError(f"{name}.final_band and {name}.anneal_steps go together; set both or neither")
    coefficient = config.actor_rollout_ref.actor.entropy_coeff
    if control.actuator == "bonus" and coefficient != 0:
        raise UserError(
            f"{ACTOR}.entropy_coeff={coefficient} has no effect beside {name}.actuator=bonus, which sets it in every "
            "step; use 0"
        )
    if control.actuator == "bonus" and control.bonus.delta > control.bonus.max:
        raise UserError(f"{name}.bonus.delta={control.bonus.delta} is more than {name}.bonus.max={control.bonus.max}")
    if control.actuator == "advantage" and not control.advantage.proportional + control.advantage.integral:
        raise UserError(f"{name}.advantage.proportional and {name}.advantage.integral are both 0; raise one of them")


def _check_refresh(config: DictConfig) -> None:
    refresh = config.actor_rollout_ref.ref.refresh
    if refresh.every is None:
        return
    name = f"{REF}.refresh"
    dtype = config.actor_rollout_ref.ref.fsdp_config.get("model_dtype") or "bf16"
    if refresh.mix < 1 and "32" not in dtype:
        raise UserError(
            f"{name}.mix={refresh.mix} would be rounded away in a reference of {dtype}, of three digits; "
            f"add +{REF}.fsdp_config.model_dtype=fp32, or use {name}.mix=1"
        )
