"""Qwen3 for vLLM 0.7.x, which ends at Qwen2.

What Qwen3 changes over Qwen2 (Qwen3 Technical Report, arXiv 2505.09388, section 2; the reference is
``transformers.models.qwen3.modeling_qwen3``): queries and keys are RMS-normalised per head before the
rotary embedding, ``head_dim`` is a value of its own rather than ``hidden_size / num_heads``, and the
attention projections carry a bias only where ``attention_bias`` says so.  MLP, norms and the stacking of
``q,k,v`` and ``gate,up`` are Qwen2's, so vLLM's own Qwen2 layers are used for them.

Drop this file when vLLM >= 0.8.5 is used: it ships the model.
"""

from collections.abc import Iterable

import torch
from torch import nn
from vllm.attention import Attention, AttentionMetadata
from vllm.compilation.decorators import support_torch_compile
from vllm.config import CacheConfig, VllmConfig
from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.quantization import QuantizationConfig
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.sampler import SamplerOutput, get_sampler
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import default_weight_loader, maybe_remap_kv_scale_name
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsPP
from vllm.model_executor.models.qwen2 import Qwen2MLP
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    PPMissingLayer,
    is_pp_missing_parameter,
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.model_executor.sampling_metadata import SamplingMetadata
from vllm.sequence import IntermediateTensors

# checkpoint name -> (packed parameter, which shard of it)
STACKED = {
    "q_proj": ("qkv_proj", "q"),
    "k_proj": ("qkv_proj", "k"),
    "v_proj": ("qkv_proj", "v"),
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}


def _heads_per_rank(config, tp_size: int) -> tuple[int, int]:
    """(query heads, key-value heads) of one tensor-parallel rank; key-value heads are replicated when few.

    Raises:
        ValueError: the heads do not divide over ``tensor_model_parallel_size`` ranks.
    """
    num_heads, num_kv_heads = config.num_attention_heads, config.num_key_value_heads
    if num_heads % tp_size or max(num_kv_heads, tp_size) % min(num_kv_heads, tp_size):
        raise ValueError(
            f"tensor_model_parallel_size={tp_size} does not divide Qwen3's {num_heads} attention heads and "
            f"{num_kv_heads} key-value heads; choose a size that divides both or is a multiple of the latter"
        )
    return num_heads // tp_size, max(1, num_kv_heads // tp_size)


class Qwen3Attention(nn.Module):
    """Grouped-query attention with per-head RMSNorm on queries and keys."""

    def __init__(self, config, cache_config: CacheConfig, quant_config: QuantizationConfig, prefix: str):
        super().__init__()
        num_heads, num_kv_heads = _heads_per_rank(config, get_tensor_model_parallel_world_size())
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.q_size, self.kv_size = num_heads * self.head_dim, num_kv_heads * self.head_dim
        bias = getattr(config, "attention_bias", False)
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            self.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=bias,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * self.head_dim,
            config.hidden_size,
            bias=bias,
            quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )
        self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.rotary_emb = get_rope(
            self.head_dim,
            rotary_dim=self.head_dim,
            max_position=config.max_position_embeddings,
            base=getattr(config, "rope_theta", 1_000_000),
            rope_scaling=getattr(config, "rope_scaling", None),
        )
        self.attn = Attention(
            num_heads,
            self.head_dim,
            self.head_dim**-0.5,
            num_kv_heads=num_kv_heads,
            cache_config=cache_config,
            quant_config=quant_config,
            prefix=f"{prefix}.attn",
        )

    def _norm_heads(self, norm: RMSNorm, x: torch.Tensor) -> torch.Tensor:
        # (tokens, heads * head_dim) -> the norm runs over head_dim; the copy makes the split contiguous,
        # which vLLM's fused kernels require.
        return norm(x.reshape(-1, self.head_dim).contiguous()).view(x.shape)

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: AttentionMetadata,
    ) -> torch.Tensor:
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = self._norm_heads(self.q_norm, q), self._norm_heads(self.k_norm, k)
        q, k = self.rotary_emb(positions, q, k)
        output, _ = self.o_proj(self.attn(q, k, v, kv_cache, attn_metadata))
        return output


class Qwen3DecoderLayer(nn.Module):
    """Pre-norm decoder layer; the residual is carried along un-normed, as vLLM's fused norm wants it."""

    def __init__(self, config, cache_config: CacheConfig, quant_config: QuantizationConfig, prefix: str):
        super().__init__()
        self.self_attn = Qwen3Attention(config, cache_config, quant_config, f"{prefix}.self_attn")
        self.mlp = Qwen2MLP(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            quant_config=quant_config,
            prefix=f"{prefix}.mlp",
        )
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: AttentionMetadata,
        residual: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if residual is None:
            residual, hidden_states = hidden_states, self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions, hidden_states, kv_cache, attn_metadata)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


