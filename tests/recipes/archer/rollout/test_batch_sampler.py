"""The batch sampler draws from the distribution it is given, response by response, however vLLM shapes it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from vllm.model_executor.layers import sampler as vllm_sampler

from recipes.archer.rollout import batch_sampler
from recipes.archer.rollout.batch_sampler import BatchSampler, Sampler, invert_cdf
from recipes.archer.rollout.noise import uniforms
from sampling_steps import STEP, STEP_TOKENS, Request, metadata, replaced_sampler, same_logits, tokens

sampler = pytest.fixture(replaced_sampler)

# what vLLM's sampler shapes; the seed and its noise stay the request's
SHAPED = [
    {"top_p": 0.9},
    {"top_k": 5},
    {"min_p": 0.1},
    {"repetition_penalty": 1.2},
    {"presence_penalty": 0.5},
    {"frequency_penalty": 0.5},
    {"min_tokens": 2},
    {"logprobs": 3},
]


@pytest.fixture(params=[0, 1024], ids=["in blocks", "at once"])
def way(monkeypatch, request):
    """Both of adding up, whatever the size."""
    monkeypatch.setattr(batch_sampler, "_SMALL", request.param)


@pytest.mark.parametrize("size", [7, 128, 300])
def test_frequencies_are_the_probabilities(way, size):
    """In a vocabulary of less than a block, of one, and of two and a piece."""
    weights = torch.randn(size, generator=torch.manual_seed(0)).exp()
    drawn = invert_cdf(weights.expand(50_000, size), uniforms(torch.arange(50_000), torch.zeros(50_000).long()))
    counts = torch.bincount(drawn, minlength=size)
    assert chisquare(counts.numpy(), (weights.double() / weights.double().sum() * 50_000).numpy()).pvalue > 1e-3


def test_a_token_is_the_one_at_which_the_whole_sum_passes_the_number(way):
    weights = torch.randn(2_000, 300, generator=torch.manual_seed(4)).mul(3).exp()
    uniform = torch.rand(2_000, generator=torch.manual_seed(5)).double()
    cumulative = weights.double().cumsum(-1)
    expected = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    assert torch.equal(invert_cdf(weights, uniform), expected)


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("possible", [(1, 3), (127, 128), (200, 299)])
def test_impossible_tokens_are_never_drawn(way, possible, uniform):
    weights = torch.zeros(1, 300)
    weights[0, list(possible)] = 1.0
    assert int(invert_cdf(weights, torch.tensor([uniform], dtype=torch.float64))) in possible


def test_what_a_broken_model_says_is_a_token_all_the_same(way):
    drawn = invert_cdf(torch.full((2, 300), torch.nan), torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert ((drawn >= 0) & (drawn < 300)).all()


def test_log_probabilities_and_ranks_are_of_the_tempered_distribution(sampler):
    logits = torch.randn(5, 11, generator=torch.manual_seed(1))
    output = sampler(logits, metadata([Request(i, changes={"temperature": 0.7}) for i in range(5)]))
    expected = torch.log_softmax(logits / 0.7, -1)
    for row, group in enumerate(output.outputs):
        (token,) = group.samples[0].logprobs
        stated = group.samples[0].logprobs[token]
        assert group.samples[0].parent_seq_id == 10 + row
        assert stated.logprob == pytest.approx(float(expected[row, token]), abs=1e-6)
        assert stated.rank == 1 + int((expected[row] > expected[row, token]).sum())


@pytest.mark.parametrize("change", [{}, *SHAPED], ids=str)
def test_a_token_depends_on_seed_and_position_alone(sampler, change):
    """Not on what else is in the step: prefills, a request's second or a piece of one, greedy and seedless ones."""
    wanted = [Request(seed, k, change) for seed, k in ((3, 0), (4, 6), (5, 7), (3, 6))]
    alone = [tokens(sampler, same_logits(1), [request])[0] for request in wanted]
    others = [Request(8, piece=True), Request(9, 0, {"temperature": 0.0}), Request(None), Request(6, 2, {"top_p": 0.5})]
    again = [Request(request.seed, request.position, change, prefill=True) for request in wanted]
    assert tokens(sampler, same_logits(99), [*others, *again, *wanted])[4:] == [*alone, *alone]
    assert tokens(sampler, same_logits(99), [Request(7, 1), others[0], *wanted[::-1]])[2:] == alone[::-1]
    assert len(set(tokens(sampler, same_logits(99), [Request(3, k, change) for k in range(20)]))) > 2


