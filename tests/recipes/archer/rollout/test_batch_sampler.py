"""The batch sampler draws from the distribution it is given, response by response."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from vllm import SamplingParams

from recipes.archer.rollout.batch_sampler import BatchSampler, Sampler, invert_cdf, uniforms


class _Data:
    def __init__(self, position: int):
        self.position = position

    def get_output_len(self) -> int:
        return self.position


def _metadata(parameters, positions):
    groups = [
        SimpleNamespace(seq_ids=[10 + i], sampling_params=p, seq_data={10 + i: _Data(k)})
        for i, (p, k) in enumerate(zip(parameters, positions, strict=True))
    ]
    return SimpleNamespace(seq_groups=groups, skip_sampler_cpu_output=False)


def _plain(seed: int, **changes) -> SamplingParams:
    settings = {"temperature": 1.0, "max_tokens": 64, "logprobs": 0, "seed": seed} | changes
    return SamplingParams(**settings)


def _tokens(output) -> list[int]:
    return [group.samples[0].output_token for group in output.outputs]


def test_frequencies_are_the_probabilities():
    log_probs = torch.log_softmax(torch.randn(7, generator=torch.manual_seed(0)).double(), -1)
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    counts = torch.bincount(invert_cdf(log_probs.expand(20_000, 7), uniform), minlength=7)
    assert chisquare(counts.numpy(), log_probs.exp().numpy() * 20_000).pvalue > 1e-3


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_impossible_tokens_are_never_drawn(uniform):
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    assert int(invert_cdf(logits, torch.tensor([uniform], dtype=torch.float64))) in (1, 3)


def test_log_probabilities_and_ranks_are_of_the_tempered_distribution():
    logits = torch.randn(5, 11, generator=torch.manual_seed(1))
    output = BatchSampler()(logits, _metadata([_plain(i, temperature=0.7) for i in range(5)], [0] * 5))
    expected = torch.log_softmax(logits / 0.7, -1)
    for row, group in enumerate(output.outputs):
        (token,) = group.samples[0].logprobs
        stated = group.samples[0].logprobs[token]
        assert group.samples[0].parent_seq_id == 10 + row
        assert stated.logprob == pytest.approx(float(expected[row, token]), abs=1e-6)
        assert stated.rank == 1 + int((expected[row] > expected[row, token]).sum())


def test_a_token_depends_on_seed_and_position_alone():
    logits = torch.randn(1, 50, generator=torch.manual_seed(2)).expand(6, 50).contiguous()
    seeds, positions = [3, 4, 5, 3, 4, 5], [0, 1, 2, 0, 1, 2]
    together = _tokens(BatchSampler()(logits, _metadata([_plain(s) for s in seeds], positions)))
    alone = [
        _tokens(BatchSampler()(logits[:1], _metadata([_plain(s)], [k])))[0]
        for s, k in zip(seeds, positions, strict=True)
    ]
    assert together == alone
    assert together[:3] == together[3:]
    assert not np.array_equal(uniforms(3, 64), uniforms(4, 64))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": None},
        {"temperature": 0.0},
        {"top_p": 0.9},
        {"top_k": 5},
        {"min_p": 0.1},
        {"repetition_penalty": 1.2},
        {"frequency_penalty": 0.5},
        {"logprobs": 3},
        {"prompt_logprobs": 1},
        {"min_tokens": 2},
    ],
)
def test_anything_else_goes_to_vllms_sampler(monkeypatch, change):
    monkeypatch.setattr(Sampler, "forward", lambda self, logits, metadata: "vllm's")
    parameters = [_plain(1), _plain(**({"seed": 2} | change))]
    assert BatchSampler()(torch.zeros(2, 9), _metadata(parameters, [0, 0])) == "vllm's"
