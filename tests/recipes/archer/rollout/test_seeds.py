"""A response's random numbers belong to it: not to its batch, its worker, earlier calls, or room in the cache."""

import os

import numpy as np
import pytest

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from recipes.archer.rollout.engine import SeededLLM, SeededRollout, install
from recipes.archer.rollout.seeds import response_seeds

PROMPTS = [[5, 9, 2, 7, 31], [10, 3], list(range(20, 33))]
NEW_TOKENS = 12
BLOCKS = 10  # of 16 tokens: room for two of the longest sequences and a half


def test_seeds_are_a_function_of_run_step_prompt_and_sample():
    seeds = response_seeds(1, 5, [3, 8], n=4)
    assert seeds.shape == (8,)
    assert np.array_equal(seeds, response_seeds(1, 5, [3, 8], n=4))
    for other in (response_seeds(2, 5, [3, 8], 4), response_seeds(1, 6, [3, 8], 4), response_seeds(1, 5, [4, 9], 4)):
        assert not set(seeds) & set(other)


def test_seeds_do_not_depend_on_what_else_is_asked_for():
    both = response_seeds(1, 5, [3, 8], n=4)
    assert np.array_equal(response_seeds(1, 5, [8, 3], n=4), np.roll(both, 4))
    assert np.array_equal(response_seeds(1, 5, [8], n=4), both[4:])
    assert np.array_equal(response_seeds(1, 5, [8], n=6)[:4], both[4:])


def test_seeds_of_a_step_are_all_different_and_fit_the_engine():
    seeds = response_seeds(1, 1, list(range(64)), n=16)
    assert len(set(seeds)) == 1024
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_validation_does_not_repeat_training():
    """Its steps are -1 - step: before training, and after step 1, 2, ..."""
    training = {seed for step in range(1, 30) for seed in response_seeds(1, step, [0, 1], 2)}
    validation = {seed for step in range(30) for seed in response_seeds(1, -1 - step, [0, 1], 2)}
    assert len(validation) == 120
    assert not training & validation


def test_verl_builds_our_classes_however_often_they_are_installed():
    import verl.workers.rollout.vllm_rollout as package
    from verl.workers.rollout.vllm_rollout import vllm_rollout_spmd

    for _ in range(2):
        install()
        assert package.vLLMRollout is SeededRollout
        assert vllm_rollout_spmd.LLM is SeededLLM


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A real one, with random weights: 3 s, the only way to see that seeds reach the sampler."""
    from vllm.distributed import cleanup_dist_env_and_memory

    from actor_cases import small_qwen3

    folder = tmp_path_factory.mktemp("model")
    small_qwen3(tied=True).save_pretrained(folder)
    yield SeededLLM(
        str(folder),
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=True,  # as verl asks for, on every device
        max_model_len=64,
        max_num_batched_tokens=256,
        num_gpu_blocks_override=BLOCKS,
    )
    cleanup_dist_env_and_memory()


def _generate(engine, prompts, seeds=None, **changes) -> list[list[int]]:
    from vllm import SamplingParams

    engine.request_seeds = seeds
    settings = {"temperature": 1.0, "max_tokens": NEW_TOKENS, "detokenize": False, "ignore_eos": True} | changes
    outputs = engine.generate(
        prompts=[{"prompt_token_ids": ids} for ids in prompts],
        sampling_params=SamplingParams(**settings),
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]


def test_a_response_does_not_depend_on_its_batch(engine):
    together = _generate(engine, PROMPTS, seeds=[11, 12, 13])
    assert together == _generate(engine, PROMPTS, seeds=[11, 12, 13])
    assert [together[i] for i in (2, 0)] == _generate(engine, [PROMPTS[2], PROMPTS[0]], seeds=[13, 11])
    assert together[1:2] == _generate(engine, PROMPTS[1:2], seeds=np.array([12]))


def test_the_same_prompt_with_other_seeds_is_another_sample(engine):
    samples = _generate(engine, [PROMPTS[0]] * 6, seeds=range(6))
    assert len({tuple(sample) for sample in samples}) == 6


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"top_p": 0.9},
        {"top_k": 20},
        {"min_p": 0.02},
        {"repetition_penalty": 1.2},
        {"presence_penalty": 0.5, "frequency_penalty": 0.5},
        {"min_tokens": 40},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_a_response_that_lost_its_place_in_the_cache_goes_on_as_it_began(engine, shape):
    """Put back, and computed again with what it had: the same tokens as alone, where there is room."""

    def put_back() -> int:
        return engine.llm_engine.scheduler[0].num_cumulative_preemption

    settings = {"max_tokens": 40} | shape
    before = put_back()
    together = _generate(engine, PROMPTS * 2, seeds=range(6), **settings)
    between = put_back()
    alone = [_generate(engine, [prompt], seeds=[i], **settings)[0] for i, prompt in enumerate(PROMPTS * 2)]
    assert put_back() == between > before
    assert together == alone


def test_n_responses_to_one_request_have_seeds_that_count_up(engine):
    from vllm import SamplingParams

    settings = SamplingParams(n=3, seed=20, temperature=1.0, max_tokens=NEW_TOKENS, detokenize=False, ignore_eos=True)
    (output,) = engine.generate([{"prompt_token_ids": PROMPTS[0]}], settings, use_tqdm=False)
    assert [list(one.token_ids) for one in output.outputs] == _generate(engine, [PROMPTS[0]] * 3, seeds=[20, 21, 22])


def test_seeds_serve_one_call_only(engine):
    _generate(engine, PROMPTS, seeds=[1, 2, 3])
    assert engine.request_seeds is None
    greedy = _generate(engine, PROMPTS, temperature=0.0)  # as many seeds as before would not fit here
    assert _generate(engine, PROMPTS[:1], temperature=0.0) == greedy[:1]


def test_the_callers_parameters_are_left_alone(engine):
    from vllm import SamplingParams

    parameters = SamplingParams(temperature=1.0, max_tokens=2, detokenize=False)
    engine.request_seeds = [4, 5]
    prompts = [{"prompt_token_ids": ids} for ids in PROMPTS[:2]]
    engine.generate(prompts=prompts, sampling_params=parameters, use_tqdm=False)
    assert parameters.seed is None
