"""Settings that are wrong whatever the machine, the model and the data: numbers, switches, losses, what is not used."""

import math

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.losses.constants import ACTOR, loss_config_from

ROLLOUT, REF = "actor_rollout_ref.rollout", "actor_rollout_ref.ref"
MICRO_BATCHES = (  # of passes over the actor and the reference, where ``use_dynamic_bsz`` does not cut by tokens
    f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    f"{REF}.log_prob_micro_batch_size_per_gpu",
)
WHOLE_NUMBERS = {  # setting: the least that makes sense
    "seed": 0,
    "data.seed": 0,
    "data.train_batch_size": 1,
    "data.max_prompt_length": 1,
    "data.max_response_length": 1,
    f"{ACTOR}.ppo_mini_batch_size": 1,
    f"{ACTOR}.ppo_epochs": 1,
    f"{ACTOR}.ppo_max_token_len_per_gpu": 1,
    f"{ROLLOUT}.n": 2,  # GRPO compares the responses to a prompt
    f"{ROLLOUT}.val_kwargs.n": 1,
    f"{ROLLOUT}.tensor_model_parallel_size": 1,
    "algorithm.group_filter.max_gen_batches": 1,
    "reward.overlong_buffer_len": 0,
    "trainer.n_gpus_per_node": 1,
    "trainer.nnodes": 1,
    "trainer.total_epochs": 1,
    "trainer.keep_last": 1,
    "trainer.max_failed_saves": 1,
    "trainer.save_freq": -1,
    "trainer.test_freq": -1,
    "trainer.samples_freq": 1,
    "trainer.max_empty_steps": 1,
    "trainer.max_skipped_updates": 1,
    "trainer.max_restarts": 0,
}
WHOLE_OR_NULL = {
    **dict.fromkeys(MICRO_BATCHES, 1),
    f"{ROLLOUT}.max_model_len": 1,
    f"{ROLLOUT}.max_num_batched_tokens": 1,
    "trainer.total_training_steps": 1,
    "ray_init.num_cpus": 1,
    "grading.workers": 1,
}
POSITIVE_OR_NULL = ("grading.budget_s",)
POSITIVE = (f"{ROLLOUT}.temperature", f"{ROLLOUT}.deadline_s", f"{ACTOR}.grad_clip", "grading.timeout_s")
NOT_NEGATIVE = (f"{ACTOR}.optim.lr", "trainer.grace_s", "trainer.tracker_grace_s")
FINITE = ("reward.correct", "reward.incorrect", "reward.format_bonus")
FINITE_NOT_NEGATIVE = ("reward.overlong_penalty_factor", "reward.repetition_penalty")
NUMBERS = (
    (POSITIVE_OR_NULL, lambda v: v > 0, "a number, above 0, or null"),
    (POSITIVE, lambda v: v > 0, "a number, above 0"),
    (NOT_NEGATIVE, lambda v: v >= 0, "a number, 0 or more"),
    (FINITE, math.isfinite, "a finite number"),
    (FINITE_NOT_NEGATIVE, lambda v: math.isfinite(v) and v >= 0, "a finite number, 0 or more"),
)
SWITCHES = (
    "data.shuffle",
    "data.filter_overlong_prompts",
    f"{ACTOR}.use_kl_loss",
    f"{ACTOR}.use_dynamic_bsz",
    f"{ROLLOUT}.calculate_log_probs",
    f"{ROLLOUT}.val_kwargs.do_sample",
    "algorithm.norm_adv_by_std_in_grpo",
    "algorithm.group_filter.enable",
    "reward.overlong_filter",
    "grading.reject_restated",
    "ray_init.log_to_driver",
    "trainer.val_before_train",
)
_SAMPLES = "trainer.samples_freq and samples_per_step write responses"
UNUSED = {  # upstream's settings that nothing reads here: (the value that they must keep, what to use)
    f"{ACTOR}.clip_ratio": (0.2, f"set {ACTOR}.clip_ratio_low and clip_ratio_high"),
    f"{ACTOR}.shuffle": (False, "the rows of a mini-batch are those of its prompts"),
    "algorithm.use_pf_ppo": (False, "there is no preference feedback"),
    "data.custom_cls.path": (None, "prompt files are read as docs/data.md says"),
    "data.datagen.path": (None, "prompt files are read as docs/data.md says"),
    "data.reward_fn_key": ("data_source", "a row's data_source chooses its grading"),
    "data.sampler.class_path": (None, "the order is a function of seed and epoch; data.shuffle=false is the file's"),
    "data.val_batch_size": (None, "all held-out prompts are one batch"),
    "trainer.critic_warmup": (0, "GRPO has no critic"),
    "trainer.default_hdfs_dir": (None, "trainer.output_dir is where runs go"),
    "trainer.esi_redundant_time": (0, "a run saves when SIGTERM comes, within trainer.grace_s"),
    "trainer.log_val_generations": (0, _SAMPLES),
    "trainer.max_actor_ckpt_to_keep": (None, "set trainer.keep_last"),
    "trainer.rollout_data_dir": (None, _SAMPLES),
    "trainer.val_only": (False, "validation is a part of training: trainer.val_before_train, trainer.test_freq"),
    "trainer.validation_data_dir": (None, _SAMPLES),
}


def check_settings(config: DictConfig) -> None:
    """Raises on the first setting that cannot be meant; takes neither a machine nor a file to know.

    Raises:
        UserError: with the setting and the remedy.
    """
    _check_numbers(config)
    for name in SWITCHES:
        if not isinstance(value := OmegaConf.select(config, name), bool):  # a text is true, whatever it says
            raise UserError(f"{name}={value}: use true or false")
    actor = config.actor_rollout_ref.actor
    clip_ratio_counts = actor.clip_ratio_low is None or actor.clip_ratio_high is None
    for name, (kept, remedy) in UNUSED.items():
        if name == f"{ACTOR}.clip_ratio" and clip_ratio_counts:
            continue
        if (value := OmegaConf.select(config, name)) != kept:
            raise UserError(f"{name}={value} has no effect here; leave it out ({remedy})")
    try:
        loss_config_from(actor)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_numbers(config: DictConfig) -> None:
    for name, least in {**WHOLE_NUMBERS, **WHOLE_OR_NULL}.items():
        value = OmegaConf.select(config, name)
        if value is None and name in WHOLE_OR_NULL:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name}={value}: use a whole number, {least} or more")
    for names, holds, remedy in NUMBERS:
        for name in names:
            value = OmegaConf.select(config, name)
            if value is None and name in POSITIVE_OR_NULL:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
                raise UserError(f"{name}={value}: use {remedy}")
    right, wrong = config.reward.correct, config.reward.incorrect
    if right <= wrong:
        raise UserError(f"reward.correct={right} is no more than reward.incorrect={wrong}; raise it, e.g. to 1.0")
