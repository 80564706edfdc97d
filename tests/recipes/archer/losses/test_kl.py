"""KL to the reference: upstream's estimators, and the coefficient by token class."""

import pytest
import torch

from recipes.archer.losses.kl import KL_TYPES, kl_token_loss, token_kl
from verl.trainer.ppo.core_algos import kl_penalty


def log_probs(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    log_prob = scale * torch.randn(4, 11, generator=generator, dtype=torch.float64)
    return log_prob.requires_grad_(), scale * torch.randn(4, 11, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kl_type", KL_TYPES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_estimators_and_their_gradients_are_upstreams(kl_type, scale):
    log_prob, reference = log_probs(scale)
    ours, theirs = token_kl(log_prob, reference, kl_type), kl_penalty(log_prob, reference, kl_type)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(kl.sum(), log_prob)[0] for kl in (ours, theirs)))


def test_coefficient_follows_the_class():
    log_prob, reference = log_probs(1.0)
    low = torch.rand(4, 11, generator=torch.Generator().manual_seed(1)) < 0.5
    kl = token_kl(log_prob, reference)
    loss = kl_token_loss(log_prob, reference, low.int(), 0.05, 0.0)
    torch.testing.assert_close(loss[low], 0.05 * kl[low])
    assert (loss[~low] == 0).all() and kl[~low].min() > 0
    torch.testing.assert_close(kl_token_loss(log_prob, reference, None, 0.05, 0.0), 0.05 * kl)


def test_unknown_type_is_refused_by_name():
    log_prob, reference = log_probs(1.0)
    with pytest.raises(ValueError, match="kl_loss_type is 'full'; use one of low_var_kl"):
        token_kl(log_prob, reference, "full")
