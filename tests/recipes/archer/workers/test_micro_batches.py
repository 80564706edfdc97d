"""How rows are cut into micro-batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.workers.micro_batches import columns_of_rows, cut_by_length, micro_batches

PROMPT = 30
ROWS = st.lists(st.tuples(st.integers(1, PROMPT), st.integers(0, 40)), min_size=1, max_size=40)  # prompt, response


def _columns(rows: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded prompts, right-padded responses."""
    prompts, responses = torch.tensor(rows).T
    return PROMPT - prompts, PROMPT + responses


def _mask(rows: list[tuple[int, int]]) -> torch.Tensor:
    first, last = _columns(rows)
    columns = torch.arange(PROMPT + 41)
    return ((columns >= first[:, None]) & (columns < last[:, None])).long()


def _padded(rows: list[tuple[int, int]], cut: torch.Tensor) -> int:
    """Tokens of a micro-batch as the forward pass trims it, by its mask."""
    used = _mask(rows)[cut].any(0).nonzero()
    return len(cut) * (int(used[-1]) + 1 - int(used[0]))


def _rows(cuts: list[torch.Tensor]) -> list[int]:
    return torch.cat(cuts).tolist()


@given(ROWS, st.integers(1, 300))
def test_every_row_once_and_the_limit_kept_with_padding(rows, max_tokens):
    cuts = cut_by_length(*_columns(rows), max_tokens)
    assert sorted(_rows(cuts)) == list(range(len(rows)))
    assert all(len(cut) == 1 or _padded(rows, cut) <= max_tokens for cut in cuts)


def test_the_longest_prompt_and_the_longest_response_may_be_of_two_rows():
    rows = [(30, 2), (2, 30)]
    assert len(cut_by_length(*_columns(rows), 2 * 32)) == 2  # 32 tokens each, but 60 columns together
    assert len(cut_by_length(*_columns(rows), 2 * 60)) == 1


@given(ROWS, st.integers(1, 300))
def test_responses_of_like_length_go_together(rows, max_tokens):
    responses = torch.tensor(rows)[:, 1]
    ordered = responses[_rows(cut_by_length(*_columns(rows), max_tokens))]
    assert torch.equal(ordered, responses.sort().values)


@given(ROWS, st.integers(1, 300))
def test_no_cut_is_needless(rows, max_tokens):
    """The first row of the next micro-batch did not fit into this one."""
    cuts = cut_by_length(*_columns(rows), max_tokens)
    for cut, following in zip(cuts, cuts[1:], strict=False):
        assert _padded(rows, torch.cat([cut, following[:1]])) > max_tokens


@given(ROWS, st.integers(1, 300), st.data())
def test_at_least_so_many_none_empty(rows, max_tokens, data):
    at_least = data.draw(st.integers(1, len(rows)))
    plain = len(cut_by_length(*_columns(rows), max_tokens))
    cuts = cut_by_length(*_columns(rows), max_tokens, at_least)
    assert len(cuts) == max(plain, at_least)
    assert all(len(cut) for cut in cuts)
    assert sorted(_rows(cuts)) == list(range(len(rows)))
    assert all(len(cut) == 1 or _padded(rows, cut) <= max_tokens for cut in cuts)


def test_a_row_longer_than_the_limit_stands_alone():
    cuts = cut_by_length(torch.zeros(3, dtype=torch.long), torch.tensor([5, 200, 5]), 20)
    assert [cut.tolist() for cut in cuts] == [[0, 2], [1]]


def test_equal_rows_keep_their_order():
    """Ties may not depend on the platform's sort, or a run could not be repeated."""
    assert _rows(cut_by_length(torch.zeros(30), torch.full((30,), 7), 70)) == list(range(30))


@given(ROWS)
def test_columns_come_from_the_attention_mask(rows):
    for found, expected in zip(columns_of_rows(_mask(rows)), _columns(rows), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("max_tokens", [1, 70, 1000])
def test_micro_batches_are_cut_by_the_mask(max_tokens):
    rows = [(3, 9), (20, 1), (7, 7), (1, 40)]
    found = [cut.tolist() for cut in micro_batches(_mask(rows), max_tokens)]
    assert found == [cut.tolist() for cut in cut_by_length(*_columns(rows), max_tokens)]
