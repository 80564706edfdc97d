"""Metrics of everything that a step generated, kept or not: a filter must not hide a collapse.

Keys are verl's where verl has them. A value that does not exist is None, never left out.
"""

import numpy as np
import torch

from recipes.archer.reward.group_filter import GroupVerdict
from recipes.archer.reward.manager import Rewards

OUTCOMES = ("no_answer", "unparseable", "timeout")


def mean(values) -> float | None:
    """Arithmetic mean, None of nothing."""
    return float(np.mean(values)) if len(values) else None


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> float | None:
    """Mean over the tokens of a mask, None when there is none."""
    kept = values[mask.bool()]
    return float(kept.mean()) if len(kept) else None


def reward_metrics(rewards: Rewards) -> dict[str, float | None]:
    """Score, its parts, and how often the grader could not say right or wrong."""
    total = rewards.total
    parts = {f"reward/{name}/mean": mean(values) for name, values in rewards.parts.items() if name != "accuracy"}
    return {
        "critic/score/mean": mean(total),
        "critic/score/max": float(total.max()),
        "critic/score/min": float(total.min()),
        "reward/accuracy/mean": mean(rewards.correct),
        **parts,
        **{f"reward/{outcome}": rewards.outcomes.count(outcome) for outcome in OUTCOMES},
    }


def length_metrics(batch, correct: np.ndarray, max_response_length: int) -> dict[str, float | None]:
    """Response and prompt lengths in tokens; by verdict; shares that hit the cap, and that ended by a stop token."""
    lengths = batch["response_mask"].sum(-1).numpy()
    prompts = batch["attention_mask"].sum(-1).numpy() - lengths
    return {
        "response_length/mean": mean(lengths),
        "response_length/max": int(lengths.max()),
        "response_length/min": int(lengths.min()),
        "response_length/clip_ratio": mean(lengths >= max_response_length),
        "response/ended/mean": mean(batch["ended"].float().numpy()),
        "response_length/pos/mean": mean(lengths[correct]),
        "response_length/neg/mean": mean(lengths[~correct]),
        "prompt_length/mean": mean(prompts),
        "prompt_length/max": int(prompts.max()),
    }


def group_metrics(verdicts: list[GroupVerdict], num_trained: int) -> dict[str, int]:
    """Groups without, with only, and with some correct responses, over all generation rounds of the step."""
    return {
        "batch/prompts": sum(v.num_groups for v in verdicts),
        "batch/solve_none": sum(v.solve_none for v in verdicts),
        "batch/solve_all": sum(v.solve_all for v in verdicts),
        "batch/valid": sum(v.num_valid for v in verdicts),
        "batch/trained": num_trained,
        "batch/gen_batches": len(verdicts),
    }


def engine_metrics(batch, log_probs: torch.Tensor | None) -> dict[str, float | None]:
    """How far the engine's log-probabilities are from the trainer's, for the tokens that both scored.

    ``log_probs``: the trainer's, (rows, response_length); None when this step had no pass of its own for them.
    """
    keys = ("rollout/log_ratio/mean", "rollout/log_ratio/abs_mean", "rollout/log_ratio/abs_max")
    if log_probs is None or "rollout_log_probs" not in batch.keys():  # noqa: SIM118
        return dict.fromkeys(keys)
    mask = batch["response_mask"].bool()
    ratio = (log_probs - batch["rollout_log_probs"])[mask]
    if not len(ratio):
        return dict.fromkeys(keys)
    return dict(zip(keys, (float(ratio.mean()), float(ratio.abs().mean()), float(ratio.abs().max())), strict=True))


def policy_metrics(batch) -> dict[str, float | None]:
    """Entropy of the policy that generated a scored batch, and how far engine and trainer are apart about it."""
    entropy = masked_mean(batch["rollout_entropy"], batch["response_mask"])
    return {"actor/entropy": entropy, **engine_metrics(batch, batch["old_log_probs"])}


def pooled(parts: list[tuple[int, dict]]) -> dict[str, float | None]:
    """:func:`policy_metrics` of several batches as if they had been one; parts are (tokens, their metrics)."""
    parts = [(tokens, metrics) for tokens, metrics in parts if tokens]

    def over_all(name: str, join) -> float | None:
        values = [(tokens, metrics[name]) for tokens, metrics in parts]
        return join(values) if values and all(value is not None for _, value in values) else None

    def mean_of(values) -> float:
        return sum(tokens * value for tokens, value in values) / sum(tokens for tokens, _ in values)

    means = ("actor/entropy", "rollout/log_ratio/mean", "rollout/log_ratio/abs_mean")
    greatest = over_all("rollout/log_ratio/abs_max", lambda values: float(np.max([value for _, value in values])))
    return {name: over_all(name, mean_of) for name in means} | {"rollout/log_ratio/abs_max": greatest}


def advantage_metrics(advantages: torch.Tensor | None, mask: torch.Tensor | None) -> dict[str, float | None]:
    """Advantages of the response tokens trained on."""
    keys = ("critic/advantages/mean", "critic/advantages/max", "critic/advantages/min")
    if advantages is None or not int(mask.sum()):
        return dict.fromkeys(keys)
    kept = advantages[mask.bool()]
    return dict(zip(keys, (float(kept.mean()), float(kept.max()), float(kept.min())), strict=True))
