"""The benchmark of an update runs the recipe's actor, at the shapes that it says."""

import json
import sys

import pytest
import torch
import torch.distributed as dist

from benchmarks import bench_actor_update as bench
from benchmarks.bench_chunked_head import PAGE
from benchmarks.page import part_of

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")


def test_an_update_of_a_small_model_is_measured():
    result = bench.measure("tiny", "cpu", "archer", responses=4, tokens=16, repeats=2)
    assert not dist.is_initialized()
    assert len(result["update_s"]) == 2 and 0 < result["median_s"] < 60 and result["peak_gb"] > 0
    assert result["tokens_computed"] == result["response_tokens"] + 4 * bench.PROMPT
    assert not result["padding_removed"] and not result["activations_recomputed"]  # as device=cpu says


def test_an_error_leaves_no_process_group():
    with pytest.raises(ZeroDivisionError), bench.alone("cpu"):
        assert dist.is_initialized()
        raise ZeroDivisionError
    assert not dist.is_initialized()


def test_a_gpu_without_flash_attn_is_refused_in_one_line_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # also in an environment that has it
    monkeypatch.setattr(sys, "argv", ["bench_actor_update", "--device", "cuda"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert str(ended.value).startswith("--device cuda: needs flash-attn, which make setup builds")


def test_padding_is_removed_as_the_device_says():
    assert bench.actor_config("cuda", "aspo", 4, 16).actor.use_remove_padding
    assert not bench.actor_config("cpu", "aspo", 4, 16).actor.use_remove_padding


def test_the_shapes_are_qwen3s():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**bench.SHAPES["qwen3-0.6b"]))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == 596_049_920  # the model card: 0.6 B, 0.44 B without the embeddings
    assert count - model.lm_head.weight.numel() == 440_467_456


def test_a_batch_has_what_the_update_needs_and_responses_of_many_lengths():
    batch = bench.make_batch(64, responses=8, tokens=40).batch
    lengths = batch["response_mask"].sum(-1)
    assert lengths.min() >= 10 and lengths.max() <= 40 and len(lengths.unique()) > 3
    assert torch.equal(batch["attention_mask"][:, bench.PROMPT :], batch["response_mask"])


def test_the_page_says_what_was_measured_and_what_was_not():
    assert part_of(PAGE, bench.BEGIN, bench.END) == bench.paragraph()


def test_without_a_figure_of_a_gpu_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    assert bench.paragraph() == "It has not been measured on a GPU."
    result = {
        "device": "NVIDIA X", "dtype": "bf16", "loss": "aspo", "responses": 16, "tokens_computed": 43210,
        "median_s": 1.25, "tokens_a_second": 34568, "peak_gb": 30.5, "activations_recomputed": True,
        "padding_removed": False,
    }  # fmt: skip
    (tmp_path / "actor_update_cuda.json").write_text(json.dumps(result))
    assert bench.paragraph() == (
        "On NVIDIA X (bf16, activations recomputed): `aspo`, 16 responses, 43,210 tokens with their prompts: 1.25 s an "
        "update, 34,568 tokens a second, peak 30.5 GB."
    )
