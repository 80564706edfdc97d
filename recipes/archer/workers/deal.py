"""Who trains on which row: mini-batches first, then workers.

verl cuts a batch into one block a worker and every block into mini-batches, so that what a mini-batch holds
depends on the number of workers.  Here the rows are ordered so that it does not.
"""

import numpy as np
import torch

from verl import DataProto


def padded_size(rows: int, workers: int) -> int:
    """Rows after filling up to a multiple of the number of workers."""
    return -(-rows // workers) * workers


def deal(lengths: np.ndarray, mini_batch_rows: int, workers: int) -> np.ndarray:
    """Order of rows in which worker w's block holds its share of mini-batch 0, then of mini-batch 1, and so on.

    Inside a mini-batch the rows go to the workers by length, back and forth, so that all have about the same
    number of tokens.

    Args:
        lengths: (rows,) tokens; mini-batch k is rows ``k * mini_batch_rows`` onwards, the last may be short.
        mini_batch_rows: rows a mini-batch over all workers, a multiple of ``workers``; so is ``rows``.
        workers: data-parallel workers.

    Returns:
        (rows,) a permutation of the row numbers.
    """
    if mini_batch_rows % workers or len(lengths) % workers:
        raise ValueError(f"{mini_batch_rows} rows a mini-batch and {len(lengths)} rows do not divide by {workers}")
    shares: list[list[np.ndarray]] = [[] for _ in range(workers)]
    for start in range(0, len(lengths), mini_batch_rows):
        chunk = lengths[start : start + mini_batch_rows]
        table = (start + np.argsort(-chunk, kind="stable")).reshape(-1, workers)
        table[1::2] = table[1::2, ::-1]
        for worker in range(workers):
            shares[worker].append(np.sort(table[:, worker]))
    return np.concatenate([np.concatenate(share) for share in shares])


def dealt(batch: DataProto, mini_batch_rows: int, workers: int) -> DataProto:
    """The rows of an optimizer step in the order in which the workers take them.

    Filled up to a multiple of ``workers`` with copies that have no response token and so count for nothing.
    Tensors get ``row``, (rows,): the row's place before the deal.
    """
    rows = len(batch)
    place = np.arange(padded_size(rows, workers))
    filler = place >= rows
    batch = batch.select_idxs(np.where(filler, 0, place))
    batch.batch["response_mask"] = batch.batch["response_mask"] * torch.as_tensor(~filler)[:, None]
    batch.batch["row"] = torch.as_tensor(place)
    lengths = batch.batch["attention_mask"].sum(-1).numpy()
    return batch.select_idxs(deal(lengths, mini_batch_rows, workers))
