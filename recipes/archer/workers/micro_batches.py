"""How the rows of an optimizer step are cut into micro-batches.

Rows whose responses are of like length go together, so that trimming a micro-batch to its rows leaves little padding.
The loss does not depend on the cut: every term is divided by the count over the whole optimizer step.
"""

import torch
import torch.distributed as dist


def cut_by_length(first: torch.Tensor, last: torch.Tensor, max_tokens: int, at_least: int = 1) -> list[torch.Tensor]:
    """Cuts rows into micro-batches of at most ``max_tokens`` tokens, padding counted.

    A micro-batch is as wide as from its leftmost to its rightmost token: its longest prompt and its longest response,
    which need not be the same row's.

    Args:
        first, last: (rows,) columns in which each row's tokens start and end (the end is not part of it).
        max_tokens: a micro-batch's limit on rows times width; a single wider row stands alone.
        at_least: number of micro-batches to make at least (FSDP needs the same number on every rank);
            at most ``rows``.

    Returns:
        Row numbers of each micro-batch, shortest responses first; together all rows, each once.
    """
    order = torch.argsort(last, stable=True)
    lefts, rights = first[order].tolist(), last[order].tolist()
    cuts, start, left = [], 0, 0
    for i, right in enumerate(rights):  # ascending, so the newest row is the rightmost
        left = lefts[i] if i == start else min(left, lefts[i])
        if i > start and (i + 1 - start) * (right - left) > max_tokens:
            cuts.append(order[start:i])
            start, left = i, lefts[i]
    cuts += [order[start:]] if len(order) else []
    while len(cuts) < at_least:
        largest = max(range(len(cuts)), key=lambda k: len(cuts[k]))
        cuts[largest : largest + 1] = cuts[largest].tensor_split(2)
    return cuts


def columns_of_rows(attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows,) columns in which each row's tokens start and end, from a (rows, length) 0/1 mask."""
    mask = attention_mask.bool().cpu()
    columns = torch.arange(mask.shape[1])
    last = torch.where(mask, columns + 1, 0).amax(-1)
    return torch.where(mask, columns, last[:, None]).amin(-1), last


def same_number_on_every_rank(number: int, device) -> int:
    """The largest ``number`` of all ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return number
    tensor = torch.tensor([number], device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def micro_batches(attention_mask: torch.Tensor, max_tokens: int) -> list[torch.Tensor]:
    """Row numbers of this rank's micro-batches, as many as every other rank has.

    Args:
        attention_mask: (rows, length) 0/1; every rank holds the same number of rows.
        max_tokens: tokens a micro-batch, see :func:`cut_by_length`.
    """
    first, last = columns_of_rows(attention_mask)
    cuts = cut_by_length(first, last, max_tokens)
    number = same_number_on_every_rank(len(cuts), attention_mask.device)
    return cuts if number == len(cuts) else cut_by_length(first, last, max_tokens, at_least=number)
