"""One step's row of metrics.jsonl: always the same keys, None where there is no value."""

from recipes.archer.losses.token_stats import empty_stats
from recipes.archer.metrics.batch import advantage_metrics

TIMINGS = ("step", "gen", "ref", "old_log_prob", "reward_wait", "adv", "update_actor", "entropy", "metrics", "testing")
UPDATE_KEYS = (
    "actor/pg_loss",
    "actor/grad_norm",
    "actor/lr",
    "actor/num_updates",
    "actor/num_skipped",
    "actor/num_skipped_last",
    "perf/mfu/actor",
    "perf/max_memory_allocated_gb",
    "perf/max_memory_reserved_gb",
    "perf/cpu_memory_used_gb",
)
VALIDATION_KEYS = ("val/accuracy", "val/accuracy/low", "val/accuracy/high", "val/response_length/mean")
SWITCHED_KEYS = ("reward/format/mean", "reward/repetition/mean")  # parts of the reward that may be off

CONTROL_KEYS = (  # of the entropy control, which may be off
    "control/entropy/low",
    "control/entropy/high",
    "control/entropy/error",
    "control/entropy/alpha",
    "control/entropy/coefficient",
    "control/entropy/saturated",
)


def step_row(step, stream, val_sources) -> dict[str, float | None]:
    """Row of a step: ``step.metrics`` and ``step.timing`` over a full set of empty values.

    Args:
        step: the trainer's ``Step``.
        stream: the trainer's ``PromptStream``.
        val_sources: data sources of the held-out prompts.
    """
    row = {"step": step.number, "training/global_step": step.number, "training/epoch": stream.epoch}
    row |= empty_stats().metrics() | dict.fromkeys(UPDATE_KEYS + VALIDATION_KEYS + SWITCHED_KEYS + CONTROL_KEYS)
    row |= advantage_metrics(None, None) | {f"val/accuracy/{source}": None for source in val_sources}
    row |= {"actor/num_updates": 0, "actor/num_skipped": 0, "actor/num_skipped_last": 0}
    row |= step.metrics
    row |= {f"timing_s/{name}": step.timing.get(name) for name in TIMINGS}
    tokens = sum(int(r.batch.batch["attention_mask"].sum()) for r in step.rounds)
    row["perf/total_num_tokens"] = tokens
    row["perf/throughput"] = tokens / step.timing["step"]
    return {name: _plain(value) for name, value in row.items()}


def _plain(value):
    """numpy and torch scalars as Python numbers, which JSON can write."""
    return value.item() if hasattr(value, "item") else value