@support_torch_compile(
    dynamic_arg_dims={"input_ids": 0, "positions": -1, "intermediate_tensors": 0, "inputs_embeds": 0}
)
class Qwen3Model(nn.Module):
    """Embedding, this pipeline rank's share of the decoder layers, final norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        config = vllm_config.model_config.hf_config
        cache_config, quant_config = vllm_config.cache_config, vllm_config.quant_config
        if getattr(config, "use_sliding_window", False):
            raise ValueError("Qwen3 with use_sliding_window=true is not supported; set it to false in config.json")
        self.config, self.quant_config = config, quant_config
        first, last = get_pp_group().is_first_rank, get_pp_group().is_last_rank
        if first or (config.tie_word_embeddings and last):
            self.embed_tokens = VocabParallelEmbedding(
                config.vocab_size, config.hidden_size, quant_config=quant_config, prefix=f"{prefix}.embed_tokens"
            )
        else:
            self.embed_tokens = PPMissingLayer()
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers,
            lambda prefix: Qwen3DecoderLayer(config, cache_config, quant_config, prefix),
            prefix=f"{prefix}.layers",
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps) if last else PPMissingLayer()
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states", "residual"], config.hidden_size
        )

    def get_input_embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        kv_caches: list[torch.Tensor],
        attn_metadata: AttentionMetadata,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        if get_pp_group().is_first_rank:
            hidden_states = inputs_embeds if inputs_embeds is not None else self.embed_tokens(input_ids)
            residual = None
        else:
            hidden_states = intermediate_tensors["hidden_states"]
            residual = intermediate_tensors["residual"]
        for layer, kv_cache in zip(self.layers[self.start_layer : self.end_layer], kv_caches, strict=True):
            hidden_states, residual = layer(positions, hidden_states, kv_cache, attn_metadata, residual)
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"hidden_states": hidden_states, "residual": residual})
        hidden_states, _ = self.norm(hidden_states, residual)
        return hidden_states

    def _target(self, name: str) -> tuple[str, tuple]:
        """Parameter that a checkpoint tensor goes into, and the shard arguments of its loader."""
        for part, (packed, shard) in STACKED.items():
            if f".{part}." in name:
                return name.replace(f".{part}.", f".{packed}."), (shard,)
        return name, ()

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads named tensors, from a checkpoint or from verl's weight sync; returns the names it filled.

        Raises:
            KeyError: a tensor has no parameter to go to, so checkpoint and config disagree.
        """
        params = dict(self.named_parameters(remove_duplicate=False))
        loaded = set()
        for name, tensor in weights:
            if "rotary_emb.inv_freq" in name:  # a buffer that old checkpoints carry
                continue
            target, shard = self._target(name)
            if target not in params:
                target = maybe_remap_kv_scale_name(target, params)
            if target is None or is_pp_missing_parameter(target, self):
                continue
            if target not in params:
                raise KeyError(f"Qwen3: the model has no parameter for the checkpoint's {name!r}")
            param = params[target]
            getattr(param, "weight_loader", default_weight_loader)(param, tensor, *shard)
            loaded.add(target)
        return loaded


class Qwen3ForCausalLM(nn.Module, SupportsLoRA, SupportsPP):
    """Qwen3 with its language-model head, tied or not."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    supported_lora_modules = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    embedding_modules = {}
    embedding_padding_modules = []

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.config, self.quant_config = config, vllm_config.quant_config
        self.lora_config = vllm_config.lora_config
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

    def get_input_embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        kv_caches: list[torch.Tensor],
        attn_metadata: AttentionMetadata,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        return self.model(input_ids, positions, kv_caches, attn_metadata, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor, sampling_metadata: SamplingMetadata) -> torch.Tensor:
        return self.logits_processor(self.lm_head, hidden_states, sampling_metadata)

    def sample(self, logits: torch.Tensor, sampling_metadata: SamplingMetadata) -> SamplerOutput:
        return self.sampler(logits, sampling_metadata)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads a whole state dict; with tied embeddings the head's copy is skipped."""
        skip = ["lm_head."] if self.config.tie_word_embeddings else None
        return AutoWeightsLoader(self, skip_prefixes=skip).load_weights(weights)
