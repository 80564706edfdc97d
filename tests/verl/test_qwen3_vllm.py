"""Our Qwen3 in vLLM against transformers': same greedy tokens, same log-probabilities, also after a weight sync.

Each shape builds a real engine (2-3 s): the one check that the served policy is the trained one.
"""

import os
import subprocess
import sys

import pytest
import torch

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

SHAPES = {
    "tied, grouped queries, head_dim of its own": {},
    "untied, one key-value head each": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "attention bias, one key-value head": {"attention_bias": True, "num_key_value_heads": 1, "head_dim": 32},
    "linear rope scaling": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "yarn rope scaling": {
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
        "max_position_embeddings": 128,
    },
}
PROMPTS = [[5, 9, 2, 77, 31], [100, 3], list(range(20, 45))]
NEW_TOKENS = 24
# fp32 on both sides; the kernels add in another order, which over some layers gives 1e-5 or so
TOLERANCE = 1e-3


def tiny_qwen3(seed: int, **changes):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {
        "vocab_size": 160,
        "hidden_size": 96,
        "intermediate_size": 176,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "sliding_window": None,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(**(settings | changes))).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # larger than at initialisation, and norms away from one, so that an error cannot hide
            if "norm" in name or name.endswith("bias"):
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            else:
                parameter.mul_(4.0)
    return model


def greedy_and_log_probs(model, prompt):
    """Greedy continuation and the log-probability of each of its tokens, by plain forward passes."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        log_probs = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    new = ids[0, len(prompt) :]
    return new.tolist(), log_probs.gather(-1, new[:, None])[:, 0]


def engine_answers(llm):
    from vllm import SamplingParams

    parameters = SamplingParams(
        temperature=0, max_tokens=NEW_TOKENS, logprobs=0, detokenize=False, ignore_eos=True
    )
    outputs = llm.generate(
        [{"prompt_token_ids": p} for p in PROMPTS], sampling_params=parameters, use_tqdm=False
    )
    for output in outputs:
        answer = output.outputs[0]
        tokens = list(answer.token_ids)
        yield tokens, torch.tensor([step[t].logprob for step, t in zip(answer.logprobs, tokens, strict=True)])


def assert_same(model, llm):
    for prompt, (tokens, log_probs) in zip(PROMPTS, engine_answers(llm), strict=True):
        expected_tokens, expected = greedy_and_log_probs(model, prompt)
        assert tokens == expected_tokens
        torch.testing.assert_close(log_probs, expected, atol=TOLERANCE, rtol=0)


def build_engine(model, folder):
    from vllm import LLM

    model.save_pretrained(folder)
    return LLM(
        str(folder),
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=model.config.max_position_embeddings,
        max_num_batched_tokens=1024,
    )


@pytest.fixture(autouse=True)
def release_engine():
    yield
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_engine_agrees_with_transformers_before_and_after_a_weight_sync(changes, tmp_path):
    from verl.third_party.vllm import register_qwen3

    assert register_qwen3()
    model = tiny_qwen3(seed=0, **changes)
    llm = build_engine(model, tmp_path)
    assert_same(model, llm)

    changed = tiny_qwen3(seed=1, **changes)
    runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner
    loaded = runner.model.load_weights(iter(changed.state_dict().items()))
    assert loaded == set(dict(runner.model.named_parameters())), "a parameter kept its old value"
    assert_same(changed, llm)


def test_an_unknown_checkpoint_tensor_is_refused(tmp_path):
    model = tiny_qwen3(seed=0)
    llm = build_engine(model, tmp_path)
    runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner
    with pytest.raises((KeyError, ValueError), match="surprise"):
        runner.model.load_weights([("model.layers.0.self_attn.surprise.weight", torch.zeros(1))])


def test_plain_vllm_finds_the_model_through_the_plugin(tmp_path):
    """A process that never heard of verl or of this project builds an engine for a Qwen3 checkpoint."""
    model = tiny_qwen3(seed=0)
    model.save_pretrained(tmp_path)
    script = (
        "from vllm import LLM, SamplingParams\n"
        f"llm = LLM({str(tmp_path)!r}, skip_tokenizer_init=True, dtype='float32', enforce_eager=True,"
        " max_model_len=128)\n"
        f"out = llm.generate([{{'prompt_token_ids': {PROMPTS[0]}}}], sampling_params=SamplingParams("
        f"temperature=0, max_tokens={NEW_TOKENS}, detokenize=False, ignore_eos=True), use_tqdm=False)\n"
        "print('TOKENS', list(out[0].outputs[0].token_ids))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/", timeout=120)
    expected, _ = greedy_and_log_probs(model, PROMPTS[0])
    assert f"TOKENS {expected}" in done.stdout, done.stderr[-2000:]
