"""All figures of a step: over everything that it generated first, then of what was trained on."""

import numpy as np

from recipes.archer.evaluation.scores import interval
from recipes.archer.metrics import batch as batch_metrics
from recipes.archer.reward.manager import Rewards
from recipes.archer.step import Step
from recipes.archer.text.metrics import text_metrics
from verl import DataProto


def step_metrics(
    step: Step, trained: DataProto | None, rest: DataProto | None, n: int, max_response_length: int
) -> dict[str, float | None]:
    """Metrics of a step after its update.

    Args:
        step: its rounds, and as ``metrics`` what the update said.
        trained: the rows trained on, with their advantages; None where there were none.
        rest: the rows that no update computed, scored by the policy that generated; None where there were none, or
            where the rounds are scored whole.
        n: responses a group.
        max_response_length: the cap, tokens.
    """
    batch = step.batch()
    rewards = Rewards.concatenate([r.rewards for r in step.rounds])
    truncated = [cut for r in step.rounds for cut in r.truncated]
    tensors = trained.batch if trained is not None else {}
    return {
        **batch_metrics.reward_metrics(rewards),
        **batch_metrics.length_metrics(batch.batch, rewards.correct, max_response_length),
        **text_metrics(rewards.texts, rewards.correct.tolist(), truncated),
        **batch_metrics.group_metrics([r.verdict for r in step.rounds], step.num_kept),
        **batch_metrics.advantage_metrics(tensors.get("advantages"), tensors.get("response_mask")),
        **_policy(step, batch, tensors, rest, n),
    }


def _policy(step: Step, batch: DataProto, trained, rest: DataProto | None, n: int) -> dict[str, float | None]:
    """Entropy, and engine against trainer, of the policy that generated: over everything; entropy of the kept."""
    if "rollout_entropy" in batch.batch.keys():  # noqa: SIM118  (a TensorDict is iterated over rows)
        kept = batch_metrics.policy_metrics(batch.select_idxs(step.kept_rows(n)).batch)
        return batch_metrics.policy_metrics(batch.batch) | {"actor/entropy/kept": kept["actor/entropy"]}
    by_update = step.metrics | {"actor/entropy": step.metrics.get("actor/entropy/kept")}
    parts = [(trained["response_mask"], by_update)] if len(trained) else []
    if rest is not None:
        parts.append((rest.batch["response_mask"], batch_metrics.policy_metrics(rest.batch)))
    return batch_metrics.pooled([(int(mask.sum()), metrics) for mask, metrics in parts])


def validation_metrics(rewards: Rewards, batch: DataProto) -> dict[str, float | None]:
    """Accuracy with its 95% interval and length on the held-out prompts, and accuracy by data source."""
    by_source = batch.non_tensor_batch.get("data_source")
    metrics: dict[str, float | None] = {
        "val/accuracy": batch_metrics.mean(rewards.correct),
        "val/response_length/mean": batch_metrics.mean(batch.batch["response_mask"].sum(-1).numpy()),
    }
    for source in sorted(set(by_source)) if by_source is not None else ["all"]:
        rows = rewards.correct if by_source is None else rewards.correct[by_source == source]
        metrics[f"val/accuracy/{source}"] = batch_metrics.mean(rows)
    found = interval(_by_prompt(rewards.correct, batch.non_tensor_batch["prompt_number"]))
    return metrics | {"val/accuracy/low": found.low, "val/accuracy/high": found.high}


def _by_prompt(correct: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(prompts,): each one's share of correct responses; those to one prompt say less than as many to others."""
    place = np.unique(numbers, return_inverse=True)[1]
    return np.bincount(place, weights=correct) / np.bincount(place)
