"""Seconds a training step: our embedded job and TRL's GRPOTrainer, alternating on one machine.

Same model, prompts a step, responses a prompt, response cap, learning rate, KL coefficient and number of
optimizer updates a step; TRL's newest release in an environment of its own, with a thread a core, as it comes, and
with one thread.  Single times mean little on a shared machine: the ratio of the medians, taken in turns, is the
result; once with the machine as it is, and once while a process of the benchmark's own keeps one core busy.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipes.archer.settings.configuration import ROOT

STEPS, WARM_UP, TURNS = 20, 4, 2
PROMPTS, N, CAP, LR, BETA = 16, 8, 96, 1e-4, 0.001
CONDITIONS = ("idle", "busy")
LONGEST_BUSY_S = 1800  # also where the benchmark itself was killed
SPIN = f"""
import os, sys, time
end = time.time() + {LONGEST_BUSY_S}
while time.time() < end and os.getppid() == int(sys.argv[1]):
    sum(range(1_000_000))
"""
SHAPE = {"prompts": PROMPTS, "n": N, "cap": CAP, "lr": LR, "beta": BETA, "updates": 1, "steps": STEPS}


def cache() -> Path:
    """Where environments and the tiny model are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ARCHER_CACHE") or Path(home) / "archer")


def trl_python() -> Path:
    """The Python of TRL's environment, with its newest release and the torch that we use.

    An environment that cannot be brought up to date, as without network, is used as it is if it has TRL.
    """
    import torch

    folder = cache() / "bench-trl"
    python = folder / "bin" / "python"
    uv = max(cache().glob("uv-*/bin/uv"), default=None)
    if uv is None:
        sys.exit(f"error: there is no uv in {cache()}; run make setup")
    links = os.environ.get("PIP_FIND_LINKS")
    source = ["--find-links", links] if links else ["--torch-backend", "cpu"]
    install = [uv, "pip", "install", "-q", "--upgrade", "--python", python, *source]
    problem = None if python.exists() else _problem([uv, "venv", "-q", "--clear", "--python", "3.11", folder])
    problem = problem or _problem([*install, f"torch=={torch.__version__}", "trl"])
    if problem and python.exists() and not _problem([python, "-c", "import trl"]):
        print(f"warning: TRL could not be brought up to date: {problem}", file=sys.stderr)
    elif problem:
        sys.exit(f"error: {folder}: TRL could not be installed: {problem}; check the network and run it again")
    return python


def _problem(command: list) -> str | None:
    """What a command that failed said first; None when it did not fail."""
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stderr.strip() or f"{command[0]} ended with {done.returncode}"
    return said.splitlines()[0] if done.returncode else None


def run_trl(python: Path, tiny: Path, seed: int, threads: int) -> list[float]:
    """Seconds of each step of TRL."""
    arguments = {"model": tiny / "model", "data": tiny / "train.json", "steps": STEPS, "prompts": PROMPTS, "n": N}
    arguments |= {"cap": CAP, "seed": seed, "threads": threads, "lr": LR, "beta": BETA}
    words = [str(word) for name, value in arguments.items() for word in (f"--{name}", value)]
    job = Path(__file__).with_name("trl_job.py")
    done = subprocess.run([python, job, *words], capture_output=True, text=True, check=True)
    return [json.loads(line)["s"] for line in re.findall(r"^STEP (.*)$", done.stdout, re.M)]


def run_ours(tiny: Path, seed: int) -> list[dict]:
    """Rows of metrics.jsonl of the embedded job, every group trained on, as TRL does."""
    with tempfile.TemporaryDirectory() as output:
        settings = {
            "trainer.total_training_steps": STEPS,
            "algorithm.group_filter.enable": "false",
            "trainer.val_before_train": "false",
            "trainer.test_freq": -1,
            "trainer.save_freq": -1,
            "trainer.logger": "[console]",
            "actor_rollout_ref.rollout.n": N,
            "data.train_batch_size": PROMPTS,
            "actor_rollout_ref.actor.ppo_mini_batch_size": PROMPTS,
            "data.max_response_length": CAP,
            "actor_rollout_ref.actor.kl_loss_coef": BETA,
            "actor_rollout_ref.actor.optim.lr": LR,
            "seed": seed,
        }
        launcher = ROOT / "scripts" / "train" / "run_archer2.0_qwen3_tiny_cpu.sh"
        overrides = [f"{name}={value}" for name, value in settings.items()]
        environment = os.environ | {"OUTPUT_DIR": output, "TINY_DIR": str(tiny), "VENV": sys.prefix}
        subprocess.run(["bash", launcher, *overrides], check=True, env=environment, stdout=subprocess.DEVNULL)
        file = Path(output) / "Archer-tiny" / "tiny" / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


def split_by_stage(rows: list[dict]) -> dict[str, float]:
    """Median seconds of each stage."""
    stages = [key for key in rows[0] if key.startswith("timing_s/") and rows[0][key] is not None]
    return {key.removeprefix("timing_s/"): round(statistics.median(r[key] for r in rows), 4) for key in stages}


@contextmanager
def one_core_taken(taken: bool = True) -> Iterator[None]:
    """A process that computes all the time; it ends with this one at the latest."""
    if not taken:
        yield
        return
    with subprocess.Popen([sys.executable, "-P", "-c", SPIN, str(os.getpid())]) as child:
        try:
            yield
        finally:
            child.kill()


def compare(python: Path, tiny: Path, condition: str) -> dict:
    """The turns, in one of the conditions: medians and ratios."""
    cores = os.cpu_count() or 1
    ours, trl, trl_one_thread, load = [], [], [], os.getloadavg()[0]
    with one_core_taken(condition == "busy"):
        for turn in range(TURNS):
            ours += run_ours(tiny, turn + 1)[WARM_UP:]
            trl += run_trl(python, tiny, turn + 1, cores)[WARM_UP:]
            trl_one_thread += run_trl(python, tiny, turn + 1, 1)[WARM_UP:]
            print(f"{condition}, turn {turn + 1} of {TURNS}", flush=True)
    own = statistics.median(row["timing_s/step"] for row in ours)
    return {
        "ratio_vs_trl": round(own / statistics.median(trl), 3),
        "ratio_vs_trl_of_one_thread": round(own / statistics.median(trl_one_thread), 3),
        "ours_s": round(own, 4),
        "trl_s": round(statistics.median(trl), 4),
        "trl_of_one_thread_s": round(statistics.median(trl_one_thread), 4),
        "ours_by_stage_s": split_by_stage(ours),
        "load_before": round(load, 2),
    }


def main() -> dict:
    """Runs the turns and returns the result."""
    python = trl_python()
    script = ROOT / "scripts" / "data" / "make_tiny_model.py"
    tiny = Path(subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.strip())
    compared = {condition: compare(python, tiny, condition) for condition in CONDITIONS}
    versions = [python, "-c", "import trl, transformers; print(trl.__version__, transformers.__version__)"]
    trl, transformers = subprocess.run(versions, capture_output=True, text=True, check=True).stdout.split()
    return compared | {"shape": SHAPE, "trl": {"trl": trl, "transformers": transformers}}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
