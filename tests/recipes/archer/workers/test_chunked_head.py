"""Log-probabilities and entropies chunk by chunk against the plain formula in float64."""

import pytest
import torch

from recipes.archer.workers import chunked_head
from recipes.archer.workers.chunked_head import chunk_rows, head_log_prob_and_entropy

VOCAB, HIDDEN = 37, 16


@pytest.fixture
def small_chunks(monkeypatch):
    """Four positions at a time; the logits of one position are kept, those of more are made again."""
    monkeypatch.setattr(chunked_head, "CHUNK_BYTES", 4 * 4 * VOCAB)
    monkeypatch.setattr(chunked_head, "KEPT_BYTES", 4 * VOCAB)
    assert chunk_rows(VOCAB) == 4


def _inputs(positions: int, dtype=torch.float32, scale: float = 2.0):
    random = torch.Generator().manual_seed(positions)
    hidden = torch.randn(positions, HIDDEN, generator=random).to(dtype).requires_grad_()
    weight = (scale * torch.randn(VOCAB, HIDDEN, generator=random)).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(VOCAB, (positions,), generator=random)


def _definition(hidden, weight, labels, temperature):
    """In float64, from the probabilities themselves."""
    p = torch.softmax(hidden.double() @ weight.double().T / temperature, dim=-1)
    return p.gather(-1, labels[:, None])[:, 0].log(), -torch.special.xlogy(p, p).sum(-1)


def _gradients(outputs, inputs, seed: int = 1):
    """Of a random weighted sum of both outputs, so that neither's gradient hides the other's."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, len(outputs[0]), generator=random)
    total = sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))
    return torch.autograd.grad(total, inputs)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.5])
@pytest.mark.parametrize("positions", [1, 4, 5, 11])  # kept; made again in one chunk, two, three
def test_equals_the_definition(small_chunks, positions, temperature):
    hidden, weight, labels = _inputs(positions)
    expected = _definition(hidden, weight, labels, temperature)
    found = head_log_prob_and_entropy(hidden, weight, labels, temperature)
    # fp32 logits of a few tens: 1e-6 of their size
    for value, reference in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, reference.float(), rtol=1e-5, atol=1e-5)
    gradients, expected_gradients = (_gradients(outputs, (hidden, weight)) for outputs in (found, expected))
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=2e-5)


def test_a_vocabulary_of_151936_costs_no_precision():
    """torch's fp32 log_softmax on a CPU is off by 3e-4 there, far more than is asked for here."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 8, generator=random).requires_grad_()
    weight = (0.2 * torch.randn(151_936, 8, generator=random)).requires_grad_()
    labels = torch.randint(151_936, (3,), generator=random)
    found = head_log_prob_and_entropy(hidden, weight, labels)
    expected = _definition(hidden, weight, labels, 1.0)
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=1e-6, atol=0)
    gradients, references = (_gradients(outputs, (hidden, weight)) for outputs in (found, expected))
    for gradient, reference in zip(gradients, references, strict=True):
        # the products themselves, over 151,936 terms in fp32, are off by 1e-5
        assert (gradient - reference).abs().max() <= 2e-5 * reference.abs().max()


def test_each_output_alone_has_its_own_gradient(small_chunks):
    """Without an entropy bonus no gradient comes in for the entropy, and its part of the work is left out."""
    hidden, weight, labels = _inputs(9)
    for which in (0, 1):
        found = head_log_prob_and_entropy(hidden, weight, labels, 0.9)[which]
        expected = _definition(hidden, weight, labels, 0.9)[which]
        inputs = (hidden, weight)
        for gradient, reference in zip(
            torch.autograd.grad(found.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), strict=True
        ):
            torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=2e-5)


