"""The sampler on the GPUs' lock, on a CPU's tensors: the numbers and tokens that the CPU's lock gives."""

import pytest
import torch

from recipes.archer.rollout.engine import SeededLLM
from recipes.archer.rollout.noise import uniforms
from sampling_steps import STEP, STEP_TOKENS, Request, replaced_sampler, same_logits, tokens
from verl.third_party.vllm import LLM

sampler = pytest.fixture(replaced_sampler)


def test_numbers_are_those_of_the_cpus_lock():
    found = uniforms(torch.tensor([1, 1, 2, 2**31 - 1]), torch.tensor([0, 1, 8191, 5]))
    assert found.tolist() == [0.7497482413580301, 0.37239342287916577, 0.8885883625983126, 0.8340453723622882]


def test_tokens_are_those_of_the_cpus_lock(sampler):
    assert tokens(sampler, same_logits(len(STEP)), STEP) == STEP_TOKENS


@pytest.mark.parametrize("change", [{}, {"top_p": 0.9}], ids=str)
def test_a_request_that_is_prefilled_again_goes_on_in_its_own_stream(sampler, change):
    """On a GPU vLLM prefills prompts in pieces, and what it had put back for want of cache as a prompt."""
    going_on = [Request(seed, 5, change) for seed in range(20)]
    again = [Request(seed, 5, change, prefill=True) for seed in range(20)]
    expected = tokens(sampler, same_logits(20), going_on)
    assert tokens(sampler, same_logits(20), [Request(99, piece=True), *again])[1:] == expected


def test_the_engine_is_vllms():
    assert issubclass(SeededLLM, LLM)
