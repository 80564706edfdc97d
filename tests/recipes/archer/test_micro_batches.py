"""How rows are cut into micro-batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.micro_batches import cut_by_length, micro_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(torch.tensor)


def _rows(cuts: list[torch.Tensor]) -> list[int]:
    return torch.cat(cuts).tolist()


@given(LENGTHS, st.integers(1, 300))
def test_every_row_once_and_the_limit_kept(lengths, max_tokens):
    cuts = cut_by_length(lengths, max_tokens)
    assert sorted(_rows(cuts)) == list(range(len(lengths)))
    for cut in cuts:
        assert len(cut) == 1 or len(cut) * int(lengths[cut].max()) <= max_tokens


@given(LENGTHS, st.integers(1, 300))
def test_rows_of_like_length_go_together(lengths, max_tokens):
    ordered = lengths[_rows(cut_by_length(lengths, max_tokens))]
    assert torch.equal(ordered, lengths.sort().values)


@given(LENGTHS, st.integers(1, 300))
def test_no_cut_is_needless(lengths, max_tokens):
    """The first row of the next micro-batch did not fit into this one."""
    cuts = cut_by_length(lengths, max_tokens)
    for cut, following in zip(cuts, cuts[1:], strict=False):
        assert (len(cut) + 1) * int(lengths[following[0]]) > max_tokens


@given(LENGTHS, st.integers(1, 300), st.data())
def test_at_least_so_many_none_empty(lengths, max_tokens, data):
    at_least = data.draw(st.integers(1, len(lengths)))
    plain = len(cut_by_length(lengths, max_tokens))
    cuts = cut_by_length(lengths, max_tokens, at_least)
    assert len(cuts) == max(plain, at_least)
    assert all(len(cut) for cut in cuts)
    assert sorted(_rows(cuts)) == list(range(len(lengths)))
    assert all(len(cut) == 1 or len(cut) * int(lengths[cut].max()) <= max_tokens for cut in cuts)


def test_a_row_longer_than_the_limit_stands_alone():
    cuts = cut_by_length(torch.tensor([5, 200, 5]), 20)
    assert [cut.tolist() for cut in cuts] == [[0, 2], [1]]


def test_equal_rows_keep_their_order():
    """Ties may not depend on the platform's sort, or a run could not be repeated."""
    assert _rows(cut_by_length(torch.full((30,), 7), 70)) == list(range(30))


@pytest.mark.parametrize("max_tokens", [1, 12, 1000])
def test_lengths_come_from_the_attention_mask(max_tokens):
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0]])
    found = [cut.tolist() for cut in micro_batches(mask, max_tokens)]
    assert found == [cut.tolist() for cut in cut_by_length(torch.tensor([3, 5, 1]), max_tokens)]
