"""What the end of a turn does to the embedded job: known or not, with and without an entropy bonus, seed by seed.

Run: python -m benchmarks.turn_end [--seeds 1 2 3 4 5] [--steps 40]

Runs go to output/Archer-turn-end/ and are not made again when they are there and whole. Writes
benchmarks/results/turn_end.json and the part of docs/experiments/README.md between its two marks.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.jobs import Job, made
from benchmarks.page import marks, put_between
from recipes.archer.runs.folder import Run
from recipes.archer.settings.configuration import ROOT

PROJECT = "Archer-turn-end"
RESULT = ROOT / "benchmarks" / "results" / "turn_end.json"
PAGE = ROOT / "docs" / "experiments" / "README.md"
BEGIN, END = marks("turn-end", "benchmarks.turn_end")
EXPERIMENTS = {"known": "tiny", "unknown": "tiny_no_turn_end"}
CASES = (("known", 0.0), ("known", 0.2), ("unknown", 0.0), ("unknown", 0.2))  # turn's end, entropy bonus
SETTINGS = {"trainer.save_freq": 20, "trainer.test_freq": 20}
LAST = 3  # steps at each end over which a figure is averaged


def job_of(end: str, bonus: float, seed: int, steps: int, output: Path) -> Job:
    """The run of a case and a seed."""
    settings = SETTINGS | {"actor_rollout_ref.actor.entropy_coeff": bonus, "seed": seed}
    return Job(PROJECT, f"{end}_bonus{bonus:g}_seed{seed}", EXPERIMENTS[end], settings, steps, output)


def figures(run: Run) -> dict:
    """What of a run goes into the result."""
    rows = run.rows_from_start

    def at_end(key: str, part: slice) -> float | None:
        values = [row[key] for row in rows if row["step"] > 0 and row.get(key) is not None][part]
        return float(np.mean(values)) if values else None

    first, last = slice(None, LAST), slice(-LAST, None)
    held_out = [row["val/accuracy"] for row in rows if row.get("val/accuracy") is not None]
    return {
        "held out, before": held_out[0],
        "held out, at the end": held_out[-1],
        "entropy, first": at_end("actor/entropy", first),
        "entropy, last": at_end("actor/entropy", last),
        "KL, last": at_end("actor/kl_loss", last),
        "valid of 16, last": at_end("batch/valid", last),
        "ended, last": at_end("response/ended/mean", last),
    }


def table(result: dict) -> str:
    """Markdown: mean over the seeds, and each seed's least and greatest, of each case."""
    names = list(next(iter(result["cases"][0]["seeds"].values())))
    lines = [("turn end", "entropy bonus", *names), ("---",) * (2 + len(names))]
    for case in result["cases"]:
        columns = [[seed[name] for seed in case["seeds"].values()] for name in names]
        lines.append((case["turn end"], f"{case['entropy bonus']:g}", *map(_spread, columns)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.2f} ({min(known):.2f}–{max(known):.2f})" if known else "–"


def main() -> None:
    """Makes the runs that are missing, then the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--output", type=Path, default=ROOT / "output", help="where the runs go")
    parser.add_argument("--no-page", action="store_true", help="print the table only: a trial")
    args = parser.parse_args()
    cases = [{"turn end": end, "entropy bonus": bonus, "seeds": {}} for end, bonus in CASES]
    for seed in args.seeds:  # seed by seed, so that what is there after an interruption compares
        for case in cases:
            job = job_of(case["turn end"], case["entropy bonus"], seed, args.steps, args.output.resolve())
            case["seeds"][str(seed)] = figures(made(job))
    seeds = " ".join(map(str, args.seeds))
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.turn_end --seeds {seeds} --steps {args.steps}",
        "steps": args.steps,
        "cases": cases,
    }
    print(table(result))
    if args.no_page:
        return
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    about = f"{result['date'][:10]}, {args.steps} steps, {len(args.seeds)} seeds: mean (least–greatest)."
    put_between(PAGE, BEGIN, END, f"{about}\n\n{table(result)}\n\n```\n{result['command']}\n```")
    print(f"written: {RESULT}, {PAGE}")


if __name__ == "__main__":
    main()
