"""Qwen3 split over two processes: tensor parallel in a real engine, pipeline parallel layer by layer.

vLLM 0.7.3's CPU worker has no pipeline parallelism, so there the model's two halves are built and run by
hand, in a world of two that vLLM's own functions set up.
"""

import multiprocessing
import os

import pytest
import torch

from qwen3_cases import FP32_TOLERANCE, PROMPTS, assert_greedy, build_engine, generate, sync, tiny_qwen3


@pytest.fixture(scope="module", autouse=True)
def forked_workers(vllm_environment):
    """Workers are forks of this process, which spares them the imports; with one thread OpenMP survives a fork."""
    import verl.third_party.vllm  # noqa: F401

    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"


@pytest.fixture
def two_ranks(monkeypatch):
    """Engines of two workers, released afterwards."""
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

    # vLLM 0.7.3 returns what torch's in-place all_reduce returns, which is nothing, unless Intel's extension is there
    monkeypatch.setattr(CpuCommunicator, "all_reduce", DeviceCommunicatorBase.all_reduce)
    engines = []

    def build(*args):
        engines.append(build_engine(*args, tensor_parallel_size=2))
        assert len(engines[-1].llm_engine.model_executor.workers) == 1  # beside the driver
        return engines[-1]

    yield build
    for engine in engines:
        engine.llm_engine.model_executor.shutdown()
    cleanup_dist_env_and_memory()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False},  # replicated
        {"num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 16},
    ],
    ids=["key-value heads split", "key-value head replicated", "head size without a kernel"],
)
def test_two_tensor_parallel_ranks_agree_with_transformers(changes, two_ranks, tmp_path):
    model, changed = tiny_qwen3(seed=0, **changes), tiny_qwen3(seed=1, **changes)
    llm = two_ranks(model, tmp_path)
    assert_greedy(model, generate(llm))
    sync(llm, changed)
    assert not any(weight.is_shared() for weight in changed.state_dict().values())  # else it moved while it was read
    assert_greedy(changed, generate(llm))


def test_key_value_heads_that_do_not_divide_are_refused(two_ranks, tmp_path):
    with pytest.raises(ValueError, match="tensor_parallel_size=2 .* 3 key-value heads"):
        two_ranks(tiny_qwen3(seed=0, num_attention_heads=6, num_key_value_heads=3), tmp_path)


def pipeline_rank(rank: int, folder: str, weights: dict, prompt: list[int], answers) -> None:
    """One half of the model on the prompt; the last rank sends back the logits before and after a weight sync."""
    from vllm.attention.backends.torch_sdpa import TorchSDPAMetadata
    from vllm.distributed import get_pp_group, init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.forward_context import set_forward_context
    from vllm.model_executor.model_loader import get_model
    from vllm.model_executor.sampling_metadata import SamplingMetadata
    from vllm.sequence import IntermediateTensors

    init_distributed_environment(2, rank, f"file://{folder}/rendezvous", backend="gloo")
    initialize_model_parallel(1, 2, backend="gloo")
    arguments = EngineArgs(folder, skip_tokenizer_init=True, dtype="float32", pipeline_parallel_size=2)
    config = arguments.create_engine_config()
    model, length, group = get_model(vllm_config=config), len(prompt), get_pp_group()
    prefill = TorchSDPAMetadata(
        num_prefills=1,
        num_prefill_tokens=length,
        num_decode_tokens=0,
        slot_mapping=None,
        multi_modal_placeholder_index_maps=None,
        enable_kv_scales_calculation=False,
        seq_lens_tensor=None,
        max_decode_seq_len=0,
        block_tables=None,
        chunked_prefill=False,
        seq_lens=[length],
    )
    sampling = SamplingMetadata([], torch.arange(length), {}, num_prompts=1)
    no_cache = [torch.empty(0)] * model.config.num_hidden_layers

    @torch.no_grad()
    def logits():
        received = None if group.is_first_rank else IntermediateTensors(group.recv_tensor_dict())
        with set_forward_context(prefill, config):
            output = model(torch.tensor(prompt), torch.arange(length), no_cache, prefill, received)
        if group.is_last_rank:
            return model.compute_logits(output, sampling)
        group.send_tensor_dict(output.tensors)

    before = logits()
    loaded = model.load_weights(iter(weights.items()))
    assert loaded == set(dict(model.named_parameters()))
    assert {name.split(".")[2] for name in loaded if ".layers." in name} < {"0", "1", "2"}
    after = logits()
    if group.is_last_rank:
        answers.put((before.numpy(), after.numpy()))


@pytest.mark.parametrize("tied", [True, False])
def test_two_pipeline_parallel_ranks_agree_with_transformers(tied, tmp_path):
    models = [tiny_qwen3(seed, tie_word_embeddings=tied, attention_bias=True) for seed in (0, 1)]
    models[0].save_pretrained(tmp_path)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    ranks = [
        context.Process(target=pipeline_rank, args=(rank, str(tmp_path), models[1].state_dict(), PROMPTS[2], answers))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    try:
        answered = answers.get(timeout=60)
        for process in ranks:
            process.join(timeout=60)
    finally:
        for process in ranks:
            process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    for model, logits in zip(models, answered, strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([PROMPTS[2]])).logits[0]
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=FP32_TOLERANCE, rtol=0)
