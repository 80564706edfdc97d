"""Metrics reduce exactly: parts merged equal the whole, and an empty class is None."""

import math

import pytest
import torch

from loss_cases import random_batch
from recipes.archer.losses.policy import archer_token_loss, vanilla_token_loss
from recipes.archer.losses.token_stats import (
    MEANS,
    PEAKS,
    empty_stats,
    engine_stats,
    entropy_stats,
    kl_stats,
    merge_stats,
    policy_stats,
)

KEYS = {*MEANS, *PEAKS}
CLIPFRACS = {s: [f"actor/clipfrac/{s}/{c}_entropy" for c in ("low", "high")] for s in ("pos", "neg")}


def stats_of(batch: dict, rows: slice = slice(None)):
    part = {name: value[rows] for name, value in batch.items()}
    mask, low = part["response_mask"], part["low_entropy"]
    return merge_stats(
        [
            archer_token_loss(**part)[1],
            kl_stats(part["advantages"] ** 2, mask, low),
            entropy_stats(-part["log_prob"], mask, low),
            engine_stats(part["log_prob"], part["old_log_prob"], mask),
        ]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_merged_parts_are_the_whole(size):
    batch = random_batch(0, rows=8, width=20)
    parts = [stats_of(batch, slice(start, start + size)) for start in range(0, 8, size)]
    # sums in float64, in another order
    assert merge_stats(parts).metrics() == pytest.approx(stats_of(batch).metrics(), rel=1e-12)


def test_every_mean_is_over_the_tokens_it_names():
    batch = random_batch(1, rows=8, width=20)
    metrics = stats_of(batch).metrics()
    mask, low = batch["response_mask"], batch["low_entropy"]
    ratio = (batch["log_prob"] - batch["old_log_prob"]).exp()
    positive, negative = batch["advantages"] > 0, batch["advantages"] < 0
    clipped = (positive & (ratio > torch.where(low, 1.2, 1.4))) | (negative & (ratio < torch.where(low, 0.8, 0.6)))
    kl, entropy = batch["advantages"] ** 2, -batch["log_prob"]

    def mean(values, where):
        return values[where].double().mean().item()

    high = mask & ~low
    expected = {
        "actor/pg_clipfrac": mean(clipped, mask),
        "actor/pg_clipfrac_lower": mean(negative & (ratio > 3), mask),
        "actor/ppo_kl": mean(-ratio.log(), mask),
        "actor/clipfrac/pos/low_entropy": mean(clipped, mask & low & positive),
        "actor/clipfrac/pos/high_entropy": mean(clipped, high & positive),
        "actor/clipfrac/neg/low_entropy": mean(clipped, mask & low & negative),
        "actor/clipfrac/neg/high_entropy": mean(clipped, high & negative),
        "actor/kl_loss": mean(kl, mask),
        "actor/kl_loss/low_entropy": mean(kl, mask & low),
        "actor/kl_loss/high_entropy": mean(kl, high),
        "actor/entropy/low_entropy": mean(entropy, mask & low),
        "actor/entropy/high_entropy": mean(entropy, high),
        "actor/low_entropy_share": mean(low, mask),
        "actor/ratio/max": ratio[mask].max().item(),
        "actor/ratio/min": ratio[mask].min().item(),
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sign, absent", [(1, "neg"), (-1, "pos")])
def test_an_empty_class_is_none_and_never_absent(sign, absent):
    metrics = stats_of(random_batch(2, rows=8, width=20, sign=sign)).metrics()
    assert set(metrics) == KEYS
    present = {"pos": "neg", "neg": "pos"}[absent]
    assert all(metrics[key] is None for key in CLIPFRACS[absent])
    assert all(metrics[key] is not None for key in CLIPFRACS[present])


def test_nothing_measured_is_none_everywhere():
    shape = (2, 3)
    nothing = archer_token_loss(*(torch.zeros(shape) for _ in range(5)))[1]
    for stats in (empty_stats(), merge_stats([]), nothing, merge_stats([nothing, empty_stats()])):
        assert stats.metrics() == dict.fromkeys(KEYS)


def test_what_broke_does_not_look_absent():
    batch = random_batch(2)
    batch["log_prob"][0, 0] = math.nan
    batch["response_mask"][0, 0] = 1
    metrics = vanilla_token_loss(**batch)[1].metrics()
    assert math.isnan(metrics["actor/ratio/max"]) and math.isnan(metrics["actor/ratio/min"])
    engine = engine_stats(batch["log_prob"], batch["old_log_prob"], batch["response_mask"])
    assert math.isnan(merge_stats([empty_stats(), engine]).metrics()["rollout/log_ratio/abs_max"])


def test_without_classes_only_the_class_metrics_are_none():
    batch = random_batch(3)
    batch.pop("low_entropy")
    metrics = vanilla_token_loss(**batch)[1].metrics()
    assert metrics["actor/pg_clipfrac"] is not None and metrics["actor/ratio/max"] is not None
    assert metrics["actor/low_entropy_share"] is None
    assert all(metrics[key] is None for keys in CLIPFRACS.values() for key in keys)


def test_a_token_without_advantage_is_in_neither_sign_class():
    zeros, ones = torch.zeros(1, 2), torch.ones(1, 2)
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    metrics = policy_stats(zeros, zeros, ones, ones, clipped=nothing, capped=nothing).metrics()
    assert all(metrics[key] is None for keys in CLIPFRACS.values() for key in keys)
    assert metrics["actor/pg_clipfrac"] == 0


def test_stats_carry_no_gradient_and_ignore_padding():
    value = torch.tensor([[1.0, math.nan]], requires_grad=True)
    stats = kl_stats(value, torch.tensor([[1, 0]]), torch.tensor([[1, 0]]))
    assert not stats.sums.requires_grad
    metrics = stats.metrics()
    assert metrics["actor/kl_loss"] == metrics["actor/kl_loss/low_entropy"] == 1
    assert metrics["actor/kl_loss/high_entropy"] is None
