"""Metrics of everything a step generated; every key is there also when its class is empty."""

import math

import numpy as np
import pytest
import torch

from recipes.archer.metrics.batch import (
    advantage_metrics,
    engine_metrics,
    group_metrics,
    length_metrics,
    masked_mean,
    mean,
    pooled,
    reward_metrics,
)
from recipes.archer.reward.group_filter import judge_groups
from recipes.archer.reward.manager import Rewards

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
BATCH = {
    "response_mask": MASK,
    "attention_mask": torch.cat([torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1], [0, 1, 1]]), MASK], dim=1),
    "ended": torch.tensor([False, True, True, False]),
}


def test_means():
    assert mean([]) is None
    assert mean(np.array([True, False, False, True])) == 0.5
    assert masked_mean(torch.tensor([[1.0, 9.0], [3.0, 9.0]]), torch.tensor([[1, 0], [1, 0]])) == 2.0
    assert masked_mean(torch.ones(2, 2), torch.zeros(2, 2)) is None


def _rewards(outcomes: list[str], overlong: list[float], **parts: list[float]) -> Rewards:
    correct = np.array([outcome == "correct" for outcome in outcomes])
    arrays = {name: np.array(values) for name, values in parts.items()}
    shaped = {"accuracy": correct.astype(float), "overlong": np.array(overlong), **arrays}
    return Rewards([""] * len(outcomes), outcomes, [None] * len(outcomes), correct, shaped)


def test_score_is_the_shaped_reward_and_accuracy_the_verdict():
    rewards = _rewards(["correct", "wrong", "no_answer", "timeout", "no_answer"], [-0.5, 0, -1, 0, 0])
    assert reward_metrics(rewards) == {
        "critic/score/mean": pytest.approx(-0.1),
        "critic/score/max": 0.5,
        "critic/score/min": -1.0,
        "reward/accuracy/mean": 0.2,
        "reward/overlong/mean": pytest.approx(-0.3),
        "reward/no_answer": 2,
        "reward/unparseable": 0,
        "reward/timeout": 1,
    }


def test_each_part_of_the_reward_that_is_on_has_a_metric():
    rewards = _rewards(["wrong"], [0.0], format=[0.25], repetition=[-0.5])
    metrics = reward_metrics(rewards)
    assert metrics["reward/format/mean"] == 0.25
    assert metrics["reward/repetition/mean"] == -0.5
    assert metrics["critic/score/mean"] == -0.25


def test_lengths_by_verdict():
    metrics = length_metrics(BATCH, np.array([False, True, True, False]), max_response_length=4)
    assert metrics == {
        "response_length/mean": 1.75,
        "response_length/max": 4,
        "response_length/min": 0,
        "response_length/clip_ratio": 0.25,
        "response/ended/mean": 0.5,
        "response_length/pos/mean": 1.5,
        "response_length/neg/mean": 2.0,
        "prompt_length/mean": 2.0,
        "prompt_length/max": 3,
    }


@pytest.mark.parametrize(("all_correct", "empty"), [(True, "neg"), (False, "pos")])
def test_a_class_without_a_response_is_null(all_correct, empty):
    metrics = length_metrics(BATCH, np.full(4, all_correct), 4)
    assert metrics[f"response_length/{empty}/mean"] is None
    assert metrics["response_length/mean"] == 1.75


def test_groups_over_all_rounds_of_the_step():
    first = judge_groups(np.array([1, 1, 0, 0, 1, 0], bool), np.zeros(6), 2)
    second = judge_groups(np.array([0, 0, 1, 0, 1, 0], bool), np.zeros(6), 2)
    metrics = group_metrics([first, second], num_trained=2)
    assert metrics == {
        "batch/prompts": 6,
        "batch/solve_none": 2,
        "batch/solve_all": 1,
        "batch/valid": 3,
        "batch/trained": 2,
        "batch/gen_batches": 2,
    }
    assert metrics["batch/solve_none"] + metrics["batch/solve_all"] + metrics["batch/valid"] == metrics["batch/prompts"]


def test_engine_against_trainer_counts_response_tokens_only():
    engine = torch.full((4, 4), -1.0)
    engine[MASK == 0] = -50.0
    trainer = torch.full((4, 4), -1.1)
    trainer[0, 0] = -0.3
    trainer[MASK == 0] = 0.0
    metrics = engine_metrics(BATCH | {"rollout_log_probs": engine}, trainer)
    assert metrics == {
        "rollout/log_ratio/mean": pytest.approx((0.7 - 6 * 0.1) / 7, abs=1e-6),
        "rollout/log_ratio/abs_mean": pytest.approx((0.7 + 6 * 0.1) / 7, abs=1e-6),
        "rollout/log_ratio/abs_max": pytest.approx(0.7, abs=1e-6),
    }


def test_a_figure_that_broke_stays_broken_when_parts_are_pooled():
    names = ("actor/entropy", *(f"rollout/log_ratio/{name}" for name in ("mean", "abs_mean", "abs_max")))
    good, broken = dict.fromkeys(names, 1.0), dict.fromkeys(names, math.nan)
    for parts in ([(3, good), (4, broken)], [(4, broken), (3, good)]):
        assert all(math.isnan(value) for value in pooled(parts).values())


def test_what_was_not_measured_is_null():
    engine = torch.zeros(4, 4)
    none = {"response_mask": torch.zeros(4, 4), "rollout_log_probs": engine}
    for metrics in (
        engine_metrics(BATCH | {"rollout_log_probs": engine}, None),
        engine_metrics(BATCH, engine),
        engine_metrics(none, engine),
    ):
        assert metrics == dict.fromkeys(f"rollout/log_ratio/{name}" for name in ("mean", "abs_mean", "abs_max"))
    for metrics in (advantage_metrics(None, None), advantage_metrics(engine, torch.zeros(4, 4))):
        assert metrics == dict.fromkeys(f"critic/advantages/{name}" for name in ("mean", "max", "min"))


def test_advantages_of_response_tokens():
    advantages = torch.tensor([[0.5], [-1.0], [2.0], [99.0]]).expand(4, 4)
    assert advantage_metrics(advantages, MASK) == {
        "critic/advantages/mean": pytest.approx((4 * 0.5 - 2 * 1.0 + 2.0) / 7),
        "critic/advantages/max": 2.0,
        "critic/advantages/min": -1.0,
    }
