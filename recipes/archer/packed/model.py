"""Qwen3 over packed tokens: transformers' modules hold the parameters, the arithmetic is here.

A layer is called as a module, so that FSDP's hooks gather its parameters as for transformers' forward pass, which
stays what a call without a layout does.
"""

from types import MethodType

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

from recipes.archer.packed.functions import linear, moved, rms_norm, rotary
from recipes.archer.packed.layout import Layout


def is_packable(model: torch.nn.Module) -> bool:
    """Whether the layers below compute what the model's own do."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) != "qwen3" or not torch.backends.mkldnn.is_available():
        return False
    plain = not (config.attention_bias or config.attention_dropout or config.use_sliding_window)
    return plain and config.hidden_act == "silu"


def bind_packed_layers(model: torch.nn.Module) -> None:
    """Lets every layer take a layout; called before or after FSDP wraps them."""
    for layer in model.model.layers:
        layer = getattr(layer, "_fsdp_wrapped_module", layer)
        layer.forward = MethodType(_layer, layer)


def packed_hidden(model: torch.nn.Module, layout: Layout) -> Tensor:
    """Final hidden states, (tokens, hidden size); ``model`` is the part below the head."""
    hidden = model.embed_tokens(layout.input_ids)
    angles = tuple(part[0, :, None] for part in model.rotary_emb(hidden, layout.position_ids[None]))
    for layer in model.layers:
        hidden = layer(hidden, layout=layout, position_embeddings=angles)
    return _norm(model.norm, hidden)


def _layer(self, hidden_states, *arguments, layout: Layout | None = None, **others):
    if layout is None:
        return type(self).forward(self, hidden_states, *arguments, **others)
    normed = _norm(self.input_layernorm, hidden_states)
    hidden_states = hidden_states + _attention(self.self_attn, normed, layout, *others["position_embeddings"])
    normed, mlp = _norm(self.post_attention_layernorm, hidden_states), self.mlp
    inner = silu(linear(normed, mlp.gate_proj.weight)) * linear(normed, mlp.up_proj.weight)
    return hidden_states + linear(inner, mlp.down_proj.weight)


def _norm(module: torch.nn.Module, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, module.variance_epsilon)


def _attention(module: torch.nn.Module, x: Tensor, layout: Layout, cos: Tensor, sin: Tensor) -> Tensor:
    """Of prompts to themselves, and of responses to their prompts and themselves; (tokens, hidden size)."""

    def heads(projection: torch.nn.Module) -> Tensor:
        return linear(x, projection.weight).unflatten(-1, (-1, module.head_dim))  # (tokens, heads, head size)

    query = rotary(_norm(module.q_norm, heads(module.q_proj)), cos, sin)
    key = rotary(_norm(module.k_norm, heads(module.k_proj)), cos, sin)
    (query_p, query_r), (key_p, key_r), (value_p, value_r) = (
        _in_rows(each, layout) for each in (query, key, heads(module.v_proj))
    )
    key_r, value_r = (
        torch.cat([of_prompts.index_select(0, layout.which), own], dim=2)
        for of_prompts, own in ((key_p, key_r), (value_p, value_r))
    )
    how = {"scale": module.scaling, "enable_gqa": module.num_key_value_groups > 1}
    of_prompts = scaled_dot_product_attention(query_p, key_p, value_p, is_causal=True, **how)
    of_responses = scaled_dot_product_attention(query_r, key_r, value_r, attn_mask=layout.bias, **how)
    cells = torch.cat([out.transpose(1, 2).flatten(2).flatten(0, 1) for out in (of_prompts, of_responses)])
    out = moved(cells, layout.places, layout.cells, len(cells))
    return linear(out, module.o_proj.weight)


def _in_rows(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(tokens, heads, size) as (prompts, heads, prompt_width, size) and (rows, heads, response_width, size)."""
    cells = moved(x, layout.cells, layout.places, layout.count)
    of_prompts, of_responses = cells.tensor_split([layout.prompts * layout.prompt_width])
    return (
        of_prompts.unflatten(0, (layout.prompts, layout.prompt_width)).transpose(1, 2),
        of_responses.unflatten(0, (-1, layout.response_width)).transpose(1, 2),
    )
