"""A model's forward pass that returns log-probabilities and entropies instead of logits.

Bound to the model inside FSDP, so that sharded parameters are gathered by FSDP's own hooks, as upstream
binds its fused kernels (``verl/models/transformers/dense_common.py``).  Upstream's fused kernel is not used
because it rounds the log-probabilities to the model's dtype: in bf16 a ratio of two of them is off by a
percent.
"""

from types import MethodType
from typing import NamedTuple

import torch

from recipes.archer.chunked_head import head_log_prob_and_entropy


class TokenOutput(NamedTuple):
    """What upstream's actor reads from a fused forward pass, in fp32."""

    log_probs: torch.Tensor
    entropy: torch.Tensor


def _forward(self, input_ids, attention_mask=None, position_ids=None, positions=None, temperature=1.0, **_):
    """Statistics at ``positions``, a (rows, columns) pair of predicted tokens, as flat (positions,) tensors;
    without it, at every token but predicting its right neighbour, as (batch, length) tensors."""
    hidden = self.model(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
    )[0]
    if positions is None:
        chosen, labels = hidden.flatten(0, 1), torch.roll(input_ids, -1, dims=-1).flatten()
    else:
        rows, columns = positions
        chosen, labels = hidden[rows, columns - 1], input_ids[rows, columns]
    weight = self.lm_head.weight.to(chosen.dtype)
    log_probs, entropy = head_log_prob_and_entropy(chosen, weight, labels, temperature)
    if positions is None:
        log_probs, entropy = log_probs.view_as(input_ids), entropy.view_as(input_ids)
    return TokenOutput(log_probs, entropy)


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
