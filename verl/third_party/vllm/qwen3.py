"""Qwen3 for vLLM 0.7.x, which ends at Qwen2.

What Qwen3 changes over Qwen2 (Qwen3 Technical Report, arXiv 2505.09388, section 2; the reference is
``transformers.models.qwen3.modeling_qwen3``): queries and keys are RMS-normalised per head before the
rotary embedding, ``head_dim`` is a value of its own rather than ``hidden_size / num_heads``, and the
attention projections carry a bias only where ``attention_bias`` says so.  All else is inherited from vLLM's
Qwen2.  Its constructors name the classes of their parts outright, so the constructors are ours and skip
the parent's.

Drop this file when vLLM >= 0.8.5 is used: it ships the model.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.nn.functional import pad
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from vllm.attention import Attention, AttentionMetadata
from vllm.compilation.decorators import support_torch_compile
from vllm.config import CacheConfig, VllmConfig
from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.quantization import QuantizationConfig
from vllm.model_executor.layers.rotary_embedding import RotaryEmbedding
from vllm.model_executor.layers.sampler import get_sampler
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.models.qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM, Qwen2MLP, Qwen2Model
from vllm.model_executor.models.utils import (
    PPMissingLayer,
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.platforms import current_platform


def kernel_head_size(head_dim: int) -> int:
    """Head size to attend in: on CPU the smallest, not below ``head_dim``, that vLLM has kernels for (32 and up).

    On a GPU the backend is chosen, by the head size, before the model is built; there vLLM refuses small heads.
    """
    if not current_platform.is_cpu():
        return head_dim
    from vllm.attention.ops.ipex_attn import PagedAttention  # a module for CPU

    return min((size for size in PagedAttention.get_supported_head_sizes() if size >= head_dim), default=head_dim)


def check_config(config, max_model_len: int, tp_size: int) -> None:
    """Refuses what would be served wrongly.

    Raises:
        ValueError: a sliding window, or a rotary embedding whose frequencies change with the length, where the
            engine may grow that long; key-value heads that do not divide over the ranks.
    """
    window = getattr(config, "use_sliding_window", False) and getattr(config, "sliding_window", None)
    if window and max_model_len > window:
        raise ValueError(
            f"Qwen3's sliding window of {window} positions is not supported; set max_model_len to at most {window} (it "
            f"is {max_model_len}), or use_sliding_window=false in config.json"
        )
    kv_heads = config.num_key_value_heads
    if max(kv_heads, tp_size) % min(kv_heads, tp_size):
        raise ValueError(
            f"tensor_parallel_size={tp_size} neither divides Qwen3's {kv_heads} key-value heads nor is a multiple "
            "of them; choose another size"
        )
    rope_type = (config.rope_scaling or {}).get("rope_type", "default")
    unscaled = getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
    if rope_type in ("dynamic", "longrope") and max_model_len > unscaled:
        raise ValueError(
            f"rope_scaling of type {rope_type} changes the frequencies beyond {unscaled} positions, which cached keys "
            f"cannot follow; set max_model_len to at most {unscaled} (it is {max_model_len})"
        )


class Qwen3RotaryEmbedding(RotaryEmbedding):
    """Rotary embedding with the frequencies that transformers computes: those the policy is trained with.

    vLLM's own scaled variants read ``rope_scaling`` otherwise: it takes yarn's ``factor`` as it stands, where
    transformers derives it from the two context lengths, and applies dynamic scaling to short sequences too.
    """

    def __init__(self, config, max_model_len: int):
        self.config = config
        positions = max(config.max_position_embeddings, max_model_len)
        super().__init__(
            config.head_dim, config.head_dim, positions, config.rope_theta, True, torch.get_default_dtype()
        )

    def _compute_cos_sin_cache(self) -> torch.Tensor:
        """(positions, head_dim): cosines in the first half, sines in the second."""
        rope_type = (self.config.rope_scaling or {}).get("rope_type", "default")
        frequencies, attention_scaling = ROPE_INIT_FUNCTIONS[rope_type](self.config, device=None)
        angles = torch.outer(torch.arange(self.max_position_embeddings, dtype=torch.float), frequencies)
        return torch.cat((angles.cos(), angles.sin()), dim=-1) * attention_scaling


class Qwen3Attention(nn.Module):
    """Grouped-query attention with per-head RMSNorm on queries and keys."""

    def __init__(
        self,
        config,
        rotary_emb: RotaryEmbedding,
        cache_config: CacheConfig,
        quant_config: QuantizationConfig,
        prefix: str,
    ):
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            self.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * self.head_dim,
            config.hidden_size,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )
        self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.rotary_emb = rotary_emb
        heads, kv_heads = self.qkv_proj.num_heads, self.qkv_proj.num_kv_heads  # of this tensor-parallel rank
        self.qkv_sizes = [heads * self.head_dim, kv_heads * self.head_dim, kv_heads * self.head_dim]
        self.attn = Attention(
            heads,
            kernel_head_size(self.head_dim),
            self.head_dim**-0.5,
            num_kv_heads=kv_heads,
            cache_config=cache_config,
            quant_config=quant_config,
            prefix=f"{prefix}.attn",
        )
        if current_platform.is_cpu():  # eager there: no compiler from which a custom operator would have to hide it
            self.attn.use_direct_call = True

    def _norm_heads(self, norm: RMSNorm, x: torch.Tensor) -> torch.Tensor:
        # (tokens, heads * head_dim) -> the norm runs over head_dim; the copy makes the split contiguous,
        # which vLLM's fused kernels require.
        return norm(x.reshape(-1, self.head_dim).contiguous()).view(x.shape)

    def _attend(self, qkv: list[torch.Tensor], kv_cache: torch.Tensor, attn_metadata: AttentionMetadata):
        """Attention in heads of a size that vLLM has kernels for: zeros add nothing to a score or a value."""
        padding = self.attn.head_size - self.head_dim
        if padding:
            qkv = [pad(x.unflatten(-1, (-1, self.head_dim)), (0, padding)).flatten(-2) for x in qkv]
        output = self.attn(*qkv, kv_cache, attn_metadata)
        if padding:
            output = output.unflatten(-1, (-1, self.attn.head_size))[..., : self.head_dim].flatten(-2)
        return output

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: AttentionMetadata,
    ) -> torch.Tensor:
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split(self.qkv_sizes, dim=-1)
        q, k = self._norm_heads(self.q_norm, q), self._norm_heads(self.k_norm, k)
        q, k = self.rotary_emb(positions, q, k)
        output, _ = self.o_proj(self._attend([q, k, v], kv_cache, attn_metadata))
        return output


class Qwen3DecoderLayer(Qwen2DecoderLayer):
    """Qwen2's layer around Qwen3's attention."""

    def __init__(self, config, rotary_emb, cache_config, quant_config, prefix: str):
        nn.Module.__init__(self)
        self.self_attn = Qwen3Attention(config, rotary_emb, cache_config, quant_config, f"{prefix}.self_attn")
        self.mlp = Qwen2MLP(
            config.hidden_size, config.intermediate_size, config.hidden_act, quant_config, f"{prefix}.mlp"
        )
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


@support_torch_compile(
    dynamic_arg_dims={"input_ids": 0, "positions": -1, "intermediate_tensors": 0, "inputs_embeds": 0}
)
class Qwen3Model(Qwen2Model):
    """Embedding, this pipeline rank's share of the decoder layers, final norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        nn.Module.__init__(self)
        config, max_model_len = vllm_config.model_config.hf_config, vllm_config.model_config.max_model_len
        cache_config, quant_config = vllm_config.cache_config, vllm_config.quant_config
        check_config(config, max_model_len, get_tensor_model_parallel_world_size())
        cache_config.sliding_window = None  # none is reached; with one, vLLM would mask and free by it all the same
        self.config, self.quant_config = config, quant_config
        first, last = get_pp_group().is_first_rank, get_pp_group().is_last_rank
        if first or (config.tie_word_embeddings and last):
            self.embed_tokens = VocabParallelEmbedding(
                config.vocab_size, config.hidden_size, quant_config=quant_config, prefix=f"{prefix}.embed_tokens"
            )
        else:
            self.embed_tokens = PPMissingLayer()
        rotary_emb = Qwen3RotaryEmbedding(config, max_model_len)  # one for all layers: its table is large
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers,
            lambda prefix: Qwen3DecoderLayer(config, rotary_emb, cache_config, quant_config, prefix),
            prefix=f"{prefix}.layers",
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps) if last else PPMissingLayer()
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states", "residual"], config.hidden_size
        )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads named tensors, from a checkpoint or from verl's weight sync; returns the names it filled.

        Raises:
            KeyError: a tensor has no parameter to go to, so checkpoint and config disagree.
        """
        return super().load_weights(map(self._expected, weights))

    def _expected(self, weight: tuple[str, torch.Tensor]) -> tuple[str, torch.Tensor]:
        # Qwen2's loader passes over a bias that the model lacks, for the sake of GPTQ; others mean another model.
        name = weight[0]
        has_bias = self.config.attention_bias and ".self_attn." in name
        if name.endswith(".bias") and not has_bias and self.quant_config is None:
            raise KeyError(f"Qwen3: the checkpoint has {name!r}, which attention_bias in config.json rules out")
        return weight


class Qwen3ForCausalLM(Qwen2ForCausalLM):
    """Qwen3 with its language-model head, tied or not."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        nn.Module.__init__(self)
        config = vllm_config.model_config.hf_config
        self.config, self.quant_config = config, vllm_config.quant_config
        self.lora_config = vllm_config.lora_config
        head_size = kernel_head_size(config.head_dim)
        if head_size != config.head_dim:  # the cache, which is made after the model, is as wide as this says
            vllm_config.model_config.get_head_size = partial(int, head_size)
        self.model = Qwen3Model(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        if not get_pp_group().is_last_rank:
            self.lm_head = PPMissingLayer()
        elif config.tie_word_embeddings:
            self.lm_head = self.model.embed_tokens
        else:
            self.lm_head = ParallelLMHead(
                config.vocab_size,
                config.hidden_size,
                quant_config=self.quant_config,
                prefix=maybe_prefix(prefix, "lm_head"),
            )
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.sampler = get_sampler()
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors
