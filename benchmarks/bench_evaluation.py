"""Tokens a second of an evaluation against plain ``vllm.LLM.generate``; writes benchmarks/results/evaluation.json.

Run: python -m benchmarks.bench_evaluation [--repeats N]

The tiny model answers its held-out prompts, n=16 at temperature 0.8 and top-p 0.95, on the CPU; one engine does both in
turn. An evaluation also grades, and writes responses and scores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.result_file import write_judged
from recipes.archer.settings.configuration import ROOT

TARGET = 0.9
N, CAP = 16, 96  # 1,024 responses; MATH-500 with n 4 has 2,000, and of the 256 with n 4 the end alone is a tenth


def tiny() -> Path:
    """The folder of the tiny model, made if it is not there."""
    command = [sys.executable, ROOT / "scripts" / "data" / "make_tiny_model.py"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def main() -> None:
    """Measures both and judges their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats, load = parser.parse_args().repeats, os.getloadavg()[0]
    from recipes.archer.export.targets import find_targets
    from recipes.archer.startup.engines import Engines
    from recipes.archer.startup.evaluating import Options, Work, settings_for

    folder, plain, ours = tiny(), [], []
    options = Options(n=N, temperature=0.8, top_p=0.95, max_tokens=CAP)
    with tempfile.TemporaryDirectory(prefix="archer-bench-") as out:
        (target,) = find_targets([str(folder / "model")], None, Path(out))
        with (
            Engines("cpu", None) as engines,
            Work([folder / "val.json"], settings_for([target], options), engines) as work,
        ):
            from recipes.archer.evaluation.engine import Engine

            work.pool.wait_until_ready()
            engine = Engine(target.folder, "cpu", 256)
            (evaluation,) = work.planned(target)
            for repeat in range(repeats + 1):
                plain.append(plain_speed(engine, evaluation))
                ours.append(own_speed(engine, evaluation, work.pool, repeat))
            engine.close()
    speeds = {name: statistics.median(each[1:]) for name, each in (("plain", plain), ("evaluation", ours))}
    ratio = speeds["evaluation"] / speeds["plain"]
    result = {"tokens_per_s": speeds, "ratio": ratio, "target": TARGET, "within_target": ratio >= TARGET}
    sys.exit(write_judged("evaluation", result, load))


def plain_speed(engine, evaluation) -> float:
    """Tokens a second of vLLM alone."""
    from vllm import SamplingParams

    ends = list(evaluation.plan.stop_token_ids)
    settings = {"temperature": 0.8, "top_p": 0.95, "max_tokens": CAP, "stop_token_ids": ends, "detokenize": False}
    prompts = [{"prompt_token_ids": list(q.prompt_ids)} for q in evaluation.questions for _ in range(N)]
    parameters = [SamplingParams(seed=i, **settings) for i in range(len(prompts))]
    start = time.perf_counter()
    outputs = engine.llm.generate(prompts, parameters, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.perf_counter() - start)


def own_speed(engine, evaluation, pool, repeat: int) -> float:
    """Tokens a second of a whole evaluation, with grades, files and scores."""
    from dataclasses import replace

    fresh = replace(evaluation, folder=evaluation.folder / str(repeat))
    start = time.perf_counter()
    scores = fresh.run(lambda: engine, pool, lambda *_: None)
    return scores["length"] * evaluation.num_responses / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
