"""How rows are dealt to workers: what a mini-batch holds does not depend on how many there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.workers.deal import deal, padded_size


@st.composite
def _deals(draw):
    """(lengths, rows a mini-batch, workers), all of which divide."""
    workers = draw(st.integers(1, 5))
    mini_batch_rows = workers * draw(st.integers(1, 6))
    rows = workers * draw(st.integers(1, 20))
    lengths = draw(st.lists(st.integers(0, 300), min_size=rows, max_size=rows))
    return np.array(lengths), mini_batch_rows, workers


def _mini_batches(order: np.ndarray, mini_batch_rows: int, workers: int) -> list[list[int]]:
    """As the workers take them: a block each, and of the block one share after the other."""
    share = mini_batch_rows // workers
    blocks = order.reshape(workers, -1)
    starts = range(0, blocks.shape[1], share)
    return [sorted(blocks[:, start : start + share].flatten().tolist()) for start in starts]


@given(_deals())
def test_every_row_once(arguments):
    order = deal(*arguments)
    assert sorted(order.tolist()) == list(range(len(arguments[0])))


@given(_deals())
def test_mini_batches_hold_the_same_rows_for_any_number_of_workers(arguments):
    lengths, mini_batch_rows, workers = arguments
    rows = list(range(len(lengths)))
    in_order = [rows[start : start + mini_batch_rows] for start in range(0, len(rows), mini_batch_rows)]
    assert _mini_batches(deal(*arguments), mini_batch_rows, workers) == in_order


@given(_deals())
def test_workers_get_about_the_same_number_of_tokens(arguments):
    """Dealt by length, back and forth: two workers differ by one row's spread at most, in each mini-batch."""
    lengths, mini_batch_rows, workers = arguments
    blocks = deal(*arguments).reshape(workers, -1)
    share = mini_batch_rows // workers
    for start in range(0, blocks.shape[1], share):
        own = lengths[blocks[:, start : start + share]]
        tokens = own.sum(axis=1)
        assert tokens.max() - tokens.min() <= own.max() - own.min()


def test_long_rows_do_not_meet_on_one_worker():
    order = deal(np.array([100, 90, 10, 5]), 4, 2).reshape(2, 2)
    assert {tuple(block) for block in order.tolist()} == {(0, 3), (1, 2)}


@pytest.mark.parametrize(("rows", "workers", "size"), [(0, 4, 0), (1, 4, 4), (8, 4, 8), (9, 4, 12), (7, 1, 7)])
def test_padded_size(rows, workers, size):
    assert padded_size(rows, workers) == size


@pytest.mark.parametrize(("rows", "mini_batch_rows"), [(6, 3), (5, 4)])
def test_what_does_not_divide_is_refused(rows, mini_batch_rows):
    with pytest.raises(ValueError, match="do not divide by 2"):
        deal(np.ones(rows), mini_batch_rows, 2)
