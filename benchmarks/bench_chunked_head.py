"""Log-probability and entropy at Qwen3's vocabulary: time and peak memory against the plain way and upstream's.

Run: python -m benchmarks.bench_chunked_head [--tokens 512 6144] [--ways plain chunked upstream] [--device cpu|cuda]

Forward and backward over the head of Qwen3-0.6B (hidden size 1024, vocabulary 151,936), each way in a process of its
own, so that its peak is its own: of resident memory on a CPU (fp32), of allocated memory on a GPU (bf16). `plain` is
all logits, log softmax, entropy, and autograd, with nothing kept that autograd does not need; `upstream` is verl's
fused function in its chunks of 512 positions. On a GPU the same pass is made once before the measured one. A way that
does not fit into the memory that is there is null. What was measured before stays in the result, so that ways and sizes
can be measured one by one.

Writes benchmarks/results/chunked_head.json and, on a CPU, its table in docs/algorithms.md (on a GPU
chunked_head_gpu.json).

`error`, up to 512 tokens on a CPU: the largest difference from the plain formula in float64, as a share of that one's
largest magnitude, of log-probability, entropy and the gradients to hidden states and head. Ours must be at most 1e-5.
The plain way itself is not: torch's log_softmax on a CPU adds up a row in fp32 term by term.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.chunked_head_page import table
from benchmarks.page import marks, put_between
from recipes.archer.settings.configuration import ROOT

RESULT = ROOT / "benchmarks" / "results" / "chunked_head.json"
PAGE = ROOT / "docs" / "algorithms.md"
BEGIN, END = marks("head", "benchmarks.bench_chunked_head")
HIDDEN, VOCAB, TOKENS = 1024, 151_936, (512, 6_144)
EXACT_TOKENS = 512  # at most so many are computed in float64 as well: a minute on two cores
TEMPERATURE = 0.9
TOLERANCE = 1e-5
WAYS = ("plain", "chunked", "upstream")
EXACT = "exact"
RESULTS = ("log_prob", "entropy", "grad_hidden", "grad_weight")
NO_MEMORY = 7  # exit code of a measurement that did not fit


def plain(hidden, weight, labels, temperature):
    """The formula as one writes it down; in the dtype of its inputs, but bf16 logits become fp32."""
    import torch

    logits = hidden @ weight.T
    logits = (logits.float() if logits.dtype == torch.bfloat16 else logits).div_(temperature)
    log_p = torch.log_softmax(logits, dim=-1)
    del logits
    return log_p.gather(-1, labels[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def function_of(way: str):
    """(hidden, weight, labels, temperature) -> (log-prob, entropy)."""
    if way == "upstream":
        from verl.utils.experimental.torch_functional import FusedLinearForPPOFunction

        return FusedLinearForPPOFunction.apply
    from recipes.archer.workers.chunked_head import head_log_prob_and_entropy

    return head_log_prob_and_entropy if way == "chunked" else plain


def exact(tokens: int, file: Path, rows: int = 128) -> None:
    """The plain formula in float64, so many positions at a time; autograd adds up the gradients."""
    import torch

    hidden, weight, labels, outer = inputs(tokens, "cpu")
    hidden, weight = (tensor.detach().double().requires_grad_() for tensor in (hidden, weight))
    found = []
    for part in (slice(start, start + rows) for start in range(0, tokens, rows)):
        outputs = plain(hidden[part], weight, labels[part], TEMPERATURE)
        torch.autograd.backward(outputs, list(outer[:, part].double()))
        found.append([output.detach() for output in outputs])
    values = (*(torch.cat(column) for column in zip(*found, strict=True)), hidden.grad, weight.grad)
    torch.save(dict(zip(RESULTS, values, strict=True)), file)


def inputs(tokens: int, device: str):
    """Hidden states that point at a token with a strength of their own, so that entropies go from 0 to 11.9 nats."""
    import torch

    generator = torch.Generator().manual_seed(20240607)
    weight = torch.empty(VOCAB, HIDDEN).normal_(0, 0.02, generator=generator)
    labels = torch.randint(VOCAB, (tokens,), generator=generator)
    pointed_at = torch.randint(VOCAB, (tokens,), generator=generator)
    # every second label is the token pointed at; the others are unlikely ones
    labels[::2] = pointed_at[::2]
    strength = torch.empty(tokens, 1).uniform_(0, 60, generator=generator)
    hidden = torch.empty(tokens, HIDDEN).normal_(generator=generator) + strength * weight[pointed_at]
    outer = torch.empty(2, tokens).normal_(generator=generator)  # gradients that come in from the loss
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    hidden, weight = (tensor.to(device, dtype).requires_grad_() for tensor in (hidden, weight))
    return hidden, weight, labels.to(device), outer.to(device)


def peak_bytes(device: str) -> int:
    import torch

    if device == "cpu":
        # not getrusage's, in which the peak of the process that started this one lives on
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    return torch.cuda.max_memory_allocated()


def measure(way: str, tokens: int, device: str, file: Path) -> dict:
    """One forward and backward pass in this process; the results go to ``file``."""
    import torch

    function = function_of(way)
    hidden, weight, labels, outer = inputs(tokens, device)
    if device == "cpu":
        _limit_memory()
    else:  # the same pass once before: kernels load at the first use of their shape
        one_pass(function, hidden, weight, labels, outer)
        hidden.grad = weight.grad = None
        torch.cuda.reset_peak_memory_stats()
    before, cpu_start = peak_bytes(device), time.process_time()
    (log_prob, entropy), forward, seconds = one_pass(function, hidden, weight, labels, outer)
    found = {
        "seconds": round(seconds, 3),
        "forward_s": round(forward, 3),
        "cpu_s": round(time.process_time() - cpu_start, 2),
        "peak_gb": round(peak_bytes(device) / 1e9, 2),
        "peak_above_inputs_gb": round((peak_bytes(device) - before) / 1e9, 2),
        "entropy_range": [round(float(f(entropy.detach())), 2) for f in (torch.min, torch.max)],
    }
    values = (log_prob.detach(), entropy.detach(), hidden.grad, weight.grad)
    torch.save(dict(zip(RESULTS, values, strict=True)), file)
    return found


def one_pass(function, hidden, weight, labels, outer) -> tuple[tuple, float, float]:
    """Forward and backward from both outputs: (outputs, seconds of forward, seconds of both)."""
    import torch

    start = time.perf_counter()
    outputs = function(hidden, weight, labels, TEMPERATURE)
    forward = _seconds_since(start, hidden.device.type)
    torch.autograd.backward(outputs, [g.to(outputs[0].dtype) for g in outer])
    return outputs, forward, _seconds_since(start, hidden.device.type)


def _seconds_since(start: float, device: str) -> float:
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _limit_memory() -> None:
    """An allocation beyond nine tenths of what is free fails, rather than have the kernel end another process."""
    words = {line.split()[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    own = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + words["MemAvailable:"] * 1024 * 9 // 10, resource.RLIM_INFINITY))


def in_process(way: str, tokens: int, device: str, file: Path) -> dict | None:
    """`measure` (or `exact`) in a process of its own; None when it did not fit."""
    words = ["--measure", way, "--tokens", str(tokens), "--device", device, "--file", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_chunked_head", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode == NO_MEMORY:
        return None
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def errors(file: Path, exactly: Path) -> dict[str, float]:
    """Largest difference from float64, as a share of its largest magnitude."""
    import torch

    found, expected = (torch.load(path, mmap=True, map_location="cpu") for path in (file, exactly))
    return {
        name: float(f"{float((found[name] - expected[name]).abs().max() / expected[name].abs().max()):.2e}")
        for name in RESULTS
    }


def measured(way: str, tokens: int, device: str, folder: Path) -> dict | None:
    """One way at one size, with its error where the exact results are in ``folder``; None when it does not fit."""
    load = round(os.getloadavg()[0], 2)
    found = in_process(way, tokens, device, folder / way)
    if found is None:
        return None
    if (folder / EXACT).is_file():
        found["error"] = errors(folder / way, folder / EXACT)
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "load_before": load, **found}


def with_ratios(ways: dict[str, dict | None]) -> dict[str, dict | None]:
    """The ways of one size, each with its time and memory as multiples of the plain way's where that is there."""
    reference = ways.get("plain")
    for figures in ways.values():
        if figures and reference:
            figures["time_ratio"] = round(figures["seconds"] / reference["seconds"], 3)
            figures["memory_ratio"] = round(figures["peak_above_inputs_gb"] / reference["peak_above_inputs_gb"], 3)
    return {way: ways[way] for way in WAYS if way in ways}


