"""Which metrics a run will log, known before it starts: the row of a step in which nothing happened."""

from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import torch

from recipes.archer.metrics import batch as batch_metrics
from recipes.archer.metrics.row import step_row
from recipes.archer.reward.group_filter import judge_groups
from recipes.archer.reward.manager import Rewards
from recipes.archer.step import Step
from recipes.archer.text.metrics import text_metrics


def metric_names(val_sources: Iterable[str]) -> frozenset[str]:
    """Keys of the rows of ``metrics.jsonl``.

    Args:
        val_sources: data sources of the held-out prompts.
    """
    wrong, zero = np.zeros(1, dtype=bool), np.zeros(1)
    rewards = Rewards([""], ["wrong"], [None], wrong, {"accuracy": zero, "overlong": zero})
    token = torch.ones(1, 1, dtype=torch.long)
    batch = {"response_mask": token, "attention_mask": token, "ended": token[0].bool()}
    step = Step(1, timing={"step": 1.0})
    step.metrics |= batch_metrics.reward_metrics(rewards)
    step.metrics |= batch_metrics.length_metrics(batch, wrong, 1)
    step.metrics |= batch_metrics.group_metrics([judge_groups(wrong, zero, 1)], 0)
    step.metrics |= batch_metrics.engine_metrics(batch, None)
    step.metrics |= text_metrics([], [], []) | {"actor/entropy": None}
    return frozenset(step_row(step, SimpleNamespace(epoch=0), sorted(val_sources)))
