"""Wall time and memory of the commands that read run folders; writes benchmarks/results/reports.json.

Run: python -m benchmarks.bench_reports [--repeats N]

Each command is a process of its own, as a user starts it, so that imports count. The folders are made for it: V5's
resolved configuration and record, rows as wide as a run's, 16 responses of 4,000 characters at every tenth step. What
a run did is drawn from a fixed seed; the criteria (levels and trends of V1 and V5) are judged on every row.

No run of ours is as long as the longest here, whose million rows a stranger's folder may have: its rows are narrow and
there is no record, so that it says what a row costs at least.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.result_file import write_judged
from recipes.archer.experiments.registry import plan_as_written, resolved_path
from recipes.archer.settings.configuration import ROOT

TARGET_S = 10.0
HELP_TARGET_S = 1.0
TARGET_GIB = 1.0
MILLION = 10**6  # rows of the longest run
WIDTH = 160  # keys of a row; a run's own has fewer
CLI = (sys.executable, "-c", "from recipes.archer.commands.cli import main; main()")


def rows(steps: int, seed: int) -> list[dict]:
    """A run that learns slowly: noisy curves of the metrics that reports draw, and others up to the width of a row."""
    noise = np.random.default_rng(seed)
    made = []
    for step in range(1, steps + 1):
        x = step / steps
        wobble = noise.normal(size=WIDTH)
        solved, failed = int(12 * x), int(30 - 10 * x + 2 * wobble[0])
        row = {
            "step": step,
            "reward/accuracy/mean": 0.1 + 0.2 * x + 0.02 * wobble[1],
            "val/accuracy": 0.1 + 0.2 * x if step % 10 == 0 else None,
            "critic/score/mean": 0.2 * x + 0.02 * wobble[2],
            "actor/entropy": 6 + 0.2 * wobble[3],
            "actor/kl_loss": 0.3 * x + 0.01 * abs(wobble[4]),
            "actor/grad_norm": 1 + 0.2 * abs(wobble[5]),
            "response_length/mean": 900 + 50 * wobble[6],
            "response_length/pos/mean": 700 + 50 * wobble[7],
            "response_length/neg/mean": 1000 + 50 * wobble[8],
            "batch/solve_all": solved,
            "batch/solve_none": failed,
            "batch/valid": 64 - solved - failed,
            "logical_connectives/mean": 7 + 0.3 * wobble[9],
            "logical_connectives/pos/mean": 8 + 0.3 * wobble[10],
            "repetition/ratio/mean": 0.05 + 0.01 * abs(wobble[11]),
            "timing_s/step": 90 + 3 * wobble[12],
            "timing_s/gen": 50 + 2 * wobble[13],
            "timing_s/update_actor": 25.0,
        }
        others = range(len(row), WIDTH)
        made.append(row | {f"other/figure_{i:03}/mean": float(wobble[i]) for i in others})
    return made


def write_run(folder: Path, steps: int, seed: int) -> Path:
    """A run folder as the trainer leaves it, without checkpoints, and without a verdict: it has to be judged."""
    (folder / "samples").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(steps, seed)))
    config = yaml.safe_load(resolved_path("v5").read_text())
    plans = [plan_as_written(name) for name in ("v1", "v5")]
    config["record"] = {
        "name": "v5", "title": "Long run", "parent": "v4", "date": None, "commit": None, "job": None,
        "problem": "None.", "hypothesis": "None.", "changes": [], "results": None,
        "criteria": [criterion for plan in plans for criterion in plan["criteria"]],
        "contingency": plans[1]["contingency"],
    }  # fmt: skip
    config["trainer"]["experiment_name"] = folder.name
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"name": folder.name, "project": "bench", "status": "finished", "seed": seed, "steps": steps}
    (folder / "run.json").write_text(json.dumps(facts))
    for step in range(10, steps + 1, 10):
        samples = [
            {
                "step": step, "prompt": f"What is {i} + {i}?", "response": f"Therefore {2 * i}. " * 250,
                "ground_truth": str(2 * i), "answer": str(2 * i), "outcome": "wrong" if i % 3 else "correct",
                "score": float(i % 3 == 0), "reward": float(i % 3 == 0), "length": 900, "truncated": False,
            }
            for i in range(16)
        ]  # fmt: skip
        lines = "".join(json.dumps(sample) + "\n" for sample in samples)
        (folder / "samples" / f"step_{step}.jsonl").write_text(lines)
    return folder


def write_million(folder: Path, seed: int) -> Path:
    """A run of a million rows with three figures each, of which one is a gap now and then."""
    (folder / "samples").mkdir(parents=True)
    noise = np.random.default_rng(seed).normal(size=(MILLION, 2))
    with open(folder / "metrics.jsonl", "w") as file:
        for step, (a, b) in enumerate(noise.tolist(), start=1):
            row = {"step": step, "actor/entropy": 6 + 0.2 * a, "reward/accuracy/mean": 0.1 + 0.02 * b}
            file.write(json.dumps(row | {"val/accuracy": 0.1 + 0.02 * a if step % 10 == 0 else None}) + "\n")
    (folder / "run.json").write_text(json.dumps({"name": folder.name, "status": "finished", "steps": MILLION}))
    sample = {"prompt": "1 + 1?", "response": "2", "outcome": "correct"}
    (folder / "samples" / f"step_{MILLION}.jsonl").write_text(json.dumps(sample) + "\n")
    return folder


def measure(words: list[str], repeats: int, cwd: Path) -> dict:
    """Seconds of the wall clock of a command, of processors in it and its children, and the most memory of a process.

    The first start compiles what it imports, as after an installation; it is told apart from the others.
    """
    times, cpu, memory = [], [], []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment["PYTHONPYCACHEPREFIX"] = str(cwd / "compiled" / words[0].strip("-"))
    for _ in range(1 + repeats):
        start = time.perf_counter()
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen([*CLI, *words], cwd=cwd, env=environment, stdout=told, stderr=told)
            _, ended, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(ended)
            times.append(time.perf_counter() - start)
            cpu.append(used.ru_utime + used.ru_stime)
            memory.append(used.ru_maxrss / 1024**2)
            if process.returncode not in (0, 10, 20):  # monitor's verdict is its exit code
                told.seek(0)
                raise RuntimeError(f"archer {' '.join(words)}: {told.read()[-500:].decode()}")
    return {
        "first_start_s": round(times[0], 2),
        "median_s": round(statistics.median(times[1:]), 2),
        "median_cpu_s": round(statistics.median(cpu[1:]), 2),
        "most_gib": round(max(memory), 2),
        "times_s": [round(seconds, 2) for seconds in times[1:]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        for i in range(50):
            write_run(here / "many" / f"run_{i:02}", 300, i)
        long = [str(write_run(here / "long" / f"run_{i}", 1000, i)) for i in range(3)]
        calls = {
            "help": ["--help"],
            "runs_50_of_300_steps": ["runs", str(here / "many")],
            "runs_3_of_1000_steps": ["runs", str(here / "long")],
            "compare_3_of_1000_steps": ["compare", *long],
            "report_1000_steps": ["report", long[0]],
            "monitor_1000_steps": ["monitor", long[0], "--json"],
            "samples": ["samples", long[0]],
        }
        million = str(write_million(here / "million" / "run_0", 0))
        calls |= {
            "runs_a_million_steps": ["runs", str(here / "million")],
            "compare_a_million_steps": ["compare", million, long[0]],
            "report_a_million_steps": ["report", million],
            "monitor_a_million_steps": ["monitor", million],
            "samples_a_million_steps": ["samples", million],
        }
        load = os.getloadavg()[0]
        cases = {name: measure(words, repeats, here) for name, words in calls.items()}
    slowest = max(max(case["median_s"], case["first_start_s"]) for name, case in cases.items() if name != "help")
    largest = max(case["most_gib"] for case in cases.values())
    result = {
        "what": "commands on run folders, each a process of its own",
        "target_s": TARGET_S,
        "slowest_s": slowest,
        "target_gib": TARGET_GIB,
        "largest_gib": largest,
        "within_target": slowest < TARGET_S and largest < TARGET_GIB and cases["help"]["median_s"] < HELP_TARGET_S,
        "cases": cases,
        "keys_a_row": WIDTH,
    }
    return write_judged("reports", result, load)


if __name__ == "__main__":
    sys.exit(main())
