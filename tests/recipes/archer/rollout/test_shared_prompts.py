"""A prompt that stands several times in a batch is computed once, and nobody can tell from the responses."""

import os

import pytest

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from recipes.archer.rollout.engine import SeededLLM
from recipes.archer.rollout.shared_prompts import SharedPromptRunner

BLOCK = 16
LENGTHS = [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3]
PROMPTS = [[3 + at % 50 for at in range(length)] for length in LENGTHS]  # each begins as the longer ones do
BATCH = [*PROMPTS, *PROMPTS[::-1], PROMPTS[2]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A real one, with random weights."""
    from vllm.distributed import cleanup_dist_env_and_memory

    from actor_cases import small_qwen3

    folder = tmp_path_factory.mktemp("model")
    small_qwen3(tied=True).save_pretrained(folder)
    sizes = {"max_model_len": 64, "max_num_batched_tokens": 512, "num_gpu_blocks_override": 64}
    yield SeededLLM(str(folder), skip_tokenizer_init=True, dtype="float32", enforce_eager=True, **sizes)
    cleanup_dist_env_and_memory()


def _responses(engine, prompts, monkeypatch, *, shared: bool, **changes) -> tuple[list, list[int]]:
    """(tokens and log-probabilities by response, rows that each of the model's passes computed)"""
    from vllm import SamplingParams

    rows = []
    model = engine.llm_engine.model_executor.driver_worker.worker.model_runner.model
    with monkeypatch.context() as patch:
        if not shared:
            patch.setattr(SharedPromptRunner, "_originals", lambda self, groups: list(range(len(groups))))
        hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        engine.request_seeds = range(len(prompts))
        settings = {"temperature": 1.0, "max_tokens": 12, "logprobs": 0, "detokenize": False, "ignore_eos": True}
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = engine.generate(inputs, SamplingParams(**(settings | changes)), use_tqdm=False)
        hook.remove()
    found = []
    for output in outputs:
        (response,) = output.outputs
        tokens = list(response.token_ids)
        steps = zip(response.logprobs, tokens, strict=True)
        found.append((tokens, pytest.approx([step[token].logprob for step, token in steps], abs=1e-5)))
    return found, rows


@pytest.mark.parametrize("changes", [{}, {"top_p": 0.8}, {"repetition_penalty": 1.3}, {"temperature": 0.0}], ids=str)
def test_responses_are_those_of_prompts_computed_one_by_one(engine, monkeypatch, changes):
    together, rows = _responses(engine, BATCH, monkeypatch, shared=True, **changes)
    expected, all_rows = _responses(engine, BATCH, monkeypatch, shared=False, **changes)
    assert [tokens for tokens, _ in together] == [tokens for tokens, _ in expected]
    assert [log_probs.expected for _, log_probs in together] == [log_probs for _, log_probs in expected]
    assert rows[0] == sum(LENGTHS)
    assert all_rows[0] == sum(map(len, BATCH))
    assert rows[1:] == all_rows[1:]


def test_who_asks_for_the_prompts_own_log_probabilities_has_them_computed(engine, monkeypatch):
    _, rows = _responses(engine, BATCH, monkeypatch, shared=True, prompt_logprobs=0)
    assert rows[0] == sum(map(len, BATCH))
