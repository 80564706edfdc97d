"""Small parts of the worker; the whole of it is the end-to-end tests' affair."""

import pytest
import torch

from actor_cases import make_batch, plain_log_probs, small_qwen3
from recipes.archer.workers.model_forward import bind_token_forward
from recipes.archer.workers.worker import _GatedScheduler


def test_the_schedule_stands_still_without_an_applied_update():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    applied = [True]
    schedule = _GatedScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1), lambda: applied[0])
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.1)]
    applied[0] = False  # the gradient was not finite
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.1)]
    assert schedule.state_dict()["last_epoch"] == 1
    applied[0] = True
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.01)]


def test_forward_over_all_positions_predicts_the_right_neighbour():
    """The form for rows without padding, as one long row: what upstream reads with padding removed."""
    model = small_qwen3(tied=True)
    batch = make_batch(model, (6,))
    with torch.no_grad():
        expected = plain_log_probs(model, batch)
        bind_token_forward(model)
        kept = batch["attention_mask"].bool()
        ids, positions = batch["input_ids"][kept][None], batch["position_ids"][kept][None]
        output = model(input_ids=ids, attention_mask=None, position_ids=positions, temperature=0.9, return_dict=True)
    assert output.log_probs.shape == output.entropy.shape == ids.shape
    for found, reference in zip((output.log_probs, output.entropy), expected, strict=True):
        torch.testing.assert_close(found[:, -7:-1], reference, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_plain_head_is_refused():
    with pytest.raises(TypeError, match="Linear is not a causal language model with a bias-free lm_head"):
        bind_token_forward(torch.nn.Linear(2, 2))
    model = small_qwen3(tied=False)
    model.lm_head = torch.nn.Linear(32, 48, bias=True)
    with pytest.raises(TypeError, match="Qwen3ForCausalLM is not"):
        bind_token_forward(model)
