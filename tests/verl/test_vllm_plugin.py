"""Plain vLLM, in a process that imports nothing of ours, serves Qwen3 with our class."""

import json

import torch

from qwen3_cases import NEW_TOKENS, PROMPTS, assert_greedy, tiny_qwen3


def test_plain_vllm_finds_the_model_through_the_plugin(plain_vllm, tmp_path):
    model = tiny_qwen3(seed=0)
    model.save_pretrained(tmp_path)
    job = {"folder": str(tmp_path), "prompts": PROMPTS, "max_tokens": NEW_TOKENS}
    output, errors = plain_vllm.communicate(json.dumps(job) + "\n", timeout=240)
    assert plain_vllm.returncode == 0, errors[-2000:]
    said = json.loads(output.splitlines()[-1])
    # without the plugin vLLM would run transformers' own layers
    assert said["class"] == "verl.third_party.vllm.qwen3.Qwen3ForCausalLM"
    assert_greedy(model, [(tokens, torch.tensor(log_probs)) for tokens, log_probs in said["answers"]])
