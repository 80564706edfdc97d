"""What is learned from and how: data, model, actor, reference, algorithm, reward; see ``rules.py``."""

from typing import Any

from omegaconf import DictConfig

from recipes.archer.losses.constants import ACTOR, LossConfig, setting_name, uses_reference
from recipes.archer.settings.rules import (
    OnlyIf,
    Read,
    choice,
    judged,
    not_negative,
    number,
    positive,
    section,
    share,
    switch,
    text,
    texts,
    whole,
)

MODEL, REF = "actor_rollout_ref.model", "actor_rollout_ref.ref"
LARGEST_SEED = 2**32 - 1  # numpy's, which the engine seeds
GROUP_METRICS = ("accuracy", "reward")
WORKER, FSDP = "verl/workers/fsdp_workers", "verl/utils/fsdp_utils"
DTYPES = ("fp32", "float32", "bf16", "bfloat16")  # not fp16: nothing scales the loss
NO_FLASH_ATTN = "removing padding needs flash-attn, which needs a GPU"
NO_DEVICE_MEMORY = "there is no device's memory to save"
WHOLE_LAYERS = "every worker has the memory for whole layers"
FULL_PRECISION = "trainer and engine compute in full precision"


def _has(name: str, *values: object) -> OnlyIf:
    """With one of these values of an actor's setting."""
    section, _, leaf = name.rpartition(".")

    def holds(config: DictConfig) -> bool:
        actor = config.actor_rollout_ref.actor
        return (actor[section] if section else actor)[leaf] in values

    word = str(values[0]).lower() if isinstance(values[0], bool) else values[0]
    return OnlyIf(holds, f"it counts with {ACTOR}.{name}={word}")


_ANCHORED = OnlyIf(
    lambda config: uses_reference(config.actor_rollout_ref.actor),
    f"nothing pulls to a reference without {ACTOR}.use_kl_loss=true and a {ACTOR}.kl_loss_coef above 0",
)
_REFRESHED = OnlyIf(
    lambda config: config.actor_rollout_ref.ref.refresh.every is not None, f"it counts with {REF}.refresh.every"
)


def _one_clip_counts(config: DictConfig) -> bool:
    actor = config.actor_rollout_ref.actor
    return actor.clip_ratio_low is None or actor.clip_ratio_high is None


def _fsdp(under: str) -> dict[str, Read]:
    """Of ``fsdp_config``, for the actor and for the reference."""
    dtype: dict[str, Any] = {"optional": True, "cpu": FULL_PRECISION}
    return {
        f"{under}.model_dtype": choice(WORKER, *DTYPES, **dtype),
        f"{under}.mixed_precision.param_dtype": choice(WORKER, *DTYPES, **dtype),
        f"{under}.mixed_precision.reduce_dtype": choice(WORKER, *DTYPES, **dtype),
        f"{under}.mixed_precision.buffer_dtype": choice(WORKER, *DTYPES, only_if=_has("strategy", "fsdp"), **dtype),
    }


DATA = {
    "data.train_files": texts("startup/preflight", "the path of a file, or a list of them; docs/data.md says of what"),
    "data.val_files": texts("startup/preflight", "the path of a file, or a list of them; docs/data.md says of what"),
    "data.prompt_key": text("prompts/dataset", "the name of a column"),
    "data.train_batch_size": whole("trainer", 1),
    "data.max_prompt_length": whole("verl/utils/dataset/rl_dataset", 1),
    "data.max_response_length": whole("trainer", 1),
    "data.max_val_response_length": whole("workers/calls", 1, null=True),
    "data.shuffle": switch("trainer"),
    "data.seed": whole("trainer", 0, LARGEST_SEED),
    "data.filter_overlong_prompts": switch("prompts/dataset"),
    "data.truncation": choice(
        "verl/utils/dataset/rl_dataset",
        "error",
        "left",
        "right",
        "middle",
        only_if=OnlyIf(
            lambda config: not config.data.filter_overlong_prompts,
            "longer prompts are left out; it counts with data.filter_overlong_prompts=false",
        ),
    ),
}

