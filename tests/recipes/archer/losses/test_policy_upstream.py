"""Where a loss of ours is one of upstream's, value and gradient are upstream's too."""

import math
from types import SimpleNamespace

import pytest
import torch

from loss_cases import four, unpadded, with_gradient
from recipes.archer.losses.aggregation import aggregate
from recipes.archer.losses.constants import LossConfig
from recipes.archer.losses.covariance import (
    clip_cov_selection,
    clip_cov_token_loss,
    kl_cov_selection,
    kl_cov_token_loss,
)
from recipes.archer.losses.policy import archer_policy_loss, policy_token_loss, vanilla_token_loss
from verl.trainer.ppo import core_algos

# Upstream divides by (number of tokens + 1e-8), which in float64 is a relative 1e-9.
CLOSE = {"rtol": 1e-8, "atol": 1e-12}


def assert_same_loss_and_gradient(ours, theirs, batch):
    results = []
    for function in (ours, theirs):
        fresh = with_gradient(batch)
        value = function(fresh)
        value.backward()
        results.append((value.detach(), fresh["log_prob"].grad))
    torch.testing.assert_close(*results, **CLOSE)
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize("cap", [3.0, 1e30])
@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
def test_archer_with_equal_classes_is_upstreams_vanilla(cap, mode):
    batch = unpadded(7, rows=8, width=25)
    keep = batch["response_mask"].any(dim=-1)  # upstream's per-response mean of an empty response is 0/0
    batch = {name: value[keep] for name, value in batch.items()}

    def ours(b):
        clip = (0.2, 0.28)
        kwargs = {"clip_low_entropy": clip, "clip_high_entropy": clip, "loss_agg_mode": mode}
        return archer_policy_loss(**b, **kwargs, ratio_cap=math.inf if cap > 1e9 else cap)[0]

    def theirs(b):
        kwargs = {"cliprange_low": 0.2, "cliprange_high": 0.28, "clip_ratio_c": cap, "loss_agg_mode": mode}
        return core_algos.compute_policy_loss(*four(b), **kwargs)[0]

    assert_same_loss_and_gradient(ours, theirs, batch)


def test_vanilla_and_its_metrics_are_upstreams():
    batch = unpadded(8, rows=8, width=25)
    token_loss, stats = vanilla_token_loss(*four(batch), batch["low_entropy"], clip=(0.2, 0.28))
    upstream = core_algos.compute_policy_loss(*four(batch), cliprange_low=0.2, cliprange_high=0.28)
    metrics = stats.metrics()
    keys = ("actor/pg_clipfrac", "actor/ppo_kl", "actor/pg_clipfrac_lower")
    loss = aggregate(token_loss, batch["response_mask"], "token-mean")
    # upstream's clip fractions are float32
    assert [loss.item(), *(metrics[key] for key in keys)] == pytest.approx([x.item() for x in upstream], rel=1e-6)

    def ours(b):
        return aggregate(vanilla_token_loss(*four(b))[0], b["response_mask"], "token-mean")

    assert_same_loss_and_gradient(ours, lambda b: core_algos.compute_policy_loss(*four(b), cliprange=0.2)[0], batch)


def upstream_config(**constants) -> SimpleNamespace:
    clips = {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    return SimpleNamespace(**clips, policy_loss=SimpleNamespace(**constants))


@pytest.mark.parametrize("ratio", [0.0002, 0.1, 1.0])
def test_clip_cov_is_upstreams(ratio):
    batch = unpadded(9, rows=8, width=25)
    config = upstream_config(clip_cov_ratio=ratio, clip_cov_lb=0.05, clip_cov_ub=2.0)

    def ours(b):
        torch.manual_seed(5)
        kwargs = {"clip": (0.2, 0.28), "ratio": ratio, "bounds": (0.05, 2.0)}
        return aggregate(clip_cov_token_loss(*four(b), **kwargs)[0], b["response_mask"], "token-mean")

    def theirs(b):
        torch.manual_seed(5)
        return core_algos.compute_policy_loss_clip_cov(*four(b), config=config)[0]

    assert_same_loss_and_gradient(ours, theirs, batch)


@pytest.mark.parametrize("ratio", [0.0002, 0.1, 1.0])
def test_kl_cov_is_upstreams(ratio):
    batch = unpadded(10, rows=8, width=25)
    config = upstream_config(kl_cov_ratio=ratio, ppo_kl_coef=0.7)

    def ours(b):
        return aggregate(kl_cov_token_loss(*four(b), ratio=ratio, coef=0.7)[0], b["response_mask"], "token-mean")

    assert_same_loss_and_gradient(
        ours, lambda b: core_algos.compute_policy_loss_kl_cov(*four(b), config=config)[0], batch
    )


def test_a_selection_over_the_whole_step_does_not_depend_on_the_cut():
    batch = unpadded(11, rows=8, width=25)
    old, log_prob, advantages, mask = four(batch)
    picked = {
        "clip_cov": clip_cov_selection(old, log_prob, advantages, mask, ratio=0.2, bounds=(0.05, 2.0)),
        "kl_cov": kl_cov_selection(log_prob, advantages, mask, ratio=0.2),
    }
    for name, selected in picked.items():
        assert selected.any() and not (selected & ~mask).any()
        config = LossConfig(policy_loss=name)
        whole, _ = policy_token_loss(config, *four(batch), selected=selected)
        for row in range(len(mask)):
            one = [tensor[row : row + 1] for tensor in four(batch)]
            part, _ = policy_token_loss(config, *one, selected=selected[row : row + 1])
            assert torch.equal(part[0], whole[row])
