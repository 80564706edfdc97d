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
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.algorithms_page import draw, put_into_page, table
from benchmarks.jobs import Job, made
from recipes.archer.runs.folder import Run
from recipes.archer.settings.configuration import ROOT

PROJECT = "Archer-algorithms"
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


def job_of(loss: str, seed: int, steps: int, output: Path) -> Job:
    """The run of a loss and a seed."""
    return Job(PROJECT, f"{loss}_seed{seed}", EXPERIMENTS[loss], SETTINGS | {"seed": seed}, steps, output)


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
            runs[loss][str(seed)] = figures(made(job_of(loss, seed, args.steps, args.output.resolve())))
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