TRAINED_MODEL = {
    f"{MODEL}.path": text("startup/opening", "the path of a folder, or owner/name"),
    f"{MODEL}.trust_remote_code": switch("startup/inputs"),
    f"{MODEL}.enable_gradient_checkpointing": switch(WORKER, cpu=NO_DEVICE_MEMORY),
    f"{MODEL}.enable_activation_offload": switch(WORKER, cpu=NO_DEVICE_MEMORY),
    f"{MODEL}.use_remove_padding": switch("workers/actor", cpu=NO_FLASH_ATTN),
}

LEARNER = {
    **{setting_name(field): judged("losses/constants") for field in LossConfig.__dataclass_fields__},
    f"{ACTOR}.clip_ratio": not_negative(
        "losses/constants",
        only_if=OnlyIf(_one_clip_counts, f"set {ACTOR}.clip_ratio_low and clip_ratio_high"),
    ),
    f"{ACTOR}.use_kl_loss": switch("losses/constants"),
    f"{ACTOR}.strategy": choice(WORKER, "fsdp", "fsdp2", cpu="FSDP1 does not broadcast parameters there"),
    f"{ACTOR}.ppo_epochs": whole("workers/actor", 1),
    f"{ACTOR}.ppo_mini_batch_size": whole("workers/actor", 1),
    f"{ACTOR}.delay_gradient_sync": switch("workers/actor"),
    f"{ACTOR}.use_dynamic_bsz": switch("workers/actor"),
    f"{ACTOR}.ppo_max_token_len_per_gpu": whole("workers/actor", 1),
    f"{ACTOR}.ppo_micro_batch_size_per_gpu": whole(
        "workers/actor", 1, null=True, only_if=_has("use_dynamic_bsz", False)
    ),
    f"{ACTOR}.grad_clip": positive("verl/workers/actor/dp_actor", infinite=True),
    f"{ACTOR}.optim.lr": not_negative(WORKER),
    f"{ACTOR}.optim.weight_decay": not_negative(WORKER),
    f"{ACTOR}.optim.betas": Read(
        WORKER,
        lambda value: (
            isinstance(value, list) and len(value) == 2 and all(share(WORKER).fits(v) and v < 1 for v in value)
        ),
        "two numbers from 0 to below 1, e.g. [0.9,0.999]",
        optional=True,
    ),
    f"{ACTOR}.optim.lr_warmup_steps": whole(WORKER, -1),
    f"{ACTOR}.optim.lr_warmup_steps_ratio": share(WORKER, only_if=_has("optim.lr_warmup_steps", -1)),
    f"{ACTOR}.optim.warmup_style": choice(WORKER, "constant", "cosine"),
    f"{ACTOR}.optim.min_lr_ratio": share(WORKER, only_if=_has("optim.warmup_style", "cosine")),
    f"{ACTOR}.optim.num_cycles": positive(WORKER, only_if=_has("optim.warmup_style", "cosine")),
    f"{ACTOR}.fsdp_config.param_offload": switch(WORKER, cpu=NO_DEVICE_MEMORY),
    f"{ACTOR}.fsdp_config.optimizer_offload": switch(WORKER, cpu=NO_DEVICE_MEMORY),
    f"{ACTOR}.fsdp_config.offload_policy": switch(WORKER, only_if=_has("strategy", "fsdp2"), cpu=NO_DEVICE_MEMORY),
    f"{ACTOR}.fsdp_config.forward_prefetch": switch(WORKER, only_if=_has("strategy", "fsdp")),
    **_fsdp(f"{ACTOR}.fsdp_config"),
    **_fsdp(f"{REF}.fsdp_config"),
    f"{REF}.refresh.every": whole("workers/calls", 1, null=True, only_if=_ANCHORED),
    f"{REF}.refresh.mix": share("workers/calls", zero=False, only_if=_REFRESHED),
    f"{REF}.refresh.reset_optimizer": switch("workers/calls", only_if=_REFRESHED),
    f"{ACTOR}.fsdp_config.reshard_after_forward": switch("workers/worker", cpu=WHOLE_LAYERS),
    # FSDP1's reference is on the host between its passes, so that a pass gathers every layer once anyway
    f"{REF}.fsdp_config.reshard_after_forward": switch(WORKER, only_if=_has("strategy", "fsdp2"), cpu=WHOLE_LAYERS),
    f"{REF}.log_prob_max_token_len_per_gpu": whole(WORKER, 1),
    f"{REF}.log_prob_micro_batch_size_per_gpu": whole(WORKER, 1, null=True, only_if=_has("use_dynamic_bsz", False)),
}

