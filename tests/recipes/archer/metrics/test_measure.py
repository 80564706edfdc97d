"""Validation's figures: accuracy, and its interval over prompts, not over responses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recipes.archer.evaluation.scores import interval
from recipes.archer.metrics.measure import validation_metrics


def measured(correct: list[list[int]], sources: list[str] | None = None) -> dict:
    """Of the responses to each prompt."""
    n = len(correct[0])
    columns = {"prompt_number": np.repeat(np.arange(len(correct)), n)}
    if sources:
        columns["data_source"] = np.repeat(np.array(sources, dtype=object), n)
    mask = torch.ones(len(correct) * n, 3)
    batch = SimpleNamespace(batch={"response_mask": mask}, non_tensor_batch=columns)
    return validation_metrics(SimpleNamespace(correct=np.array(correct).ravel().astype(bool)), batch)


def test_the_interval_is_over_prompts():
    correct = [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1]] * 8
    found = measured(correct)
    low, high = interval([sum(row) / 4 for row in correct])
    assert (found["val/accuracy/low"], found["val/accuracy/high"]) == pytest.approx((low, high))
    assert found["val/accuracy/low"] < found["val/accuracy"] == 0.5 < found["val/accuracy/high"]
    alone = measured([[value] for row in correct for value in row])  # as if every response had a prompt of its own
    assert alone["val/accuracy/high"] - alone["val/accuracy/low"] < high - low


def test_a_source_named_as_a_bound_does_not_hide_it():
    found = measured([[1], [0], [0]], ["low", "high", "other"])
    assert found["val/accuracy/low"] < 1 / 3 < found["val/accuracy/high"] < 1
    assert found["val/accuracy/other"] == 0
