"""Loss and gradient norm of every policy loss over three steps of a tiny policy, against committed figures."""

import json
import math
import os
import random
from pathlib import Path

import pytest
import torch

from recipes.archer.losses.aggregation import aggregate
from recipes.archer.losses.constants import POLICY_LOSSES, LossConfig
from recipes.archer.losses.kl import kl_token_loss
from recipes.archer.losses.policy import low_entropy_mask, policy_token_loss

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
CONSTANTS = {
    "use_kl_loss": True,
    "kl_loss_coef": 0.05,
    "kl_loss_high_entropy_scale": 0.0,
    "entropy_coeff": 0.01,
    "clip_cov_ratio": 0.1,
    "clip_cov_lb": 0.01,
    "kl_cov_ratio": 0.1,
    "ppo_kl_coef": 1.0,
}


def three_steps(name: str) -> list[dict[str, float]]:
    """Loss and gradient norm over three SGD steps of a linear policy on fixed data."""
    rng = random.Random(2024)  # Python's generator: the same numbers on every version of torch

    def normal(*shape: int) -> torch.Tensor:
        size = math.prod(shape)
        return torch.tensor([rng.gauss(0, 1) for _ in range(size)], dtype=torch.float64).view(shape)

    features, weight, reference = normal(6, 8, 5), normal(5, 7), normal(6, 8).abs() * -1
    actions = torch.tensor([rng.randrange(7) for _ in range(48)]).view(6, 8, 1)
    advantages = normal(6, 1).expand(6, 8) + 0.1 * normal(6, 8)
    mask = torch.arange(8) < torch.tensor([[8, 1, 5, 8, 3, 6]]).T
    weight.requires_grad_()
    clip_ratio_high = 0.28 if name == "clip_higher" else 0.2
    config = LossConfig(policy_loss=name, clip_ratio_high=clip_ratio_high, **CONSTANTS)
    torch.manual_seed(0)  # Clip-Cov draws
    old_log_prob, trace = None, []
    for _ in range(3):
        distribution = torch.log_softmax(features @ weight, dim=-1)
        log_prob = distribution.gather(-1, actions).squeeze(-1)
        entropy = -(distribution.exp() * distribution).sum(-1)
        old_log_prob = log_prob.detach() if old_log_prob is None else old_log_prob
        low = low_entropy_mask(entropy, mask, config.token_entropy_quantile)
        token_loss, _ = policy_token_loss(config, old_log_prob, log_prob, advantages, mask, low)
        token_loss = token_loss - config.entropy_coeff * entropy
        token_loss = token_loss + kl_token_loss(log_prob, reference, low, *config.kl_coefs)
        loss = aggregate(token_loss, mask, "token-mean")
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 1.0 * gradient
        trace.append({"loss": loss.item(), "grad_norm": gradient.norm().item()})
    return trace


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_three_steps_are_the_committed_ones(name):
    """A refactor must not move these. After a change of a definition: ARCHER_WRITE_GOLDEN=1 pytest <this file>."""
    trace = three_steps(name)
    if os.environ.get("ARCHER_WRITE_GOLDEN") == "1":
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps(golden | {name: trace}, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())[name]
    for ours, committed in zip(trace, golden, strict=True):
        # float64; another BLAS may sum in another order
        assert ours == pytest.approx(committed, rel=1e-9)


def test_golden_losses_differ_from_each_other():
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(POLICY_LOSSES)
    last = [trace[-1]["grad_norm"] for trace in golden.values()]
    assert len(set(last)) == len(last)