_OWN_FUNCTION = OnlyIf(
    lambda config: config.custom_reward_function.path is not None, "it counts with custom_reward_function.path"
)
ALGORITHM = {
    "seed": whole("trainer", 0, LARGEST_SEED),
    "algorithm.adv_estimator": choice("verl/trainer/ppo/ray_trainer", "grpo"),
    "algorithm.norm_adv_by_std_in_grpo": switch("trainer"),
    "algorithm.group_filter.enable": switch("trainer"),
    "algorithm.group_filter.metric": choice("trainer", *GROUP_METRICS),
    "algorithm.group_filter.max_gen_batches": whole(
        "step",
        1,
        only_if=OnlyIf(
            lambda config: config.algorithm.group_filter.enable is True,
            "it counts with algorithm.group_filter.enable=true",
        ),
    ),
    "reward.correct": number("reward/manager", lambda value: True, ""),
    "reward.incorrect": number("reward/manager", lambda value: True, ""),
    "reward.overlong_buffer_len": whole("reward/manager", 0),
    "reward.overlong_penalty_factor": not_negative("reward/manager"),
    "reward.overlong_filter": switch("trainer"),
    "reward.format_bonus": number("reward/manager", lambda value: True, ""),
    "reward.repetition_penalty": not_negative("reward/manager"),
    "custom_reward_function.path": text("startup/inputs", "the path of a Python file", null=True),
    "custom_reward_function.name": text(
        "startup/inputs",
        "the name of a function",
        only_if=_OWN_FUNCTION,
    ),
    "custom_reward_function.reward_kwargs": section(
        "startup/inputs",
        lambda value: isinstance(value, dict),
        "arguments, e.g. {scale: 2}",
        optional=True,
        only_if=_OWN_FUNCTION,
    ),
}


def _loss(*names: str) -> OnlyIf:
    def holds(config: DictConfig) -> bool:
        return str(config.actor_rollout_ref.actor.policy_loss.loss_mode).replace("-", "_") in names

    return OnlyIf(holds, f"it counts with the loss {' or '.join(names)}")


# Constants of a loss that is not this run's: they stay where an experiment has them for its children, and are told.
IDLE: dict[str, OnlyIf] = {
    **{
        f"{ACTOR}.{name}": _loss(*losses)
        for name, losses in {
            "clip_ratio_low": ("vanilla", "clip_higher", "clip_cov"),
            "clip_ratio_high": ("vanilla", "clip_higher", "clip_cov"),
            "clip_ratio_c": ("vanilla", "clip_higher", "archer"),
            "clip_low_entropy": ("archer", "aspo"),
            "clip_high_entropy": ("archer", "aspo"),
            "ratio_cap": ("aspo",),
            "policy_loss.clip_cov_ratio": ("clip_cov",),
            "policy_loss.clip_cov_lb": ("clip_cov",),
            "policy_loss.clip_cov_ub": ("clip_cov",),
            "policy_loss.kl_cov_ratio": ("kl_cov",),
            "policy_loss.ppo_kl_coef": ("kl_cov",),
        }.items()
    },
    **{
        f"{ACTOR}.{name}": OnlyIf(
            lambda config: uses_reference(config.actor_rollout_ref.actor),
            f"it counts with {ACTOR}.use_kl_loss=true and kl_loss_coef above 0",
        )
        for name in ("kl_loss_type", "kl_loss_high_entropy_scale")
    },
    f"{ACTOR}.kl_loss_coef": _has("use_kl_loss", True),
    f"{ACTOR}.norm_length": _has("loss_agg_mode", "seq-mean-token-sum-norm"),
    "reward.overlong_penalty_factor": OnlyIf(
        lambda config: config.reward.overlong_buffer_len > 0, "it counts with reward.overlong_buffer_len above 0"
    ),
}
TABLE: dict[str, Read] = {**DATA, **TRAINED_MODEL, **LEARNER, **ALGORITHM}