def described(device: str) -> dict:
    """Where and with what a benchmark ran."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores",
        "dtype": "fp32" if device == "cpu" else "bf16",
        "torch": torch.__version__,
    }


def result_before(file: Path, head: dict) -> dict:
    """The result in ``file`` if it was measured under the same ``head``, else an empty one."""
    before = json.loads(file.read_text()) if file.is_file() else {}
    return before if all(before.get(name) == value for name, value in head.items()) else head | {"sizes": {}}


def parsed() -> argparse.Namespace:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--measure", choices=(*WAYS, EXACT), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(way: str, tokens: int, device: str, file: Path) -> int:
    """What a measurement's own process does; its exit code."""
    if way == EXACT:
        exact(tokens, file)
        print("{}")
        return 0
    try:
        print(json.dumps(measure(way, tokens, device, file)))
    except (MemoryError, RuntimeError) as error:  # torch raises the latter on a CPU
        if "memory" not in str(error):
            raise
        return NO_MEMORY
    return 0


def main() -> int:
    """Measures the ways and sizes asked for; 1 when ours is not within the tolerance in fp32."""
    args = parsed()
    if args.measure:
        return child(args.measure, args.tokens[0], args.device, args.file)
    what = "log-prob and entropy with gradient from hidden states and the head"
    head = {"what": what, "hidden": HIDDEN, "vocabulary": VOCAB, **described(args.device)}
    file = RESULT if args.device == "cpu" else RESULT.with_stem("chunked_head_gpu")
    result = result_before(file, head)
    for tokens in args.tokens:
        ways = result["sizes"].setdefault(str(tokens), {})
        with tempfile.TemporaryDirectory() as folder:
            if args.device == "cpu" and tokens <= EXACT_TOKENS:
                in_process(EXACT, tokens, args.device, Path(folder) / EXACT)
            ways |= {way: measured(way, tokens, args.device, Path(folder)) for way in args.ways}
        result["sizes"][str(tokens)] = with_ratios(ways)
        _judge(result)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n")
        if args.device == "cpu":
            put_between(PAGE, BEGIN, END, table(result))
    print(json.dumps(result, indent=1))
    return 0 if result.get("within_tolerance", True) else 1


def _judge(result: dict) -> None:
    """Adds whether ours is within the tolerance, wherever its error is known."""
    chunked = [ways.get("chunked") or {} for ways in result["sizes"].values()]
    worst = [max(figures["error"].values()) for figures in chunked if "error" in figures]
    if worst:
        result |= {"tolerance": TOLERANCE, "within_tolerance": max(worst) <= TOLERANCE}


if __name__ == "__main__":
    sys.exit(main())
