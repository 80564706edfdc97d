"""GRPO, Archer and ASPO on the embedded job, seed by seed: held-out accuracy and entropy, as a figure and a table.

Run: python -m benchmarks.algorithms [--seeds 1 2 3] [--steps 60] [--losses grpo archer aspo]

Every loss starts from the same model and takes the same prompts in the same order. The embedded job makes one update a
batch, for which the losses are one and the same (the ratio is 1); here a batch makes several, so that the policy moves
away from the one that generated and the clips come into play. Runs go to output/Archer-algorithms/ and are not made
again when they are there and whole; one that was cut short goes on from its last checkpoint.

Writes benchmarks/results/algorithms.json, docs/images/algorithms.png, and the part of docs/algorithms.md between its
two marks.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.algorithms_page import draw, put_into_page, table
from recipes.archer.runs.folder import Run, is_run, read_run
from recipes.archer.settings.configuration import ROOT

PROJECT = "Archer-algorithms"
LAUNCHER = ROOT / "scripts" / "train" / "run_archer2.0_qwen3_tiny_cpu.sh"
RESULT = ROOT / "benchmarks" / "results" / "algorithms.json"
PICTURE = ROOT / "docs" / "images" / "algorithms.png"
PAGE = ROOT / "docs" / "algorithms.md"

EXPERIMENTS = {"grpo": "tiny", "archer": "tiny_archer", "aspo": "tiny_aspo"}
SETTINGS = {
    # 16 prompts a batch: four mini-batches, twice; fewer where the group filter leaves fewer prompts
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    "actor_rollout_ref.actor.ppo_epochs": 2,
    "actor_rollout_ref.actor.optim.lr": 1e-4,  # half of the embedded job's, for up to eight times the updates
    "actor_rollout_ref.rollout.val_kwargs.n": 8,  # 512 held-out responses
    "trainer.test_freq": 10,
    "trainer.save_freq": 20,
}
SERIES = ("val/accuracy", "reward/accuracy/mean", "actor/entropy")
MEANS = ("actor/pg_clipfrac", "actor/num_updates", "actor/kl_loss")


@dataclass(frozen=True)
class Job:
    """One run: a loss and a seed."""

    loss: str
    seed: int
    steps: int
    output: Path

    @property
    def folder(self) -> Path:
        return self.output / PROJECT / f"{self.loss}_seed{self.seed}"

    @property
    def settings(self) -> dict:
        return SETTINGS | {"seed": self.seed, "trainer.total_training_steps": self.steps}

    def command(self) -> list[str]:
        """The launcher's; how the run is called and what it logs to besides the settings that matter."""
        names = {"trainer.project_name": PROJECT, "trainer.experiment_name": self.folder.name}
        overrides = self.settings | names | {"trainer.logger": "[console]"}
        return ["bash", str(LAUNCHER), *(f"{name}={value}" for name, value in overrides.items())]

    def environment(self) -> dict[str, str]:
        own = {"EXPERIMENT": EXPERIMENTS[self.loss], "OUTPUT_DIR": str(self.output), "VENV": sys.prefix}
        return os.environ | own


def whole(job: Job) -> Run | None:
    """The finished run of a job, None when it is still to be made.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    if not is_run(job.folder):
        return None
    run = read_run(job.folder)
    if run.config:
        for name, wanted in job.settings.items():
            found = run.config
            for key in name.split("."):
                found = found.get(key) if isinstance(found, dict) else None
            if found != wanted:
                raise SystemExit(f"{job.folder} was made with {name}={found}, not {wanted}; move it away, or --output")
    finished = run.facts.get("status") == "finished" and run.rows and run.rows[-1]["step"] == job.steps
    return run if finished else None


def made(job: Job) -> Run:
    """The finished run of a job; it is made, or gone on with, if need be.

    Raises:
        SystemExit: the launcher failed.
    """
    run = whole(job)
    if run is None:
        print(f"== {job.folder.name}", flush=True)
        code = subprocess.run(job.command(), env=job.environment(), cwd=ROOT).returncode
        run = whole(job)
        if code or run is None:
            raise SystemExit(f"{job.folder.name} ended with {code}; its folder says why: {job.folder}")
    return run


def figures(run: Run) -> dict:
    """What of a run goes into the result: series as [[step, value], ...] where there is one, and means over steps."""
    rows = run.rows_from_start
    series = {key: [[row["step"], row[key]] for row in rows if row.get(key) is not None] for key in SERIES}
    means = {}
    for key in MEANS:
        values = [row[key] for row in run.rows if row.get(key) is not None]
        means[key] = sum(values) / len(values) if values else None
    ratios = [row["actor/ratio/max"] for row in run.rows if row.get("actor/ratio/max") is not None]
    return {"series": series, "means": means, "actor/ratio/max": max(ratios, default=None)}


def main() -> None:
    """Makes the runs that are missing, then the result, the figure and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--losses", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--output", type=Path, default=ROOT / "output", help="where the runs go")
    parser.add_argument("--no-page", action="store_true", help="print the table only: a trial")
    args = parser.parse_args()
    runs: dict[str, dict] = {loss: {} for loss in args.losses}
    for seed in args.seeds:  # seed by seed, so that what is there after an interruption compares
        for loss in args.losses:
            runs[loss][str(seed)] = figures(made(Job(loss, seed, args.steps, args.output.resolve())))
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.algorithms --seeds {' '.join(map(str, args.seeds))} --steps {args.steps}",
        "steps": args.steps,
        "settings": SETTINGS,
        "losses": runs,
    }
    print(table(result))
    if args.no_page:
        return
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, PICTURE)
    put_into_page(result, PAGE)
    print(f"written: {RESULT}, {PICTURE}, {PAGE}")


if __name__ == "__main__":
    main()
