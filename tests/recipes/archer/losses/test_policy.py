"""The losses against their written definitions, on random tensors and at the edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loss_cases import (
    CLIP_HIGH,
    CLIP_LOW,
    archer_coefficient,
    aspo_coefficient,
    defined_gradient,
    four,
    random_batch,
    unpadded,
    with_gradient,
)
from recipes.archer.losses import policy as losses
from recipes.archer.losses.aggregation import AGGREGATION_MODES, aggregate
from recipes.archer.losses.constants import POLICY_LOSSES, LossConfig
from recipes.archer.losses.covariance import kl_cov_token_loss
from recipes.archer.losses.policy import (
    archer_policy_loss,
    aspo_policy_loss,
    low_entropy_mask,
    policy_token_loss,
    rollout_is_weight,
    vanilla_token_loss,
)

CLIPS = {"clip_low_entropy": CLIP_LOW, "clip_high_entropy": CLIP_HIGH}
PAIRS = [(aspo_policy_loss, aspo_coefficient), (archer_policy_loss, archer_coefficient)]


# -- token classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int32, torch.float32])
@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.8, 1.0])
def test_low_entropy_mask_is_at_most_the_quantile_of_the_own_row(dtype, quantile):
    generator = torch.Generator().manual_seed(3)
    entropy = torch.rand(6, 40, generator=generator)
    mask = torch.arange(40) < torch.tensor([[0], [1], [2], [11], [36], [40]])
    low = low_entropy_mask(entropy, mask.to(dtype), quantile)
    assert low.dtype == torch.bool
    for row in range(6):
        inside = entropy[row][mask[row]]
        expected = inside <= inside.quantile(quantile) if len(inside) else torch.zeros(0, dtype=torch.bool)
        assert torch.equal(low[row][mask[row]], expected)
        assert not low[row][~mask[row]].any()


def test_low_entropy_mask_of_a_hundred_and_one_tokens_counts_by_rank():
    entropy = torch.arange(101.0).flip(0)[None]
    # 0.29 · 100 is 28.999999999999996 in floating point; the exact rank is 29, so thirty tokens are low.
    assert low_entropy_mask(entropy, torch.ones(1, 101), 0.29).sum() == 30
    assert low_entropy_mask(entropy, torch.ones(1, 101)).sum() == 81


def test_low_entropy_mask_edges():
    assert low_entropy_mask(torch.tensor([[2.0]]), torch.tensor([[1]])).tolist() == [[True]]
    assert low_entropy_mask(torch.zeros(3, 0), torch.zeros(3, 0)).shape == (3, 0)
    assert low_entropy_mask(torch.full((1, 4), 0.7), torch.ones(1, 4)).all()
    padding = torch.tensor([[math.nan, 1.0, 9.0, math.inf]])
    assert low_entropy_mask(padding, torch.tensor([[0, 1, 1, 0]])).tolist() == [[False, True, False, False]]
    for quantile in (0.0, -0.1, 1.01, math.nan):
        with pytest.raises(ValueError, match="token_entropy_quantile"):
            low_entropy_mask(torch.zeros(1, 2), torch.ones(1, 2), quantile)


# -- gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss, coefficient", PAIRS)
@pytest.mark.parametrize("sign", [0, 1, -1])
@pytest.mark.parametrize("seed", range(5))
def test_gradient_is_the_definition(loss, coefficient, sign, seed):
    batch = with_gradient(random_batch(seed, rows=7, width=30, sign=sign))
    value, _ = loss(**batch, **CLIPS, ratio_cap=2.5)
    value.backward()
    expected = torch.tensor(defined_gradient(coefficient, batch, 2.5), dtype=torch.float64)
    assert torch.isfinite(value)
    torch.testing.assert_close(batch["log_prob"].grad, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", [aspo_policy_loss, archer_policy_loss])
def test_every_branch_of_the_definition_occurs_in_the_random_batches(loss):
    """Otherwise the test above would prove less than it says."""
    keys = [f"actor/clipfrac/{s}/{c}_entropy" for s in ("pos", "neg") for c in ("low", "high")]
    _, metrics = loss(**random_batch(0, rows=7, width=30), **CLIPS, ratio_cap=2.5)
    assert all(0 < metrics[key] < 1 for key in [*keys, "actor/pg_clipfrac", "actor/pg_clipfrac_lower"])


@settings(max_examples=40, deadline=None)
@given(
    mask=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.bool, torch.int8, torch.int64, torch.float32, torch.float64]),
    which=st.sampled_from(PAIRS),
    seed=st.integers(0, 99),
)
def test_any_mask_of_any_dtype(mask, dtype, which, seed):
    loss, coefficient = which
    mask = torch.tensor(mask)
    batch = with_gradient(unpadded(seed, rows=len(mask), width=6) | {"response_mask": mask})
    value, metrics = loss(**batch | {"response_mask": mask.to(dtype)}, **CLIPS)
    value.backward()
    expected = torch.zeros(mask.shape, dtype=torch.float64)
    if mask.any():
        expected = torch.tensor(defined_gradient(coefficient, batch, 3.0), dtype=torch.float64)
    torch.testing.assert_close(batch["log_prob"].grad, expected, rtol=1e-12, atol=1e-15)
    assert (metrics["actor/ppo_kl"] is None) == (not mask.any())


@pytest.mark.parametrize("name", POLICY_LOSSES)
@pytest.mark.parametrize("shape", [(2, 0), (1, 1), (3, 4)])
@pytest.mark.parametrize("mode", AGGREGATION_MODES)
def test_empty_single_and_all_masked_batches_are_finite(name, shape, mode):
    for mask in (torch.zeros(shape), torch.ones(shape)):
        log_prob = torch.full(shape, -0.5, requires_grad=True)
        old, advantages = torch.full(shape, -0.6), torch.full(shape, 2.0)
        config = LossConfig(policy_loss=name, clip_ratio_high=0.28)
        token_loss, _ = policy_token_loss(config, old, log_prob, advantages, mask, mask.bool())
        value = aggregate(token_loss, mask, mode)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(log_prob.grad).all()
        assert bool((log_prob.grad != 0).any()) == bool(mask.any())


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_extreme_and_undefined_log_probs_stay_finite(name):
    """A token a thousand nats off, and padding that holds NaN and infinities."""
    old = torch.tensor([[-1000.0, -0.1, math.nan, -math.inf]])
    log_prob = torch.tensor([[-0.1, -1000.0, math.inf, math.nan]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 0]])
    advantages = torch.tensor([[1.0, -1.0, math.nan, 3.0]])
    config = LossConfig(policy_loss=name, clip_ratio_high=0.28)
    token_loss, stats = policy_token_loss(config, old, log_prob, advantages, mask, mask.bool())
    aggregate(token_loss, mask, "token-mean").backward()
    assert torch.isfinite(token_loss[mask.bool()]).all() and torch.isfinite(log_prob.grad).all()
    assert all(value is None or math.isfinite(value) for value in stats.metrics().values())


@pytest.mark.parametrize("off", [25.0, -25.0])
def test_kl_cov_pulls_back_a_token_that_ran_further_than_the_ratio_is_bounded(off):
    log_prob = torch.tensor([[off - 30.0]], requires_grad=True)
    one = torch.ones(1, 1)
    kl_cov_token_loss(torch.full((1, 1), -30.0), log_prob, 0 * one, one, coef=0.7)[0].sum().backward()
    assert float(log_prob.grad) == pytest.approx(math.copysign(0.7, off))


def test_aspo_needs_no_integer_mask_and_takes_a_step():
    batch = with_gradient(unpadded(1, dtype=torch.float32))
    value, _ = aspo_policy_loss(**batch | {"response_mask": batch["response_mask"].long()})
    value.backward()
    assert batch["log_prob"].grad.abs().sum() > 0


def test_constants_are_used():
    batch = unpadded(4, rows=6, width=20)
    for changed in ({"clip_low_entropy": (0.05, 0.05)}, {"clip_high_entropy": (0.9, 0.9)}, {"ratio_cap": 1.2}):
        for loss in (aspo_policy_loss, archer_policy_loss):
            assert loss(**batch, **changed)[0] != loss(**batch)[0]


# -- the rest --------------------------------------------------------------------------------------------------


def test_policy_token_loss_passes_every_constant():
    batch = unpadded(12, rows=6, width=20)
    tensors = (*four(batch), batch["low_entropy"])
    classes = {"clip_low_entropy": (0.1, 0.1), "clip_high_entropy": (0.6, 0.7)}
    for name, cap in (("aspo", "ratio_cap"), ("archer", "clip_ratio_c")):
        config = LossConfig(policy_loss=name, **classes, **{cap: 2.0})
        expected = getattr(losses, f"{name}_token_loss")(*tensors, **classes, ratio_cap=2.0)[0]
        assert torch.equal(policy_token_loss(config, *tensors)[0], expected)
        with pytest.raises(ValueError, match=f"policy_loss={name} needs token classes"):
            policy_token_loss(config, *four(batch))
    higher = LossConfig(policy_loss="clip_higher", clip_ratio_high=0.5, clip_ratio_c=1.5)
    expected = vanilla_token_loss(*tensors, clip=(0.2, 0.5), clip_ratio_c=1.5)[0]
    assert torch.equal(policy_token_loss(higher, *tensors)[0], expected)


def test_token_loss_is_zero_outside_the_mask():
    batch = random_batch(13)
    for name in POLICY_LOSSES:
        config = LossConfig(policy_loss=name, clip_ratio_high=0.28)
        token_loss, _ = policy_token_loss(config, *four(batch), batch["low_entropy"])
        assert (token_loss[~batch["response_mask"]] == 0).all()


def test_rollout_is_weight_truncates_and_carries_no_gradient():
    old = torch.tensor([-1.0, -1.0, -1.0, 0.0], requires_grad=True)
    weight = rollout_is_weight(old, torch.tensor([-1.0, -2.0, -0.5, -1000.0]), threshold=2.0)
    torch.testing.assert_close(weight, torch.tensor([1.0, 2.0, math.exp(-0.5), 2.0]))
    assert not weight.requires_grad
