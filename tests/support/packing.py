"""flash-attn, which needs a GPU, written out with torch: its four helpers, and attention within packed sequences.

So that upstream's code around them, transformers' and ours, run as they are.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch


def unpad_input(hidden_states, attention_mask):
    indices = attention_mask.flatten().nonzero().flatten()
    return hidden_states.flatten(0, 1)[indices], indices, None


def pad_input(hidden_states, indices, batch, seqlen):
    empty = hidden_states.new_zeros(batch * seqlen, *hidden_states.shape[1:])
    return empty.index_put((indices,), hidden_states).unflatten(0, (batch, seqlen))


def _causal(query, key, value, scale):
    """(tokens, heads, head size) each."""
    heads_first = [tensor.transpose(0, 1) for tensor in (query, key, value)]
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(*heads_first, is_causal=True, scale=scale, enable_gqa=True).transpose(0, 1)


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False, **_
):
    """Sequences one behind the other, (tokens, heads, head size); as the kernel does, it believes what it is told."""
    longest = {int(max_seqlen_q), int(max_seqlen_k)}  # the kernel needs it on the host
    borders = cu_seqlens_q.tolist()
    assert causal and cu_seqlens_k.tolist() == borders and cu_seqlens_q.dtype == torch.int32
    assert longest == {max(end - begin for begin, end in zip(borders, borders[1:], strict=False))}
    parts = [slice(begin, end) for begin, end in zip(borders, borders[1:], strict=False)]
    return torch.cat([_causal(q[part], k[part], v[part], softmax_scale) for part in parts])


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, **_):
    """Whole rows, (rows, tokens, heads, head size)."""
    assert causal
    return torch.stack([_causal(*row, softmax_scale) for row in zip(q, k, v, strict=True)])


@contextmanager
def like_a_gpu(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """What is there on a GPU for removing padding."""
    from einops import rearrange
    from transformers import modeling_flash_attention_utils as of_transformers

    from verl.workers.actor import dp_actor

    helpers = {"unpad_input": unpad_input, "pad_input": pad_input, "rearrange": rearrange}
    helpers["index_first_axis"] = lambda values, indices: values[indices]
    kernels = {"flash_attn_varlen_func": flash_attn_varlen_func, "flash_attn_func": flash_attn_func}
    with pytest.MonkeyPatch.context() as patch:
        for name, helper in helpers.items():
            patch.setattr(dp_actor, name, helper, raising=False)
        for name, kernel in (kernels | {"_flash_supports_window_size": False}).items():
            patch.setattr(of_transformers, name, kernel, raising=False)
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # upstream's bf16
        for module in modules:
            patch.setattr(module.config, "_attn_implementation", "flash_attention_2")
        yield
