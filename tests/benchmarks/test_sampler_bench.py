"""The sampler's benchmark: the ways it compares draw tokens that each distribution has, and leave vLLM as it was."""

import pytest
import torch
from vllm.model_executor.layers import sampler as vllm_sampler

from benchmarks import bench_sampler as bench
from recipes.archer.rollout import batch_sampler


@pytest.fixture(autouse=True)
def vllms_drawing(monkeypatch):
    monkeypatch.setattr(vllm_sampler, "_multinomial", batch_sampler._draw_unseeded)


def test_before_and_after_are_measured_side_by_side():
    found = bench.measured(requests=3, vocabulary=50, device="cpu", repeats=1)
    assert list(found) == ["vllm", "table", "ours", "vllm top-p 0.95", "ours top-p 0.95"]
    assert all(figures["ms"] > 0 for figures in found.values())


def test_each_way_draws_from_the_same_distribution():
    """So sharp a one that every number gives the same token; and the tables are put back."""
    logits = torch.zeros(4, 300)
    logits[range(4), [5, 130, 299, 0]] = 100.0
    before = batch_sampler._numbers, batch_sampler.invert_cdf
    for top_p, sample in bench.ways().values():
        output = sample(logits.clone(), bench.step(4, "cpu", top_p))
        assert [group.samples[0].output_token for group in output.outputs] == [5, 130, 299, 0]
    assert before == (batch_sampler._numbers, batch_sampler.invert_cdf)
