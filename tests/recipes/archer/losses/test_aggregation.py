"""Aggregation: upstream's numbers on one batch, and the same number however the batch is cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.archer.losses.aggregation import AGGREGATION_MODES, aggregate, denominator
from verl.trainer.ppo.core_algos import agg_loss

UPSTREAM_EQUAL = AGGREGATION_MODES[:3]


def losses_and_mask(rows: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    loss = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return loss, torch.rand(rows, width, generator=generator) < 0.6


@pytest.mark.parametrize("mode", UPSTREAM_EQUAL)
def test_equals_upstream_on_one_batch_without_empty_rows(mode):
    loss, mask = losses_and_mask(6, 12)
    mask[:, 0] = True
    torch.testing.assert_close(aggregate(loss, mask, mode), agg_loss(loss, mask, mode))


def test_sum_norm_is_upstreams_divided_by_the_number_of_responses():
    loss, mask = losses_and_mask(6, 12)
    mask[:, 0] = True
    mode = "seq-mean-token-sum-norm"
    torch.testing.assert_close(aggregate(loss, mask, mode), agg_loss(loss, mask, mode) / 6)
    # a constant length makes it independent of how far padding was trimmed
    padded = [torch.nn.functional.pad(tensor, (0, 5)) for tensor in (loss, mask)]
    torch.testing.assert_close(aggregate(*padded, mode, norm_length=12), aggregate(loss, mask, mode))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    mode=st.sampled_from(AGGREGATION_MODES),
    cuts=st.sets(st.integers(1, 8)),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([torch.bool, torch.int64, torch.float32]),
)
def test_any_split_adds_up_to_the_whole_and_so_do_the_gradients(rows, mode, cuts, seed, dtype):
    loss, mask = losses_and_mask(rows, 7, seed)
    loss.requires_grad_()
    edges = [0, *sorted(cut for cut in cuts if cut < rows), rows]
    spans = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    total = sum(denominator(mask[span].to(dtype), mode) for span in spans)
    assert total == denominator(mask, mode)
    parts = sum(aggregate(loss[span], mask[span].to(dtype), mode, total=total) for span in spans)
    whole = aggregate(loss, mask, mode)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(*(torch.autograd.grad(value, loss)[0] for value in (parts, whole)))


@pytest.mark.parametrize("mode", AGGREGATION_MODES)
@pytest.mark.parametrize("shape", [(3, 0), (1, 1), (2, 5), (0, 4)])
def test_nothing_to_aggregate_is_zero_with_a_zero_gradient(mode, shape):
    loss = torch.ones(shape, requires_grad=True)
    mask = torch.zeros(shape)
    for total in (None, 0, torch.tensor(0), 7):
        value = aggregate(loss, mask, mode, total=total)
        value.backward()
        assert value.item() == 0 and (loss.grad == 0).all()


@pytest.mark.parametrize("mode", AGGREGATION_MODES)
def test_an_empty_response_is_not_counted(mode):
    loss, mask = losses_and_mask(3, 4)
    mask[0] = True
    with_empty = torch.cat([mask, torch.zeros(1, 4, dtype=torch.bool)])
    padded = torch.cat([loss, torch.full((1, 4), math.nan, dtype=torch.float64)])
    torch.testing.assert_close(aggregate(padded, with_empty, mode), aggregate(loss, mask, mode))


def test_undefined_padding_reaches_neither_value_nor_gradient():
    mask = torch.tensor([[1, 1, 0]])
    source = torch.tensor([[1.0, 3.0, math.nan]], requires_grad=True)
    value = aggregate(source * 2, mask, "token-mean")
    value.backward()
    assert value.item() == 4 and source.grad.tolist() == [[1.0, 1.0, 0.0]]


def test_a_share_of_the_denominator_undoes_an_average_over_workers():
    loss, mask = torch.ones(1, 1), torch.ones(1, 1)
    assert aggregate(loss, mask, "token-mean", total=0.5).item() == 2


def test_wrong_calls_are_refused():
    loss, mask = losses_and_mask(2, 3)
    mask[0] = True
    for total in (0, -3):
        with pytest.raises(ValueError, match="total is .* pass denominator"):
            aggregate(loss, mask, "token-mean", total=total)
    for call in (lambda: aggregate(loss, mask, "mean"), lambda: denominator(mask, "mean")):
        with pytest.raises(ValueError, match="loss_agg_mode is 'mean'; use one of token-mean"):
            call()
