"""The benchmark of the head: what it keeps, compares and writes; that the page states the committed figures."""

import json

import pytest
import torch

from benchmarks import bench_chunked_head as bench
from benchmarks.page import part_of

HEAD = {"what": "x", "device": "2 CPU cores"}


def figures(seconds: float, memory: float, **more) -> dict:
    return {"seconds": seconds, "peak_above_inputs_gb": memory, **more}


def test_the_plain_way_is_the_formula_and_no_more():
    """In float64 against probabilities themselves; what it would be beaten by must be right."""
    generator = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(n, 6, generator=generator, dtype=torch.float64).requires_grad_() for n in (4, 9))
    labels = torch.tensor([0, 8, 3, 3])
    log_prob, entropy = bench.plain(hidden, weight, labels, 0.9)
    p = torch.softmax(hidden @ weight.T / 0.9, dim=-1)
    torch.testing.assert_close(log_prob, p.gather(-1, labels[:, None])[:, 0].log())
    torch.testing.assert_close(entropy, -(p * p.log()).sum(-1))
    expected = torch.autograd.grad(p.gather(-1, labels[:, None]).log().sum() - (p * p.log()).sum(), (hidden, weight))
    found = torch.autograd.grad(log_prob.sum() + entropy.sum(), (hidden, weight))
    torch.testing.assert_close(found, expected)


def test_on_a_gpu_the_whole_pass_is_made_once_before_the_measured_one(tmp_path, monkeypatch):
    """With the gradients of both outputs; what the first pass left in the gradients is gone."""
    seen = []

    def function(hidden, weight, labels, temperature):
        seen.append(len(hidden))
        outputs = bench.plain(hidden, weight, labels, temperature)
        for name, output in zip(("log_prob", "entropy"), outputs, strict=True):
            output.register_hook(lambda gradient, name=name: seen.append(name))
        return outputs

    for name, size in {"HIDDEN": 6, "VOCAB": 9}.items():
        monkeypatch.setattr(bench, name, size)
    tensors = bench.inputs(20, "cpu")
    monkeypatch.setattr(bench, "inputs", lambda tokens, device: tensors)
    monkeypatch.setattr(bench, "function_of", lambda way: function)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: seen.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    bench.measure("plain", 20, "cuda", tmp_path / "values")
    first, measured = seen[: seen.index("reset")], seen[seen.index("reset") + 1 :]
    assert first[0] == measured[0] == 20 and sorted(first[1:]) == sorted(measured[1:]) == ["entropy", "log_prob"]
    outputs = bench.plain(*tensors[:3], bench.TEMPERATURE)
    expected = torch.autograd.grad(outputs, tensors[:2], list(tensors[3]))
    found = torch.load(tmp_path / "values")
    torch.testing.assert_close((found["grad_hidden"], found["grad_weight"]), expected)


def test_what_was_measured_before_stays_unless_the_machine_is_another(tmp_path):
    file = tmp_path / "result.json"
    assert bench.result_before(file, HEAD) == HEAD | {"sizes": {}}
    file.write_text(json.dumps(HEAD | {"sizes": {"512": {"plain": None}}}))
    assert bench.result_before(file, HEAD)["sizes"] == {"512": {"plain": None}}
    assert bench.result_before(file, HEAD | {"device": "8 CPU cores"})["sizes"] == {}


def test_ratios_are_to_the_plain_way_where_it_fits():
    ways = bench.with_ratios({"chunked": figures(3.0, 1.0), "plain": figures(2.0, 4.0)})
    assert list(ways) == ["plain", "chunked"]
    assert (ways["chunked"]["time_ratio"], ways["chunked"]["memory_ratio"]) == (1.5, 0.25)
    assert "time_ratio" not in bench.with_ratios({"plain": None, "chunked": figures(3.0, 1.0)})["chunked"]


def test_the_table_has_a_row_a_way_and_says_what_does_not_fit():
    ways = {"plain": None, "chunked": figures(3.0, 1.0, error={"entropy": 2e-6, "log_prob": 1e-7})}
    lines = bench.table({"sizes": {"6144": ways, "512": {"plain": figures(2.0, 4.0)}}}).splitlines()[2:]
    assert lines == [
        "| 512 | plain | 2.0 | 4.0 |  |",
        "| 6,144 | plain | does not fit |  |  |",
        "| 6,144 | chunked | 3.0 | 1.0 | 2.0e-06 |",
    ]


@pytest.mark.parametrize("error, within", [(2e-6, True), (2e-5, False)])
def test_ours_is_judged_wherever_its_error_is_known(error, within):
    result = {"sizes": {"512": {"chunked": {"error": {"entropy": error}}}, "6144": {"chunked": {}, "plain": None}}}
    bench._judge(result)
    assert result["within_tolerance"] is within


def test_the_page_has_the_committed_figures():
    result = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert result["within_tolerance"]
    assert part_of(bench.PAGE, bench.BEGIN, bench.END) == bench.table(result)
