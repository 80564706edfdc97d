"""A real engine: a response depends on its prompt and its seed, and on nothing that is drawn beside it."""

import pytest

from recipes.archer.evaluation.drawing import Request
from recipes.archer.evaluation.plan import Sampling

END = 1
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_USE_V1": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    import torch

    from qwen3_cases import tiny_qwen3

    folder, threads = tmp_path_factory.mktemp("model"), torch.get_num_threads()
    tiny_qwen3(0).save_pretrained(folder)
    write_tokenizer(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        from recipes.archer.evaluation.engine import Engine

        engine = Engine(folder, "cpu", 64)
        yield engine
        engine.close()
    torch.set_num_threads(threads)  # vLLM changes it for good


def write_tokenizer(folder) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": END} | {f"w{i}": i for i in range(2, 151)}, "<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>").save_pretrained(folder)


REQUESTS = [Request(number, tuple(range(2, 4 + number % 3)), 1000 + number) for number in range(6)]


def drawn(engine, requests, **changes) -> dict:
    settings = {"n": 4, "temperature": 1.5, "top_p": 1.0, "max_tokens": 10, "seed": 0} | changes
    steps = list(engine.respond(requests, Sampling(**settings), [END]))
    assert all(steps)
    return {response.number: (response.token_ids, response.ended) for step in steps for response in step}


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_response_does_not_depend_on_what_is_drawn_beside_it(engine, top_p):
    whole = drawn(engine, REQUESTS, top_p=top_p)
    assert len(set(whole.values())) > 3
    assert drawn(engine, REQUESTS[::-1], top_p=top_p) == whole
    assert {k: v for part in (REQUESTS[:1], REQUESTS[1:]) for k, v in drawn(engine, part, top_p=top_p).items()} == whole


def test_a_response_ends_at_a_stop_token_or_at_the_cap(engine):
    for tokens, ended in drawn(engine, REQUESTS, max_tokens=6).values():
        assert ended == (tokens[-1] == END)
        assert len(tokens) == 6 or ended
        assert END not in tokens[:-1]


def test_greedy_is_greedy(engine):
    found = drawn(engine, [Request(i, (5, 6, 7), i) for i in range(3)], temperature=0.0)
    assert len(set(found.values())) == 1
