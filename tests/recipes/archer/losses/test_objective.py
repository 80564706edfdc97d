"""The whole objective of a micro-batch: every term by its definition, classes from where they are said to come."""

import math

import pytest
import torch

from loss_cases import archer_coefficient, aspo_coefficient
from objective_cases import LENGTHS, WIDTH, make_batch, value_of
from recipes.archer.losses.aggregation import AGGREGATION_MODES
from recipes.archer.losses.constants import POLICY_LOSSES, LossConfig
from recipes.archer.losses.objective import step_loss, token_classes

EXACT = {"rtol": 1e-12, "atol": 1e-15}
CONSTANTS = {
    "clip_low_entropy": (0.2, 0.25),
    "clip_high_entropy": (0.4, 0.5),
    "entropy_coeff": 0.02,
    "use_kl_loss": True,
    "kl_loss_coef": 0.05,
    "kl_loss_high_entropy_scale": 0.3,
    "rollout_is_threshold": 1.5,
}


def quantile_of(values: list[float], q: float) -> float:
    ordered, rank = sorted(values), q * (len(values) - 1)
    below = math.floor(rank + 1e-9)
    return ordered[below] + (rank - below) * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])


def written_out(batch, log_prob, entropy, coefficient, config: LossConfig) -> tuple[list, list]:
    """d loss / d log π and d loss / d H, token by token from the definitions; token-mean."""
    count = sum(LENGTHS)
    to_log_prob = [[0.0] * WIDTH for _ in LENGTHS]
    to_entropy = [[0.0] * WIDTH for _ in LENGTHS]
    columns = {name: value.tolist() for name, value in {**batch, "log_prob": log_prob}.items()}
    for b, length in enumerate(LENGTHS):
        threshold = quantile_of(entropy[b, :length].tolist(), config.token_entropy_quantile) if length else 0.0
        for t in range(length):
            new, old, reference = (columns[name][b][t] for name in ("log_prob", "old_log_probs", "ref_log_prob"))
            low = float(entropy[b, t]) <= threshold
            advantage = columns["advantages"][b][t]
            weight = min(math.exp(old - columns["rollout_log_probs"][b][t]), config.rollout_is_threshold)
            policy = -coefficient(math.exp(new - old), advantage, low, 3.0) * advantage * weight
            beta = config.kl_loss_coef * (1.0 if low else config.kl_loss_high_entropy_scale)
            kl = beta * (1 - math.exp(reference - new))  # of π_ref/π − 1 − log(π_ref/π)
            to_log_prob[b][t] = (policy + kl) / count
            to_entropy[b][t] = -config.entropy_coeff / count
    return to_log_prob, to_entropy


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name, coefficient", [("aspo", aspo_coefficient), ("archer", archer_coefficient)])
def test_every_term_is_its_definition(name, coefficient, seed):
    batch, log_prob, entropy = make_batch(seed)
    config = LossConfig(policy_loss=name, **CONSTANTS)
    loss, _, _ = value_of(batch, log_prob, entropy, config)
    gradients = torch.autograd.grad(loss, (log_prob, entropy))
    expected = written_out(batch, log_prob, entropy, coefficient, config)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, torch.tensor(reference, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("name", POLICY_LOSSES)
@pytest.mark.parametrize("mode", AGGREGATION_MODES)
@pytest.mark.parametrize("padding", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_reaches_neither_the_loss_nor_a_gradient_nor_a_metric(name, mode, padding):
    """0 · NaN is NaN: a mask that is multiplied lets through what a mask that selects does not."""
    config = LossConfig(policy_loss=name, clip_ratio_high=0.28, loss_agg_mode=mode, **CONSTANTS)
    results = []
    for value in (0.0, padding):
        batch, log_prob, entropy = make_batch(3, padding=value)
        torch.manual_seed(0)  # Clip-Cov draws
        loss, _, stats = value_of(batch, log_prob, entropy, config)
        gradients = torch.autograd.grad(loss, (log_prob, entropy))
        results.append((loss, *gradients, stats.sums, stats.peaks))
        assert all((gradient[~batch["response_mask"]] == 0).all() for gradient in gradients)
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", POLICY_LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_fp32(name, dtype):
    """The ratio is made of the numbers given, exactly; only they are rounded, not what is computed from them."""
    config = LossConfig(policy_loss=name, clip_ratio_high=0.28, **CONSTANTS)
    batch, log_prob, entropy = make_batch(1, padding=0.0, dtype=dtype)
    wide = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    exact = [value.detach().double().requires_grad_() for value in (log_prob, entropy)]
    results = []
    for arguments in ((batch, log_prob, entropy), (wide, *exact)):
        torch.manual_seed(0)
        loss, _, _ = value_of(*arguments, config)
        results.append((loss, *torch.autograd.grad(loss, arguments[1:])))
    (loss, *gradients), (expected, *expected_gradients) = results
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, reference.to(dtype), rtol=1e-2, atol=1e-5)


def test_classes_from_the_rollout_stay_when_the_policy_moves():
    batch, _, entropy = make_batch(2)
    config = LossConfig(policy_loss="archer", token_class_from="rollout")
    frozen = token_classes(batch, entropy, config)
    assert torch.equal(token_classes(batch, entropy + torch.rand_like(entropy), config), frozen)
    current = LossConfig(policy_loss="archer")
    assert not torch.equal(token_classes(batch, entropy, current), frozen)
    assert torch.equal(
        token_classes(batch | {"rollout_entropy": entropy}, entropy, config), token_classes(batch, entropy, current)
    )


def test_before_the_first_update_the_current_policy_is_the_rollouts():
    """One update a step has neither old log-probabilities nor entropies of its own, and needs none."""
    batch, _, entropy = make_batch(2)
    del batch["rollout_entropy"]
    config = LossConfig(policy_loss="archer", token_class_from="rollout")
    with pytest.raises(ValueError, match="token_class_from is 'rollout': the batch needs rollout_entropy"):
        token_classes(batch, entropy, config)
    del batch["old_log_probs"]
    assert torch.equal(token_classes(batch, entropy, config), token_classes(batch, entropy, LossConfig()))


def test_a_kl_term_with_the_coefficient_0_needs_no_reference_and_has_no_figures():
    batch, log_prob, entropy = make_batch(3)
    del batch["ref_log_prob"]
    found = [
        step_loss(batch, log_prob, entropy, 10.0, LossConfig(use_kl_loss=use, kl_loss_coef=coefficient))
        for use, coefficient in ((True, 0.0), (False, 0.1))
    ]
    assert torch.equal(found[0][0], found[1][0])
    metrics = found[0][2].metrics()
    assert {metrics[name] for name in metrics if name.startswith("actor/kl_loss")} == {None}
    with pytest.raises(KeyError, match="ref_log_prob"):
        step_loss(batch, log_prob, entropy, 10.0, LossConfig(use_kl_loss=True, kl_loss_coef=0.1))
