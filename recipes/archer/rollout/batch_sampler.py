"""Sampling a whole batch at once, each response with the random numbers of its own seed (``noise.py``).

vLLM 0.7.3 keeps a generator for every request that has a seed, draws row by row, and goes wrong twice: a request that
is put back for want of cache begins its generator anew when it is computed again, so its noise repeats; and a prompt
that is computed in pieces shifts the generators of the requests after it.  Then a response is no function of its
seed.  Here one number a row, a hash of seed and position, inverts the cumulative distribution.  The distribution is the
same; the random numbers are not, so a seed gives other tokens than vLLM's own sampler.

Two ways lead there.  Where temperature alone shapes the distribution, as in training, all of a step is done here:
vLLM's own way collects log-probabilities request by request in Python, which on a host takes longer than a small
model's forward pass.  Everything else (top-p, top-k, min-p, penalties, min_tokens, further log-probabilities, greedy
requests, requests without a seed) is shaped by vLLM's sampler, and only its drawing for requests with a seed is ours.
"""

import torch
from torch import Tensor
from vllm.model_executor.layers import sampler as vllm_sampler
from vllm.model_executor.layers.sampler import CompletionSequenceGroupOutput, Sampler, SamplerOutput
from vllm.sequence import Logprob, SequenceOutput

from recipes.archer.rollout.noise import uniforms

_BLOCK = 128  # tokens; divides Qwen3's vocabulary
_SMALL = 1024  # tokens of a vocabulary that is added up at once, as fewer calls are faster
_draw_unseeded = vllm_sampler._multinomial


def take_over(model) -> None:
    """Makes a model of vLLM's sample here; a second time changes nothing."""
    model.sampler = BatchSampler()
    vllm_sampler._multinomial = _draw_with_seeds  # looked up by name at every step
    vllm_sampler.flashinfer_top_k_top_p_sampling = None  # it would draw by itself, with vLLM's generators


def invert_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """The token at which each row's cumulative distribution passes ``uniform``.

    Args:
        weights: (rows, vocabulary) float32, probabilities up to a factor a row.
        uniform: (rows,) float64 in [0, 1).

    Returns:
        (rows,) token ids, never one of weight 0.
    """
    size = weights.shape[1]
    if size <= _SMALL and weights.device.type == "cpu":  # it adds up in order: a weight of 0 passes nothing
        cumulative = weights.cumsum(-1, dtype=torch.float64)
        column = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
        return column[:, 0].clamp(max=size - 1)
    if size <= _SMALL:
        return _passed(weights.double(), uniform)[0]
    whole = size // _BLOCK
    blocks = weights[:, : whole * _BLOCK].unflatten(1, (whole, _BLOCK))  # (rows, whole, _BLOCK), not copied
    sums = torch.cat((blocks.sum(-1), weights[:, whole * _BLOCK :].sum(-1, keepdim=True)), dim=1).double()
    block, rest = _passed(sums, uniform)
    tokens = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)  # (rows, _BLOCK)
    inside = weights.gather(1, tokens.clamp(max=size - 1)).masked_fill(tokens >= size, 0).double()
    return block * _BLOCK + _passed(inside, rest)[0]


def _passed(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """(rows,) columns in which the cumulative sum passes ``uniform``; and how far into them, as a share of them."""
    cumulative = weights.cumsum(-1)
    goal = uniform[:, None] * cumulative[:, -1:]
    # the first such column: a GPU adds up in pieces, whose last digits may let a column of weight 0 pass
    column = ((cumulative > goal) & (weights > 0)).to(torch.uint8).argmax(-1, keepdim=True)
    share = 1 - (cumulative.gather(1, column) - goal) / weights.gather(1, column)
    return column[:, 0], share[:, 0].clamp(0, 1 - 2.0**-53)


def _numbers(groups, device) -> Tensor:
    """(rows,) uniform numbers of the groups' next tokens."""
    keys = [
        (group.sampling_params.seed, group.seq_data[sequence].get_output_len())
        for group in groups
        for sequence in group.seq_ids
    ]
    seeds, positions = torch.tensor(keys, dtype=torch.int64).reshape(-1, 2).T.to(device)
    return uniforms(seeds, positions)


def _draw_with_seeds(probabilities: Tensor, num_samples: int, seq_groups=None) -> Tensor:
    """vLLM's ``_multinomial``: (rows, 1) tokens; ``seq_groups``, some of them without a row, where all have seeds."""
    if seq_groups is None:
        return _draw_unseeded(probabilities, num_samples)
    assert num_samples == 1  # the engine makes n requests, with seeds that count up, of one for n responses
    sampled = [group for group in seq_groups if group.do_sample]
    return invert_cdf(probabilities, _numbers(sampled, probabilities.device))[:, None]


def _is_plain(parameters) -> bool:
    """Nothing but temperature shapes the distribution, and only the sampled token's log-probability is wanted."""
    return (
        parameters.seed is not None
        and parameters.temperature >= 1e-5  # below, vLLM decodes greedily
        and parameters.top_p == 1.0
        and parameters.top_k in (-1, 0)
        and parameters.min_p == 0.0
        and parameters.repetition_penalty == 1.0
        and parameters.presence_penalty == 0.0
        and parameters.frequency_penalty == 0.0
        and parameters.min_tokens == 0
        and parameters.logprobs in (None, 0)
        and parameters.prompt_logprobs is None
    )


class BatchSampler(Sampler):
    """vLLM's sampler, with a path of its own for batches in which every request is plain and seeded."""

    def forward(self, logits: Tensor, sampling_metadata) -> SamplerOutput:
        """Next tokens of ``logits``, (rows, vocabulary), with their log-probabilities and ranks."""
        groups = sampling_metadata.seq_groups
        rows = sum(len(group.seq_ids) for group in groups if group.do_sample)
        if self.include_gpu_probs_tensor or sampling_metadata.skip_sampler_cpu_output or rows != len(logits):
            return super().forward(logits, sampling_metadata)
        if not all(_is_plain(group.sampling_params) for group in groups):
            return super().forward(logits, sampling_metadata)
        return _sample(logits, groups)


def _sample(logits: Tensor, groups) -> SamplerOutput:
    sampled = [group for group in groups if group.do_sample]  # not those whose prompt is computed up to its middle
    temperature = torch.tensor([group.sampling_params.temperature for group in sampled], dtype=torch.float32)
    log_probs = torch.log_softmax(logits.float() / temperature[:, None].to(logits.device), dim=-1)
    tokens = invert_cdf(log_probs.exp(), _numbers(sampled, logits.device))
    chosen = log_probs.gather(1, tokens[:, None])
    ranks = (log_probs > chosen).sum(-1) + 1
    drawn = zip(tokens.tolist(), chosen[:, 0].tolist(), ranks.tolist(), strict=True)
    return SamplerOutput(outputs=[_output(group, drawn) for group in groups])


def _output(group, drawn) -> CompletionSequenceGroupOutput:
    if not group.do_sample:
        return CompletionSequenceGroupOutput([], None)
    token, value, rank = next(drawn)
    return CompletionSequenceGroupOutput([SequenceOutput(group.seq_ids[0], token, {token: Logprob(value, rank)})], None)
