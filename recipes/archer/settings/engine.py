"""How responses are drawn: the rollout engine, in training and in validation. A line a setting; see ``rules.py``."""

from recipes.archer.losses.constants import ACTOR
from recipes.archer.settings.rules import (
    OnlyIf,
    Read,
    choice,
    not_negative,
    number,
    positive,
    share,
    switch,
    whole,
)

ROLLOUT = "actor_rollout_ref.rollout"
SPMD, WORKER = "verl/workers/rollout/vllm_rollout/vllm_rollout_spmd", "verl/workers/fsdp_workers"
SAMPLING = "vllm/sampling_params"  # verl passes on what the section holds of the engine's own parameters
EAGER = "the engine runs eagerly there"


def _top_k(by: str) -> Read:
    return whole(by, 1, besides=(-1,))


def _penalty() -> Read:
    return number(SAMPLING, lambda value: -2 <= value <= 2, "from -2 to 2", optional=True)


TABLE: dict[str, Read] = {
    f"{ROLLOUT}.name": choice(WORKER, "vllm"),
    f"{ROLLOUT}.mode": choice(WORKER, "sync"),
    f"{ROLLOUT}.n": whole("trainer", 2),  # GRPO compares the responses to a prompt
    f"{ROLLOUT}.temperature": positive("workers/calls"),
    f"{ROLLOUT}.top_k": _top_k(SAMPLING),
    f"{ROLLOUT}.top_p": share(SAMPLING, zero=False),
    f"{ROLLOUT}.repetition_penalty": number(SAMPLING, lambda value: 0 < value <= 2, "above 0, at most 2"),
    f"{ROLLOUT}.min_p": share(SAMPLING, optional=True),
    f"{ROLLOUT}.presence_penalty": _penalty(),
    f"{ROLLOUT}.frequency_penalty": _penalty(),
    f"{ROLLOUT}.min_tokens": whole(SAMPLING, 0, optional=True),
    f"{ROLLOUT}.stop_token_ids": Read(
        SAMPLING,
        lambda value: isinstance(value, list) and all(map(whole(SAMPLING, 0).fits, value)),
        "a list of token ids, e.g. [151645]",
    ),
    f"{ROLLOUT}.stop_at_turn_end": switch("startup/stop_tokens"),
    f"{ROLLOUT}.calculate_log_probs": switch(SPMD),
    f"{ROLLOUT}.deadline_s": positive("workers/deadlines", infinite=True, null=True),
    f"{ROLLOUT}.dtype": choice(
        SPMD, "bfloat16", "float16", "float32", "auto", cpu="trainer and engine compute in full precision"
    ),
    f"{ROLLOUT}.tensor_model_parallel_size": whole(WORKER, 1),
    f"{ROLLOUT}.gpu_memory_utilization": share(SPMD, zero=False, cpu="the engine's cache has 1 GiB there"),
    f"{ROLLOUT}.enforce_eager": switch(SPMD, cpu=EAGER),
    f"{ROLLOUT}.free_cache_engine": switch(SPMD, cpu="there is no device's memory to give back"),
    f"{ROLLOUT}.enable_chunked_prefill": switch(SPMD, cpu="the engine prefills whole prompts there"),
    f"{ROLLOUT}.load_format": choice(
        SPMD, "dummy_dtensor", "dummy_hf", "dummy", "auto", "safetensors", cpu="the engine reads the weights itself"
    ),
    f"{ROLLOUT}.max_model_len": whole(SPMD, 1, null=True),
    f"{ROLLOUT}.max_num_batched_tokens": whole(SPMD, 1),
    f"{ROLLOUT}.max_num_seqs": whole("config/archer", 1),
    f"{ROLLOUT}.disable_log_stats": switch(SPMD),
    f"{ROLLOUT}.engine_kwargs.vllm.swap_space": not_negative("vllm/engine/arg_utils", null=True),
    f"{ROLLOUT}.log_prob_max_token_len_per_gpu": whole(WORKER, 1),
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": whole(
        WORKER,
        1,
        null=True,
        only_if=OnlyIf(
            lambda config: not config.actor_rollout_ref.actor.use_dynamic_bsz,
            f"it counts with {ACTOR}.use_dynamic_bsz=false",
        ),
    ),
    f"{ROLLOUT}.val_kwargs.n": whole("trainer", 1),
    f"{ROLLOUT}.val_kwargs.do_sample": switch("workers/calls"),
    f"{ROLLOUT}.val_kwargs.temperature": not_negative(SPMD),
    f"{ROLLOUT}.val_kwargs.top_k": _top_k(SPMD),
    f"{ROLLOUT}.val_kwargs.top_p": share(SPMD, zero=False),
}
