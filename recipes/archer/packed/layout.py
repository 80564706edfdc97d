"""Where the tokens of prompts and their responses stand: one behind the other, and in rows for attention."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

STEP = 256  # tokens; oneDNN keeps a compiled kernel for each number of tokens, and there shall be few


class Layout(NamedTuple):
    """Every different prompt once, then every response, then at least one token of filler; ``tokens`` in all.

    For attention the tokens lie in cells, row by row and from the left: prompts are (prompts, prompt_width),
    responses (rows, response_width).
    """

    input_ids: Tensor  # (tokens,)
    position_ids: Tensor  # (tokens,)
    count: int  # tokens that are no filler
    cells: Tensor  # (cells,) the token in each; in an empty one the last, which is filler
    places: Tensor  # (tokens,) the cell of each; of filler the first
    which: Tensor  # (rows,) the prompt of each response
    prompts: int
    prompt_width: int
    response_width: int
    bias: Tensor  # (rows, 1, response_width, prompt_width + response_width) 0 for what a token sees, else -inf
    before: Tensor  # (rows, length) the token before each of a row's response; of what is none, something


def packed(input_ids: Tensor, mask: Tensor, position_ids: Tensor, length: int, first: Tensor, which: Tensor) -> Layout:
    """The layout of a batch.

    Args:
        input_ids, mask, position_ids: (rows, columns), the mask 0/1.
        length: columns of the prompts; those after them are the responses'.
        first: (prompts,) a row with each different prompt, which has a token at least.
        which: (rows,) the prompt of each row.
    """
    mask = mask.bool()
    of_prompts, of_responses = mask[first, :length], mask[:, length:]
    in_prompt, in_response = of_prompts.sum(-1), of_responses.sum(-1)
    prompt_tokens, count = int(in_prompt.sum()), int(in_prompt.sum() + in_response.sum())
    filler = STEP - count % STEP
    ids, positions = (
        pad(torch.cat([values[first, :length][of_prompts], values[:, length:][of_responses]]), (0, filler))
        for values in (input_ids, position_ids)
    )
    prompt_width, response_width = int(in_prompt.max()), max(1, int(in_response.max()))
    left_in_prompts = torch.arange(prompt_width) < in_prompt[:, None]
    left_in_responses = torch.arange(response_width) < in_response[:, None]
    places = torch.cat([left_in_prompts.flatten(), left_in_responses.flatten()])
    cells = torch.where(places, places.cumsum(0) - 1, count + filler - 1)
    key = torch.arange(prompt_width + response_width)
    query = torch.arange(response_width)[:, None]
    sees = torch.where(key < prompt_width, key < in_prompt[:, None, None], key - prompt_width <= query)
    number = prompt_tokens + of_responses.flatten().cumsum(0).view_as(of_responses) - 1
    is_first = of_responses & (of_responses.cumsum(-1) == 1)
    last_of_prompt = in_prompt.cumsum(0)[which, None] - 1
    return Layout(
        input_ids=ids,
        position_ids=positions,
        count=count,
        cells=cells,
        places=pad(places.nonzero()[:, 0], (0, filler)),
        which=which,
        prompts=len(first),
        prompt_width=prompt_width,
        response_width=response_width,
        bias=torch.zeros(sees.shape).masked_fill_(~sees, float("-inf"))[which, None],
        before=torch.where(is_first, last_of_prompt, number - 1),
    )
