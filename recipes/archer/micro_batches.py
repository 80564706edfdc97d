"""How the rows of an optimizer step are cut into micro-batches.

Rows of like length go together, so that trimming a micro-batch to its longest row leaves little padding.
The loss does not depend on the cut: every term is divided by the count over the whole optimizer step.
"""

import torch
import torch.distributed as dist


def cut_by_length(lengths: torch.Tensor, max_tokens: int, at_least: int = 1) -> list[torch.Tensor]:
    """Cuts rows into micro-batches of at most ``max_tokens`` tokens, padding to the longest row counted.

    Args:
        lengths: (rows,) tokens of each row, prompt and response.
        max_tokens: a micro-batch's limit on rows times longest row; a single longer row stands alone.
        at_least: number of micro-batches to make at least (FSDP needs the same number on every rank);
            at most ``rows``.

    Returns:
        Row numbers of each micro-batch, shortest rows first; together all rows, each once.
    """
    order = torch.argsort(lengths, stable=True)
    cuts, start = [], 0
    for i in range(1, len(order) + 1):
        if i == len(order) or (i + 1 - start) * int(lengths[order[i]]) > max_tokens:
            cuts.append(order[start:i])
            start = i
    while len(cuts) < at_least:
        largest = max(range(len(cuts)), key=lambda k: len(cuts[k]))
        cuts[largest : largest + 1] = cuts[largest].tensor_split(2)
    return cuts


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
    lengths = attention_mask.sum(-1).cpu()
    cuts = cut_by_length(lengths, max_tokens)
    number = same_number_on_every_rank(len(cuts), attention_mask.device)
    return cuts if number == len(cuts) else cut_by_length(lengths, max_tokens, at_least=number)