def test_gradient_against_finite_differences(small_chunks):
    """The written-out backward pass in a direction of its own, without autograd on either side."""
    hidden, weight, labels = _inputs(6, scale=1.0)
    gradients = _gradients(head_log_prob_and_entropy(hidden, weight, labels, 1.3), (hidden, weight))
    random = torch.Generator().manual_seed(2)
    directions = [torch.randn(t.shape, generator=random).double() for t in (hidden, weight)]
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()

    def value(step: float) -> torch.Tensor:
        moved = [t.detach().double() + step * d for t, d in zip((hidden, weight), directions, strict=True)]
        return sum((o * w).sum() for o, w in zip(_definition(*moved, labels, 1.3), weights, strict=True))

    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    found = sum((g.double() * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert float(found) == pytest.approx(float(slope), rel=1e-5)


def test_nothing_to_compute(small_chunks):
    hidden, weight, labels = _inputs(0)
    log_prob, entropy = head_log_prob_and_entropy(hidden, weight, labels)
    assert log_prob.shape == entropy.shape == (0,)
    (log_prob.sum() + entropy.sum()).backward()
    assert hidden.grad.shape == (0, HIDDEN)
    assert not weight.grad.any()


def test_bf16_states_give_fp32_figures_as_good_as_the_plain_way(small_chunks):
    """The products round to bf16 (three digits) either way; sums and logarithms are in fp32."""
    hidden, weight, labels = _inputs(10, torch.bfloat16, scale=0.3)
    found = head_log_prob_and_entropy(hidden, weight, labels)
    logits = (hidden @ weight.T).double()
    log_p = torch.log_softmax(logits, dim=-1)
    plain = log_p.gather(-1, labels[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    for value, reference in zip(found, plain, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, reference.float(), rtol=1e-6, atol=1e-6)
    gradients = _gradients(found, (hidden, weight))
    expected = _gradients(_definition(hidden, weight, labels, 1.0), (hidden, weight))
    for gradient, reference in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.bfloat16
        distance = (gradient.float() - reference.float()).norm() / reference.float().norm()
        assert distance < 2e-2


def test_a_frozen_head_gets_no_gradient(small_chunks):
    hidden, weight, labels = _inputs(9)
    expected = torch.autograd.grad(head_log_prob_and_entropy(hidden, weight, labels)[0].sum(), hidden)
    frozen = weight.detach()
    found = torch.autograd.grad(head_log_prob_and_entropy(hidden, frozen, labels)[0].sum(), hidden)
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize("positions", [1, 11])
def test_under_autocast_both_directions_have_its_dtype(small_chunks, positions):
    """Otherwise the backward pass would make other logits than the forward pass: it does not run under autocast."""
    hidden, weight, labels = _inputs(positions, scale=0.3)
    narrow = [t.detach().bfloat16().requires_grad_() for t in (hidden, weight)]
    expected = head_log_prob_and_entropy(*narrow, labels, 0.8)
    expected_gradients = _gradients(expected, narrow)
    with torch.autocast("cpu", torch.bfloat16):
        found = head_log_prob_and_entropy(hidden, weight, labels, 0.8)
    gradients = _gradients(found, (hidden, weight))
    for value, reference in zip((*found, *gradients), (*expected, *expected_gradients), strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, reference.float())


@pytest.mark.parametrize("positions", [1, 7])
def test_inputs_are_left_alone(small_chunks, positions):
    """The backward pass works in place; it may not touch what it was given or kept, or run only once."""
    hidden, weight, labels = _inputs(positions)
    before = hidden.detach().clone(), weight.detach().clone()
    outputs = head_log_prob_and_entropy(hidden, weight, labels, 0.5)
    kept = [output.detach().clone() for output in outputs]
    first = torch.autograd.grad(sum(o.sum() for o in outputs), (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(sum(o.sum() for o in outputs), (hidden, weight))
    for a, b in zip(first + before + tuple(kept), second + (hidden, weight) + tuple(outputs), strict=True):
        assert torch.equal(a, b)


def test_extreme_logits_stay_finite(small_chunks):
    hidden, weight, labels = _inputs(8, scale=500.0)
    log_prob, entropy = head_log_prob_and_entropy(hidden, weight, labels)
    gradients = _gradients((log_prob, entropy), (hidden, weight))
    assert all(torch.isfinite(t).all() for t in (log_prob, entropy, *gradients))
    assert entropy.min() >= 0


def test_a_chunk_holds_at_least_one_position_and_keeps_the_limit():
    assert chunk_rows(10**12) == 1
    assert chunk_rows(151_936) * 151_936 * 4 <= chunked_head.CHUNK_BYTES
