"""Tiny Qwen3 models, vLLM engines for them, and the comparison of what the two say."""

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import torch

PROMPTS = [[5, 9, 2, 37, 31], [60, 3], [7 * i % 61 for i in range(70)]]  # the last fills several cache blocks
NEW_TOKENS = 16
# fp32 on both sides; the kernels add in another order, which over some layers gives 1e-5 or so
FP32_TOLERANCE = 1e-3


def tiny_qwen3(seed: int, dtype: torch.dtype = torch.float32, **changes):
    """A transformers Qwen3 whose random weights are large enough that an error cannot hide."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {
        "vocab_size": 151,
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
    model = Qwen3ForCausalLM(Qwen3Config(**(settings | changes))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter) / 4)
            else:
                parameter.mul_(4.0)
            parameter.data = parameter.to(dtype)  # not the rotary frequencies, which no trainer rounds
    return model


def build_engine(model, folder, **arguments):
    """vLLM engine for ``model``, saved to ``folder``; a cache of 64 blocks, since filling more takes seconds."""
    from vllm import LLM

    from verl.third_party.vllm.qwen3 import Qwen3ForCausalLM

    model.save_pretrained(folder, max_shard_size="100KB")  # several files and an index, as large models have
    assert len(list(Path(folder).glob("*.safetensors"))) > 1
    settings = {
        "skip_tokenizer_init": True,
        "dtype": str(model.dtype).removeprefix("torch."),
        "enforce_eager": True,
        "max_model_len": model.config.max_position_embeddings,
        "max_num_batched_tokens": 1024,
        "max_num_seqs": 8,
        "num_gpu_blocks_override": 64,
    }
    llm = LLM(str(folder), **(settings | arguments))
    # vLLM would fall back to running transformers' own layers, and the comparison would be with itself
    assert isinstance(served(llm), Qwen3ForCausalLM)
    return llm


def served(llm):
    """The model in the engine's first worker."""
    return llm.llm_engine.model_executor.driver_worker.worker.model_runner.model


def update_worker(worker, weights: dict, engine=None, peft_config=None, base_sync_done: bool = True) -> None:
    """Runs verl's weight sync in one worker: its own code, under the names and through the calls that it uses."""
    from verl.workers.sharding_manager.fsdp_vllm import FSDPVLLMShardingManager

    manager = SimpleNamespace(
        model_runner=worker.worker.model_runner, inference_engine=engine, base_sync_done=base_sync_done
    )
    FSDPVLLMShardingManager.update_params(manager, weights, peft_config=peft_config)


def sync(llm, model) -> None:
    """Sends the weights of ``model`` to every worker of the engine.

    As bytes: a tensor on its way to another process is moved into shared memory, by a thread, and what it held is given
    back, while the first worker is reading it in this one.
    """
    file = BytesIO()
    torch.save(model.state_dict(), file)
    llm.collective_rpc(load_and_update, args=(file.getvalue(),))


def load_and_update(worker, weights: bytes) -> None:
    """``update_worker`` with a saved state dict."""
    update_worker(worker, torch.load(BytesIO(weights), weights_only=True))


def generate(llm, **arguments) -> list[tuple[list[int], torch.Tensor]]:
    """Greedy (tokens, their log-probabilities) of each prompt, all prompts in one batch."""
    from vllm import SamplingParams

    parameters = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, logprobs=0, detokenize=False, ignore_eos=True)
    prompts = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    answers = []
    for output in llm.generate(prompts, sampling_params=parameters, use_tqdm=False, **arguments):
        answer = output.outputs[0]
        tokens = list(answer.token_ids)
        log_probs = [step[token].logprob for step, token in zip(answer.logprobs, tokens, strict=True)]
        answers.append((tokens, torch.tensor(log_probs)))
    return answers


def assert_greedy(model, answers, tolerance: float = FP32_TOLERANCE, tie: float = 0.0) -> None:
    """Every token is the one ``model`` finds likeliest after those before it, with the same log-probability.

    One forward pass a prompt: tokens that are each the likeliest after their own prefix are the greedy ones.

    Args:
        tolerance: largest difference of log-probabilities.
        tie: by how much (nats) a chosen token may be less likely than the likeliest.
    """
    for prompt, (tokens, log_probs) in zip(PROMPTS, answers, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        expected = logits.float().log_softmax(-1)
        chosen = expected.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert len(tokens) == NEW_TOKENS
        assert (expected.max(-1).values - chosen).max() <= tie, f"not greedy: {tokens}"
        torch.testing.assert_close(log_probs, chosen, atol=tolerance, rtol=0)