@pytest.mark.parametrize("change", [{"top_p": 0.8}, {"top_k": 3}, {"min_p": 0.3}, {"repetition_penalty": 1.5}], ids=str)
def test_what_vllm_shapes_is_what_is_drawn_from(sampler, monkeypatch, change):
    """Frequencies over seeds are the probabilities that vLLM hands to its own drawing."""
    seen = []
    ours = vllm_sampler._multinomial
    monkeypatch.setattr(vllm_sampler, "_multinomial", lambda p, *a, **k: seen.append(p.clone()) or ours(p, *a, **k))
    drawn = tokens(sampler, same_logits(4_000, 9), [Request(seed, 4, change) for seed in range(4_000)])
    expected = seen[0][0].double().numpy()
    counts = np.bincount(drawn, minlength=9)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], expected[possible] / expected.sum() * 4_000).pvalue > 1e-3


def test_greedy_requests_get_the_likeliest_token(sampler):
    logits = torch.randn(3, 20, generator=torch.manual_seed(6))
    requests = [Request(1, 0, {"temperature": 0.0}), Request(2), Request(None, 0, {"temperature": 0.0})]
    found = tokens(sampler, logits, requests)
    assert [found[0], found[2]] == logits[[0, 2]].argmax(-1).tolist()


def test_requests_without_a_seed_are_drawn_by_vllm(sampler):
    """With torch's own generator: other numbers at every step."""
    torch.manual_seed(0)
    first = tokens(sampler, same_logits(40), [Request(None)] * 40)
    assert first != tokens(sampler, same_logits(40), [Request(None)] * 40)
    torch.manual_seed(0)
    assert first == tokens(sampler, same_logits(40), [Request(None)] * 40)


@pytest.mark.parametrize("change", [{"seed": None}, {"temperature": 0.0}, {"prompt_logprobs": 1}, *SHAPED], ids=str)
def test_what_is_not_plain_is_shaped_by_vllms_sampler(sampler, monkeypatch, change):
    monkeypatch.setattr(Sampler, "forward", lambda self, logits, metadata: "vllm's")
    other = Request(change.get("seed", 2), changes=change)
    assert sampler(torch.zeros(2, 9), metadata([Request(1), other])) == "vllm's"
    assert sampler(torch.zeros(2, 9), metadata([Request(1), Request(2)])) != "vllm's"


def test_a_step_of_all_kinds_of_requests_gives_the_tokens_it_always_gave(sampler):
    """Of which ``tests/gpu_stack`` says the same: one seed means one response on every machine, and tomorrow."""
    assert tokens(sampler, same_logits(len(STEP)), STEP) == STEP_TOKENS


def test_a_step_that_only_computes_a_piece_of_a_prompt_draws_nothing(sampler):
    assert tokens(sampler, torch.zeros(0, 9), [Request(1, piece=True)]) == [None]


def test_every_engine_samples_here(monkeypatch):
    """On a GPU as on a CPU."""
    from recipes.archer.rollout import engine

    monkeypatch.setattr(vllm_sampler, "_multinomial", vllm_sampler._multinomial)
    model = SimpleNamespace()
    runner = SimpleNamespace(worker=SimpleNamespace(model_runner=SimpleNamespace(model=model)))
    executor = SimpleNamespace(driver_worker=runner)

    def build(llm, **_):
        llm.llm_engine = SimpleNamespace(model_executor=executor)

    monkeypatch.setattr(engine.LLM, "__init__", build)
    monkeypatch.setattr(engine, "get_device_name", lambda: "cuda")
    engine.SeededLLM(model="m")
    assert isinstance(model.sampler, BatchSampler)


def test_vllms_other_engine_is_refused(monkeypatch):
    from recipes.archer.ending import UserError
    from recipes.archer.rollout.engine import SeededLLM

    monkeypatch.setenv("VLLM_USE_V1", "1")
    with pytest.raises(UserError, match="VLLM_USE_V1"):
        SeededLLM(model="m")
