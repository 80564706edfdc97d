"""The cost of sampling one step of 1,024 seeded requests, before and after, side by side.

Run: python -m benchmarks.bench_sampler [--requests 1024] [--vocabularies 512 151936] [--device cpu|cuda]

From the logits to vLLM's output, in turn and so many times over, by
- vllm: vLLM 0.7.3's own sampler, a generator and a launch a request; what a GPU had before;
- table: NumPy's generator once a response, and a cumulative sum in float64 over the whole vocabulary; what a CPU had
  before;
- ours: `recipes/archer/rollout`; a hash over the batch, and the cumulative sum over blocks;
- vllm top-p 0.95, ours top-p 0.95: where vLLM shapes the distribution, with its drawing and with ours (on a CPU not at
  a large vocabulary, of which it sorts every row).

`ms` is the median. The distribution is of one kind for all: normal logits times 3. Writes
benchmarks/results/sampler.json (on a GPU sampler_cuda.json).
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.model_executor.layers import sampler as vllm_sampler
from vllm.model_executor.layers.sampler import Sampler
from vllm.model_executor.sampling_metadata import SamplingMetadata
from vllm.sequence import SequenceData, SequenceGroupMetadata

from benchmarks.result_file import write
from recipes.archer.rollout import batch_sampler

POSITION, LONGEST = 100, 8_192  # of the step in its response; tokens that a response may have
TOP_P = 0.95
SORTED = 10_000  # tokens of the largest vocabulary that a CPU sorts here


def step(requests: int, device: str, top_p: float) -> SamplingMetadata:
    """A decoding step as vLLM prepares it; each request has the generator of its prefill."""
    groups, generators = [], {}
    for number in range(requests):
        data = SequenceData.from_seqs([1, 2, 3], [4] * POSITION)
        parameters = SamplingParams(temperature=1.0, top_p=top_p, seed=number, logprobs=0, max_tokens=LONGEST)
        generators[str(number)] = torch.Generator(device).manual_seed(number)
        groups.append(SequenceGroupMetadata(str(number), False, {number: data}, parameters, {}))
    lengths = [3 + POSITION] * requests
    return SamplingMetadata.prepare(groups, lengths, [1] * requests, device, False, generators)


@lru_cache(maxsize=4096)
def numbers_of(seed: int) -> np.ndarray:
    """(LONGEST,) uniform numbers of one response."""
    return np.random.Generator(np.random.PCG64(seed)).random(LONGEST)


def table_numbers(groups, device) -> Tensor:
    drawn = [numbers_of(group.sampling_params.seed)[POSITION] for group in groups]
    return torch.from_numpy(np.array(drawn)).to(device)


def whole_sum(weights: Tensor, uniform: Tensor) -> Tensor:
    cumulative = weights.double().cumsum(-1)
    goal = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, goal, right=True).clamp(max=weights.shape[1] - 1)[:, 0]


def ways() -> dict[str, tuple[float, Callable]]:
    """name -> (top-p, sampler): each a function of logits and a prepared step."""
    vllms, ours = Sampler(), batch_sampler.BatchSampler()
    with_seeds, with_generators = batch_sampler._draw_with_seeds, vllm_sampler._multinomial

    def drawing(function, sampler):
        def sample(logits, prepared):
            vllm_sampler._multinomial = function
            return sampler(logits, prepared)

        return sample

    def table(logits, prepared):
        kept = batch_sampler._numbers, batch_sampler.invert_cdf
        batch_sampler._numbers, batch_sampler.invert_cdf = table_numbers, whole_sum
        try:
            return ours(logits, prepared)
        finally:
            batch_sampler._numbers, batch_sampler.invert_cdf = kept

    return {
        "vllm": (1.0, drawing(with_generators, vllms)),
        "table": (1.0, table),
        "ours": (1.0, ours),
        f"vllm top-p {TOP_P}": (TOP_P, drawing(with_generators, vllms)),
        f"ours top-p {TOP_P}": (TOP_P, drawing(with_seeds, ours)),
    }


def measured(requests: int, vocabulary: int, device: str, repeats: int) -> dict[str, dict[str, float]]:
    """name -> ms of a step; all ways in turn, so that a busy machine is busy for all."""
    logits = torch.randn(requests, vocabulary, generator=torch.Generator().manual_seed(0)).mul_(3).to(device)
    prepared = {top_p: step(requests, device, top_p) for top_p in (1.0, TOP_P)}
    times: dict[str, list[float]] = {}
    shaped = device != "cpu" or vocabulary <= SORTED
    wanted = {name: way for name, way in ways().items() if way[0] == 1.0 or shaped}
    for repeat in range(repeats + 1):
        for name, (top_p, sample) in wanted.items():
            copy = logits.clone()  # samplers scale it in place
            _wait(device)
            start = time.perf_counter()
            sample(copy, prepared[top_p])
            _wait(device)
            if repeat:  # the first is not counted: kernels load, tables are drawn
                times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
            del copy
    return {name: {"ms": round(statistics.median(values), 2)} for name, values in times.items()}


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Measures the sizes asked for, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[512, 151_936])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    sizes = {str(size): measured(args.requests, size, args.device, args.repeats) for size in args.vocabularies}
    result = {
        "what": f"sampling one step of {args.requests} seeded requests, logits to output",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"{os.cpu_count()} CPU cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": load,
        "vocabularies": sizes,
    }
    write("sampler" if args.device == "cpu" else "sampler_cuda", result)


if __name__ == "__main__":
    main()
