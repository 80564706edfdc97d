"""Sampling a whole batch at once, for engines on CPU.

vLLM 0.7.3's sampler draws noise and collects log-probabilities request by request in Python, which on a host
takes longer than a small model's forward pass.  Here each response has a row of uniform numbers, a function of
its seed alone, and its k-th token inverts the cumulative distribution at the k-th of them.  The distribution is
the same; the stream of random numbers is not, so a seed gives other tokens than vLLM's own sampler.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from vllm.model_executor.layers.sampler import CompletionSequenceGroupOutput, Sampler, SamplerOutput
from vllm.sequence import Logprob, SequenceOutput


@lru_cache(maxsize=4096)
def uniforms(seed: int, length: int) -> np.ndarray:
    """(length,) uniform numbers in [0, 1) of one response."""
    return np.random.Generator(np.random.PCG64(seed)).random(length)


def invert_cdf(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """The token at which each row's cumulative distribution passes ``uniform``.

    Args:
        log_probs: (rows, vocabulary), normalised or not.
        uniform: (rows,) float64 in [0, 1).

    Returns:
        (rows,) token ids, never one of probability 0.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform[:, None] * total, right=True).clamp(max=log_probs.shape[1] - 1)[:, 0]


def _is_plain(parameters) -> bool:
    """Nothing but temperature shapes the distribution, and only the sampled token's log-probability is wanted."""
    return (
        parameters.seed is not None
        and parameters.n == 1
        and parameters.max_tokens is not None
        and parameters.temperature >= 1e-5  # below, vLLM decodes greedily
        and parameters.top_p == 1.0
        and parameters.top_k in (-1, 0)
        and parameters.min_p == 0.0
        and parameters.repetition_penalty == 1.0
        and parameters.presence_penalty == 0.0
        and parameters.frequency_penalty == 0.0
        and parameters.min_tokens == 0
        and not parameters.logits_processors
        and parameters.logprobs in (None, 0)
        and parameters.prompt_logprobs is None
    )


class BatchSampler(Sampler):
    """vLLM's sampler, with a path of its own for batches in which every request is plain and seeded."""

    def forward(self, logits: Tensor, sampling_metadata) -> SamplerOutput:
        """Next tokens of ``logits``, (requests, vocabulary), with their log-probabilities and ranks."""
        groups = sampling_metadata.seq_groups
        if self.include_gpu_probs_tensor or sampling_metadata.skip_sampler_cpu_output or len(groups) != len(logits):
            return super().forward(logits, sampling_metadata)
        if not all(len(group.seq_ids) == 1 and _is_plain(group.sampling_params) for group in groups):
            return super().forward(logits, sampling_metadata)
        return _sample(logits, groups)


def _sample(logits: Tensor, groups) -> SamplerOutput:
    temperature = torch.tensor([group.sampling_params.temperature for group in groups])
    log_probs = torch.log_softmax(logits.float() / temperature[:, None], dim=-1)
    drawn = []
    for group in groups:
        parameters = group.sampling_params
        position = next(iter(group.seq_data.values())).get_output_len()
        drawn.append(uniforms(parameters.seed, parameters.max_tokens)[position])
    tokens = invert_cdf(log_probs, torch.from_numpy(np.array(drawn)))
    chosen = log_probs.gather(1, tokens[:, None])
    ranks = (log_probs > chosen).sum(-1) + 1
    outputs = [
        CompletionSequenceGroupOutput([SequenceOutput(group.seq_ids[0], token, {token: Logprob(value, rank)})], None)
        for group, token, value, rank in zip(
            groups, tokens.tolist(), chosen[:, 0].tolist(), ranks.tolist(), strict=True
        )
    ]
    return SamplerOutput(outputs=outputs)
