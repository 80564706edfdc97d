"""Written-out backward passes against those that autograd finds for the same formula."""

import pytest
import torch

from recipes.archer.packed.functions import linear, moved, rms_norm, rotary

TOKENS, HEADS, SIZE = 40, 3, 8


def _values_and_gradients(function, inputs):
    inputs = [each.clone().requires_grad_() for each in inputs]
    value = function(*inputs)
    weights = torch.linspace(-1, 1, value.numel()).view_as(value)
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), inputs)]


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _norm_as_defined(x, weight):
    return weight * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


ANGLES = torch.cat([_random(TOKENS, 1, SIZE // 2)] * 2, dim=-1)


def _rotated_as_defined(x):
    left, right = x.chunk(2, -1)
    return x * ANGLES.cos() + torch.cat([-right, left], -1) * ANGLES.sin()


@pytest.mark.parametrize(
    ("function", "definition", "inputs"),
    [
        (linear, lambda x, weight: x @ weight.T, [_random(TOKENS, SIZE), _random(5, SIZE)]),
        (lambda x, weight: rms_norm(x, weight, 1e-6), _norm_as_defined, [_random(TOKENS, HEADS, SIZE), _random(SIZE)]),
        (lambda x, weight: rms_norm(x, weight, 1e-6), _norm_as_defined, [_random(TOKENS, SIZE), _random(SIZE)]),
        (lambda x: rotary(x, ANGLES.cos(), ANGLES.sin()), _rotated_as_defined, [_random(TOKENS, HEADS, SIZE)]),
    ],
    ids=["linear", "norm of heads", "norm", "rotary"],
)
def test_values_and_gradients_are_those_of_the_definition(function, definition, inputs):
    for got, want in zip(*(_values_and_gradients(each, inputs) for each in (function, definition)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_moved_rows_come_back_and_filler_gets_no_gradient():
    there, back, count = torch.tensor([2, 3, 0, 1, 3]), torch.tensor([2, 3, 0, 0]), 3  # row 3 is filler
    x = _random(4, 2).requires_grad_()
    value = moved(x, there, back, count)
    assert torch.equal(value, x[there])
    weights = torch.tensor([1.0, 0.0, 2.0, 4.0, 0.0])  # of places that stand for nothing: zero
    value.backward(weights[:, None].expand(5, 2))
    assert torch.equal(x.grad[:, 0], torch.tensor([2.0, 4.0, 1.0, 0.0]))
