"""What the engine has generated, as tensors: which tokens are a response's, and whether it came to its end."""

from collections.abc import Sequence

import torch

from verl import DataProto


def with_engine_mask(output: DataProto, lengths: Sequence[int], ended: Sequence[bool]) -> DataProto:
    """Puts the engine's own count of tokens in the place of verl's mask, which looks for one end token in the text.

    With another end token, several, or a padding token that is the end or one of the vocabulary, such a search masks
    tokens that nobody drew, or cuts ones that were.

    Args:
        output: of verl's rollout; the response columns of ``attention_mask``, (rows, prompt + response), are replaced.
        lengths: tokens that the engine generated, by row.
        ended: whether a stop token was the last of them; added as ``ended``, (rows,) bool.
    """
    mask = output.batch["attention_mask"]
    width = output.batch["responses"].shape[1]
    counts = torch.as_tensor(lengths, device=mask.device)
    mask[:, -width:] = (torch.arange(width, device=mask.device) < counts[:, None]).to(mask.dtype)
    output.batch["ended"] = torch.as_tensor(ended, dtype=torch.bool, device=mask.device)
    return output


def trim_responses(batch: DataProto, width: int) -> DataProto:
    """Cuts the response columns to the longest response; the engine pads every one to ``width`` tokens.

    Tensors get response_mask, (rows, longest): 1 at the tokens of the response.
    """
    tensors = batch.batch
    prompt_length = tensors["input_ids"].shape[1] - width
    response_mask = tensors["attention_mask"][:, prompt_length:]
    longest = max(1, int(response_mask.sum(-1).max()))
    for key in ("responses", "rollout_log_probs"):
        if key in tensors.keys():  # noqa: SIM118  (a TensorDict is iterated over rows)
            tensors[key] = tensors[key][:, :longest].contiguous()
    for key in ("input_ids", "attention_mask", "position_ids"):
        tensors[key] = tensors[key][:, : prompt_length + longest].contiguous()
    tensors["response_mask"] = response_mask[:, :longest].to(torch.int64).contiguous()
    return batch
