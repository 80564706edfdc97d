"""Which groups carry a signal, and what goes wrong when the shaped reward is asked instead of the grader."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.reward.group_filter import judge_groups, rows_of
from recipes.archer.reward.manager import token_level
from recipes.archer.reward.overlong import overlong_penalty
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage


@st.composite
def _batches(draw):
    """(correct, reward, n): verdicts of whole groups, and rewards that may be anything."""
    n = draw(st.integers(1, 8))
    rows = n * draw(st.integers(0, 12))
    correct = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    reward = draw(st.lists(st.sampled_from([0.0, 1.0, -0.5, 0.9]), min_size=rows, max_size=rows))
    return np.array(correct, dtype=bool), np.array(reward), n


@given(_batches(), st.sampled_from(["accuracy", "reward"]))
def test_the_three_kinds_add_up_to_the_number_of_prompts(batch, metric):
    correct, _, n = batch
    verdict = judge_groups(*batch, metric)
    groups = correct.reshape(-1, n).sum(axis=1)
    assert verdict.num_groups == len(groups)
    assert verdict.solve_none == (groups == 0).sum()
    assert verdict.solve_all == (groups == n).sum()
    assert verdict.solve_none + verdict.solve_all + verdict.num_valid == verdict.num_groups
    assert verdict.num_kept == verdict.valid.sum()


@given(_batches())
def test_accuracy_keeps_the_groups_with_right_and_wrong_responses(batch):
    correct, _, n = batch
    verdict = judge_groups(*batch)
    groups = correct.reshape(-1, n).sum(axis=1)
    assert verdict.valid.tolist() == ((groups > 0) & (groups < n)).tolist()
    assert verdict.num_kept == verdict.num_valid


@given(_batches())
def test_reward_keeps_the_groups_whose_rewards_differ(batch):
    _, reward, n = batch
    kept = judge_groups(*batch, "reward").valid
    assert kept.tolist() == [len(set(group)) > 1 for group in reward.reshape(-1, n).tolist()]


def _advantages(lengths: np.ndarray, correct: np.ndarray, cap: int) -> tuple[np.ndarray, torch.Tensor]:
    """Rewards with upstream's group advantages of the first token."""
    mask = (torch.arange(cap) < torch.as_tensor(lengths)[:, None]).long()
    rewards = correct.astype(float) + overlong_penalty(torch.as_tensor(lengths), cap, 16, 1.0).numpy()
    index = np.zeros(len(lengths), dtype=np.int64)
    advantages, _ = compute_grpo_outcome_advantage(token_level(rewards, mask), mask, index)
    return rewards, advantages[:, 0]


def test_phantom_gradient():
    """Sixteen wrong answers of which one was truncated: by shaped reward the other fifteen are praised."""
    lengths, correct = np.full(16, 20), np.zeros(16, dtype=bool)
    lengths[5] = 64
    rewards, advantages = _advantages(lengths, correct, cap=64)
    by_reward = judge_groups(correct, rewards, 16, "reward")
    assert by_reward.valid.tolist() == [True]
    assert by_reward.num_valid == 0  # also then the count says that nothing is to be learned here
    wrong = torch.arange(16) != 5
    # 15 rewards of 0 and one of -1: mean -1/16, unbiased deviation 1/4
    torch.testing.assert_close(advantages[wrong], torch.full((15,), 0.25), rtol=1e-4, atol=0)
    assert advantages[5] < -3
    assert judge_groups(correct, rewards, 16, "accuracy").valid.tolist() == [False]


def test_a_signal_passes_either_way():
    lengths, correct = np.full(4, 20), np.array([True, False, False, False])
    rewards, advantages = _advantages(lengths, correct, cap=64)
    for metric in ("accuracy", "reward"):
        assert judge_groups(correct, rewards, 4, metric).num_kept == 1
    assert advantages[0] > 0
    assert (advantages[1:] < 0).all()


def test_unknown_metric_and_broken_groups_are_refused():
    with pytest.raises(ValueError, match=r"group_filter.metric='acc' is not known; use one of accuracy, reward"):
        judge_groups(np.ones(4, bool), np.ones(4), 2, "acc")
    for rows, rewards, n in ((5, 5, 2), (4, 2, 2)):
        with pytest.raises(ValueError, match="are not whole groups of 2"):
            judge_groups(np.ones(rows, bool), np.ones(rewards), n)


def test_rows_of_groups():
    assert rows_of(np.array([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]
    assert rows_of(np.array([], dtype=int), 3).tolist() == []
