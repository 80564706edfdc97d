"""Our Qwen3 in vLLM against transformers': same greedy tokens, same log-probabilities, also after a weight sync.

Each case builds a real engine, which takes less than a second: its cache is small, and the process and its
imports are shared.
"""

import pytest
import torch

from qwen3_cases import (
    assert_greedy,
    build_engine,
    generate,
    served,
    sync,
    tiny_qwen3,
    update_worker,
)


def heads(queries: int, keys: int, head_dim: int) -> dict:
    return {"num_attention_heads": queries, "num_key_value_heads": keys, "head_dim": head_dim}


def rope(kind: str, **settings) -> dict:
    return {"rope_scaling": {"rope_type": kind, **settings}}


SHAPES = {
    "tied, grouped queries": {},
    "untied, a key-value head each": {"tie_word_embeddings": False, **heads(4, 4, 32)},
    "attention bias, one key-value head": {"attention_bias": True, **heads(4, 1, 64)},
    "one layer, one head": {"num_hidden_layers": 1, "vocab_size": 67, **heads(1, 1, 128)},
    "a window that is not reached": {"use_sliding_window": True, "sliding_window": 256, "max_window_layers": 1},
    "a window that is not used": {"sliding_window": 4096, "vocab_size": 1009},
    "odd heads": {"tie_word_embeddings": False, **heads(5, 5, 80)},
    "head size without a kernel, 16": {"hidden_size": 72, "attention_bias": True, **heads(9, 3, 16)},
    "head size without a kernel, 104": heads(7, 1, 104),
    "linear": rope("linear", factor=2.0),
    "dynamic, within its context": rope("dynamic", factor=2.0),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=64),
    # transformers takes the factor from the two lengths, 2.0
    "yarn, factor at odds with the lengths": rope("yarn", factor=4.0, original_max_position_embeddings=128),
    "llama3": rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
    ),
}
# 8 bits of mantissa and other orders of addition: 0.07 at most was seen over these shapes and ten more
BF16 = {"tolerance": 0.2, "tie": 0.2}


@pytest.fixture(scope="module", autouse=True)
def release_engine(vllm_environment):
    yield
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_engine_agrees_with_transformers_before_and_after_a_weight_sync(changes, tmp_path):
    model, changed = tiny_qwen3(seed=0, **changes), tiny_qwen3(seed=1, **changes)
    llm = build_engine(model, tmp_path)
    assert_greedy(model, generate(llm))
    sync(llm, changed)
    assert_greedy(changed, generate(llm))


@pytest.mark.parametrize("shape", ["tied, grouped queries", "head size without a kernel, 16", "odd heads"])
def test_engine_agrees_in_bf16_and_takes_fp32_weights(shape, tmp_path):
    model, changed = (tiny_qwen3(seed, torch.bfloat16, **SHAPES[shape]) for seed in (0, 1))
    llm = build_engine(model, tmp_path)
    assert_greedy(model, generate(llm), **BF16)
    sync(llm, tiny_qwen3(1, torch.float32, **SHAPES[shape]))
    assert_greedy(changed, generate(llm), **BF16)


def test_a_weight_sync_fills_every_parameter(tmp_path):
    for tied in (True, False):
        model = tiny_qwen3(seed=0, tie_word_embeddings=tied, attention_bias=True)
        target = served(build_engine(model, tmp_path / str(tied)))
        assert target.load_weights(iter(model.state_dict().items())) == set(dict(target.named_parameters()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.self_attn.surprise.weight", "surprise"),
        ("model.layers.0.self_attn.q_proj.bias", "attention_bias"),
        ("model.layers.9.mlp.up_proj.weight", "layers.9"),
        ("surprise.weight", "surprise"),
    ],
)
def test_a_tensor_without_a_parameter_is_refused(name, message, tmp_path):
    target = served(build_engine(tiny_qwen3(seed=0), tmp_path))
    with pytest.raises((KeyError, ValueError), match=message):
        target.load_weights([(name, torch.zeros(1))])


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"use_sliding_window": True, "sliding_window": 64}, {}, "window of 64 .* max_model_len to at most 64"),
        (rope("dynamic", factor=2.0), {"max_model_len": 512}, "max_model_len to at most 256"),
    ],
)
def test_what_would_be_served_wrongly_is_refused(changes, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build_engine(tiny_qwen3(seed=0, **changes), tmp_path, **arguments)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False, "attention_bias": True, **heads(6, 3, 32)}])
def test_a_lora_adapter_answers_as_the_merged_model(changes, tmp_path):
    """The same adapter from a file and from verl's weight sync, over a base that the sync has replaced."""
    from peft import LoraConfig, get_peft_model
    from peft.utils.save_and_load import get_peft_model_state_dict
    from vllm.lora.request import LoRARequest

    from verl.utils.vllm_utils import VLLMHijack

    base = tiny_qwen3(seed=0, **changes)
    llm = build_engine(base, tmp_path / "base", enable_lora=True, max_lora_rank=8, max_loras=2)
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=projections, init_lora_weights=False)
    tuned = get_peft_model(tiny_qwen3(seed=0, **changes), config)
    tuned.save_pretrained(tmp_path / "adapter")
    adapter = get_peft_model_state_dict(tuned)
    merged = tuned.merge_and_unload()

    from_file = LoRARequest("file", 1, str(tmp_path / "adapter"))
    assert_greedy(merged, generate(llm, lora_request=from_file))
    assert_greedy(base, generate(llm))

    VLLMHijack.hijack()  # as verl's sharding manager does
    worker = llm.llm_engine.model_executor.driver_worker
    update_worker(worker, tiny_qwen3(seed=1, **changes).state_dict(), peft_config=config, base_sync_done=False)
    assert_greedy(tiny_qwen3(seed=1, **changes), generate(llm))
    update_worker(worker, base.state_dict(), peft_config=config, base_sync_done=False)
    update_worker(worker, adapter, engine=llm, peft_config=config)
    (number,) = llm.llm_engine.list_loras() - {1}
    assert_greedy(merged, generate(llm, lora_request=LoRARequest(str(number), number, "from-memory")))
