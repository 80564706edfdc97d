"""The forward pass in which the responses to one prompt share its computation, against one row after the other."""

from unittest.mock import patch

import pytest
import torch

from actor_cases import PROMPT, TEMPERATURE, make_batch, plain_log_probs, small_qwen3
from recipes.archer.packed.layout import STEP
from recipes.archer.workers import model_forward
from recipes.archer.workers.model_forward import bind_token_forward, shared_prompts


@pytest.fixture(params=[True, False], ids=["packed", "in rows"])
def without_padding(request):
    """As on a CPU, and as elsewhere."""
    if request.param:
        yield True
        return
    with patch.object(model_forward, "_packs", lambda *_: False):
        yield False


def _of_two_prompts(model) -> dict[str, torch.Tensor]:
    """Eleven rows, the prompts of the even and of the odd ones the same."""
    batch = make_batch(model)
    source = torch.arange(len(batch["row"])) % 2
    for key in ("input_ids", "attention_mask"):
        batch[key] = torch.cat([batch[key][source, :PROMPT], batch[key][:, PROMPT:]], dim=1)
    batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    return batch


def _values_and_gradient(model, log_prob, entropy):
    model.zero_grad()
    (log_prob.sum() + 0.3 * entropy.sum()).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    return log_prob.detach(), entropy.detach(), gradient


def test_rows_of_one_prompt_are_found():
    prompts = torch.tensor([[0, 5], [3, 5], [0, 5], [3, 4], [3, 5]])
    mask = torch.tensor([[0, 1], [1, 1], [1, 1], [1, 1], [1, 1]])  # the third has a padding token as its first word
    first, which = shared_prompts(prompts, mask)
    assert torch.equal(prompts[first[which]], prompts) and torch.equal(mask[first[which]], mask)
    assert sorted(first.tolist()) == [0, 1, 2, 3] and which[1] == which[4]


def test_shared_prompts_give_the_same_values_and_gradient(without_padding):
    """To 1e-5: fp32, the same sums in another order."""
    model = small_qwen3(tied=True)
    batch = _of_two_prompts(model)
    rows, columns = batch["attention_mask"][:, PROMPT:].nonzero(as_tuple=True)
    log_prob, entropy = plain_log_probs(model, batch, TEMPERATURE)
    expected = _values_and_gradient(model, log_prob[rows, columns], entropy[rows, columns])
    bind_token_forward(model)
    computed = []  # rows that the layers see
    model.model.layers[0].register_forward_pre_hook(lambda _, arguments: computed.append(arguments[0].shape[:-1]))
    output = model(
        **{key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")},
        positions=(rows, columns + PROMPT),
        temperature=TEMPERATURE,
        prompt_length=PROMPT,
    )
    assert computed == ([(STEP,)] if without_padding else [(2, PROMPT), (11, 10)])
    for got, want in zip(_values_and_gradient(model, output.log_probs, output.entropy), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def test_the_gradient_of_shared_prompts_is_the_same_to_the_last_bit_every_time(without_padding):
    """Additions of many rows to one prompt must not race; enough of them for torch to use its threads."""
    model = small_qwen3(tied=False)
    bind_token_forward(model)
    torch.manual_seed(1)
    rows, width = 256, 40
    ids = torch.randint(1, 48, (rows, 20 + width))
    ids[:, :20] = ids[:2, :20].repeat(rows // 2, 1)
    mask = torch.ones_like(ids)
    where = mask[:, 20:].nonzero(as_tuple=True)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": mask.cumsum(-1) - 1}

    def gradient() -> torch.Tensor:
        output = model(**inputs, positions=(where[0], where[1] + 20), temperature=1.0, prompt_length=20)
        return _values_and_gradient(model, output.log_probs, output.entropy)[2]

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))
