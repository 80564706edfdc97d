"""A model's forward pass that returns log-probabilities and entropies instead of logits.

Bound to the model inside FSDP, so that sharded parameters are gathered by FSDP's own hooks, as upstream
binds its fused kernels (``verl/models/transformers/dense_common.py``).  Upstream's fused kernel is not used
because it rounds the log-probabilities to the model's dtype: in bf16 a ratio of two of them is off by a
percent.
"""

from types import MethodType
from typing import NamedTuple

import torch
from transformers import DynamicCache

from recipes.archer.packed.layout import packed
from recipes.archer.packed.model import bind_packed_layers, is_packable, packed_hidden
from recipes.archer.workers.chunked_head import head_log_prob_and_entropy
from verl.utils.ulysses import all_gather_tensor, get_ulysses_sequence_parallel_world_size


class TokenOutput(NamedTuple):
    """What upstream's actor reads from a fused forward pass, in fp32."""

    log_probs: torch.Tensor
    entropy: torch.Tensor


def shared_prompts(prompts: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which rows have the same prompt.

    Args:
        prompts, prompt_mask: (rows, prompt_length) token ids and 0/1 mask.

    Returns:
        (prompts,) a row of each different prompt, and (rows,) the number of each row's prompt among them.
    """
    same = torch.cat([prompts, prompt_mask.to(prompts.dtype)], dim=1)
    different, which = torch.unique(same, dim=0, return_inverse=True)
    rows = torch.arange(len(prompts), device=prompts.device)
    first = rows.new_full((len(different),), len(prompts)).scatter_reduce(0, which, rows, "amin")
    return first, which


def _hidden_before_responses(model, input_ids, attention_mask, position_ids, prompt_length: int) -> torch.Tensor:
    """Hidden states at the prompts' last token and at the responses, (rows, 1 + response length, hidden size).

    The responses to one prompt share its keys and values, which are computed once and not once a row.
    """
    first, which = shared_prompts(input_ids[:, :prompt_length], attention_mask[:, :prompt_length])
    cache = DynamicCache()
    of_prompts = model(
        input_ids=input_ids[first, :prompt_length],
        attention_mask=attention_mask[first, :prompt_length],
        position_ids=position_ids[first, :prompt_length],
        past_key_values=cache,
        use_cache=True,
    )[0]
    # index_select, not indexing: its backward pass adds up a prompt's rows in one order, so that a run can be repeated
    cache.key_cache = [keys.index_select(0, which) for keys in cache.key_cache]
    cache.value_cache = [values.index_select(0, which) for values in cache.value_cache]
    of_responses = model(
        input_ids=input_ids[:, prompt_length:],
        attention_mask=attention_mask,
        position_ids=position_ids[:, prompt_length:],
        past_key_values=cache,
        use_cache=True,
    )[0]
    return torch.cat([of_prompts[:, -1:].index_select(0, which), of_responses], dim=1)


def packed_borders(position_ids: torch.Tensor) -> dict[str, torch.Tensor | int]:
    """Where the sequences that lie one behind the other begin and end, as flash attention asks for it.

    transformers would find it out of ``position_ids`` in every layer, and again where activations are recomputed; each
    time the host waits for the device, which is most of the time of an update.

    Args:
        position_ids: (1, tokens), 0 where a sequence begins; with sequence parallelism this rank's slice.
    """
    if get_ulysses_sequence_parallel_world_size() > 1:  # attention gathers the tokens of all ranks
        position_ids = all_gather_tensor(position_ids.T.contiguous()).T
    begins = (position_ids[0] == 0).nonzero()[:, 0]
    borders = torch.nn.functional.pad(begins, (0, 1), value=position_ids.shape[1]).int()
    longest = int(borders.diff().max())
    return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}


def _forward(
    self,
    input_ids,
    attention_mask=None,
    position_ids=None,
    positions=None,
    temperature=1.0,
    prompt_length=None,
    **_,
):
    """Statistics at ``positions``, a (rows, columns) pair of predicted tokens, as flat (positions,) tensors;
    without it, at every token but predicting its right neighbour, as (batch, length) tensors.

    With ``prompt_length``, the number of columns before the responses, rows of one prompt share its computation."""
    if prompt_length is not None and _packs(self, input_ids.device.type):
        return _packed_statistics(self, input_ids, attention_mask, position_ids, positions, temperature, prompt_length)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
    if prompt_length is not None and not (self.training and self.is_gradient_checkpointing):
        hidden, start = _hidden_before_responses(self.model, **inputs, prompt_length=prompt_length), prompt_length
    else:
        borders = packed_borders(position_ids) if attention_mask is None else {}
        hidden, start = self.model(**inputs, use_cache=False, **borders)[0], 1
    if positions is None:
        chosen, labels = hidden.flatten(0, 1), torch.roll(input_ids, -1, dims=-1).flatten()
    else:
        rows, columns = positions
        chosen, labels = hidden[rows, columns - start], input_ids[rows, columns]
    weight = self.lm_head.weight.to(chosen.dtype)
    log_probs, entropy = head_log_prob_and_entropy(chosen, weight, labels, temperature)
    if positions is None:
        log_probs, entropy = log_probs.view_as(input_ids), entropy.view_as(input_ids)
    return TokenOutput(log_probs, entropy)


def _packs(model, device: str) -> bool:
    """Whether padding is left out on this CPU; there is no recomputing of activations then."""
    recomputed = model.training and model.is_gradient_checkpointing
    return device == "cpu" and model.dtype == torch.float32 and not recomputed and is_packable(model)


def _packed_statistics(model, input_ids, mask, position_ids, positions, temperature, prompt_length) -> TokenOutput:
    """Statistics at ``positions``, which are the responses'."""
    prompts = shared_prompts(input_ids[:, :prompt_length], mask[:, :prompt_length])
    layout = packed(input_ids, mask, position_ids, prompt_length, *prompts)
    rows, columns = positions
    chosen = packed_hidden(model.model, layout).index_select(0, layout.before[rows, columns - prompt_length])
    weight, labels = model.lm_head.weight, input_ids[rows, columns]
    return TokenOutput(*head_log_prob_and_entropy(chosen, weight, labels, temperature))


def bind_token_forward(model: torch.nn.Module) -> None:
    """Replaces the forward pass of a causal language model (below FSDP1's wrapper, if there is one).

    Raises:
        TypeError: the model has no ``model`` and ``lm_head``, or its head has a bias.
    """
    model = getattr(model, "_fsdp_wrapped_module", model)
    head = getattr(model, "lm_head", None)
    if not hasattr(model, "model") or head is None or getattr(head, "bias", None) is not None:
        raise TypeError(f"{type(model).__name__} is not a causal language model with a bias-free lm_head")
    model.forward = MethodType(_forward, model)
    if is_packable(model):
        bind_packed_layers(model)
