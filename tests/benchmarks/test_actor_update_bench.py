"""The benchmark of an update runs the recipe's actor, at the shapes that it says."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from benchmarks import bench_actor_update as bench
from benchmarks.bench_chunked_head import PAGE
from benchmarks.page import part_of
from recipes.archer.workers import actor as actor_module

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")


def test_updates_of_a_small_model_are_measured_with_each_budget(monkeypatch):
    cut, cuts = actor_module.micro_batches, []

    def counted(attention_mask, max_tokens):
        cuts.append(rows := cut(attention_mask, max_tokens))
        return rows

    monkeypatch.setattr(actor_module, "micro_batches", counted)
    budgets = [4 * (bench.PROMPT + 16), bench.PROMPT + 16]
    result = bench.measure("tiny", "cpu", "archer", responses=4, tokens=16, repeats=2, budgets=budgets)
    assert not dist.is_initialized()
    assert [len(rows) for rows in cuts] == [4] * 3 + [1] * 3
    assert [each["tokens_a_micro_batch"] for each in result["budgets"]] == sorted(budgets)
    for each in result["budgets"]:
        assert len(each["update_s"]) == 2 and 0 < each["median_s"] < 60 and each["peak_gb"] > 0
    assert result["tokens_computed"] == result["response_tokens"] + 4 * bench.PROMPT
    assert not result["padding_removed"] and not result["activations_recomputed"]  # as device=cpu says
    assert result["attention"] == "sdpa"
    assert all(each["host_syncs"] > 0 for each in result["budgets"])


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


def test_padding_is_removed_as_the_device_says_and_the_result_says_whose_attention(monkeypatch):
    on_gpu, on_cpu = (bench.actor_config(device, "aspo", 4, 16) for device in ("cuda", "cpu"))
    assert on_gpu.actor.use_remove_padding and not on_cpu.actor.use_remove_padding
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(__version__="2.7.4.post1"))
    assert (bench.attention(on_gpu), bench.attention(on_cpu)) == ("flash-attn 2.7.4.post1", "sdpa")


@pytest.mark.parametrize("given, budgets", [("", [144, 288, 576]), ("--micro-batch-tokens 150 300", [150, 300])])
def test_the_budgets_are_those_given_or_multiples_of_prompt_and_cap(monkeypatch, given, budgets):
    asked = []
    monkeypatch.setattr(bench, "measure", lambda *arguments: asked.extend(arguments[-2]) or {})
    options = ["--device", "cpu", "--shape", "tiny", "--tokens", "16"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_actor_update", *options, *given.split()])
    bench.main()
    assert asked == budgets


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


def test_the_page_says_what_was_measured():
    assert part_of(PAGE, bench.BEGIN, bench.END) == bench.paragraph()


def test_the_page_has_a_line_a_budget_and_both_devices(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    result = {
        "device": "NVIDIA X", "dtype": "bf16", "loss": "aspo", "responses": 16, "tokens_computed": 43210,
        "activations_recomputed": True, "padding_removed": False, "attention": "sdpa", "budgets": [
            {"tokens_a_micro_batch": 4224, "median_s": 1.25, "tokens_a_second": 34568, "peak_gb": 30.5},
            {"tokens_a_micro_batch": 8448, "median_s": 1.0, "tokens_a_second": 43210, "peak_gb": 31.0},
        ],
    }  # fmt: skip
    (tmp_path / "actor_update_cuda.json").write_text(json.dumps(result))
    lines = [
        "On NVIDIA X (bf16, activations recomputed, sdpa): `aspo`, 16 responses, 43,210 tokens with their prompts:",
        "",
        "- 4,224 tokens a micro-batch: 1.25 s an update, 34,568 tokens a second, peak 30.5 GB",
        "- 8,448 tokens a micro-batch: 1.0 s an update, 43,210 tokens a second, peak 31.0 GB",
    ]
    assert bench.paragraph().splitlines() == lines
    (tmp_path / "actor_update_cpu.json").write_text(json.dumps(result | {"device": "2 CPU cores"}))
    assert bench.paragraph().splitlines() == [*lines, "", lines[0].replace("NVIDIA X", "2 CPU cores"), *lines[1:]]
