"""Recall, false acceptances and speed of the grader, against verl's graders and plain math-verify.

    python -m benchmarks.grading.bench_grading

Writes benchmarks/results/grading.json.
"""

import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.grading import mixes
from benchmarks.grading.graders import GRADERS, archer
from benchmarks.result_file import machine, write
from recipes.archer.grading.grader import GradingPool
from recipes.archer.grading.grades import Grade

WORKERS = 2
NUM_ROWS = 1_024
WRONG_ROWS = 100  # of each kind
HOSTILE_ROWS = 60
HOSTILE_TIMEOUT_S = 2.0


def measure(pairs: Sequence[Mapping], grades: Sequence[Grade], times: Sequence[float]) -> dict:
    """Recall on the true pairs, which false ones were accepted, and the mean of `times` in ms."""
    accepted = [grade.outcome == "correct" for grade in grades]
    expected = [pair["expected"] for pair in pairs]
    true_accepted = sum(a and e for a, e in zip(accepted, expected, strict=True))

    def named(verdict: bool) -> list[str]:
        rows = [pair for pair, a in zip(pairs, accepted, strict=True) if a == verdict != pair["expected"]]
        return [f"{pair['gold']} | {pair['prediction']}" for pair in rows]

    return {
        "recall": true_accepted / sum(expected),
        "false_acceptances": named(True),
        "missed": named(False),
        "timeouts": sum(grade.outcome == "timeout" for grade in grades),
        "raised": sum(grade.failed for grade in grades),
        "ms_mean": sum(times) / max(len(times), 1),
    }


def compare() -> dict[str, dict]:
    """Every grader on the list of pairs; ours as a training run has it, with its processes."""
    pairs = mixes.load_pairs()
    golds = [pair["gold"] for pair in pairs]
    predictions = [pair["prediction"] for pair in pairs]
    results = {}
    for name, function in GRADERS.items():
        spec = f"{function.__module__}:{function.__name__}"
        with GradingPool(1, 20.0, memory_mb=None, score_fn=spec) as pool:  # torch, with verl, needs the memory
            grades = pool.grade_batch(predictions, golds)
        times = [grade.extra["ms"] for grade in grades if "ms" in grade.extra]
        if function is archer:
            with GradingPool(1) as pool:
                grades = pool.grade_batch([rf"\boxed{{{prediction}}}" for prediction in predictions], golds)
        results[name] = measure(pairs, grades, times)
    return results


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def speed(make: Callable[[int], tuple]) -> dict:
    """Seconds for NUM_ROWS rows from a cold cache, with the processes already started."""
    responses, truths = make(NUM_ROWS)
    before = _children_cpu_s()
    with GradingPool(WORKERS) as pool:
        pool.wait_until_ready()
        time.sleep(2.0)  # the second process
        start = time.perf_counter()
        grades = pool.grade_batch(responses, truths)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        pool.grade_batch(responses, truths)
        again = time.perf_counter() - start
    return {
        "rows": len(responses),
        "seconds": seconds,
        "rows_per_s": len(responses) / seconds,
        "seconds_from_cache": again,
        "cpu_s_with_start": _children_cpu_s() - before,
        "outcomes": dict(Counter(grade.outcome for grade in grades)),
    }


def natural_wrong() -> dict:
    """Gradings a second on one core, in processor time, of wrong answers that come close, by kind."""
    kinds, outcomes = {}, Counter()
    spec = f"{archer.__module__}:{archer.__name__}"
    with GradingPool(1, 20.0, memory_mb=None, score_fn=spec) as pool:
        for kind in mixes.NATURAL:
            grades = pool.grade_batch(*mixes.natural_wrong(kind, WRONG_ROWS))
            times = sorted(grade.extra.get("ms", 20_000.0) for grade in grades)
            kinds[kind] = {"per_s": 1000 * len(times) / sum(times), "ms_median": median(times), "ms_max": times[-1]}
            outcomes.update(grade.outcome for grade in grades)
    rates = {kind: row["per_s"] for kind, row in kinds.items()}
    return {
        "kinds": kinds,
        "rows_a_kind": WRONG_ROWS,
        "median_kind_per_s": median(rates.values()),
        "outcomes": dict(outcomes),
    }


def hostile() -> dict:
    """One row in two hostile: every honest row right, and the time within its bound."""
    responses, truths, honest = mixes.hostile(HOSTILE_ROWS)
    with GradingPool(WORKERS, HOSTILE_TIMEOUT_S) as pool:
        pool.wait_until_ready()
        start = time.perf_counter()
        grades = pool.grade_batch(responses, truths)
        seconds = time.perf_counter() - start
    return {
        "rows": len(responses),
        "timeout_s": HOSTILE_TIMEOUT_S,
        "seconds": seconds,
        "bound_s": honest.count(False) * HOSTILE_TIMEOUT_S / WORKERS,
        "honest_right": sum(g.outcome == "correct" for g, h in zip(grades, honest, strict=True) if h),
        "honest": honest.count(True),
        "hostile_outcomes": dict(Counter(g.outcome for g, h in zip(grades, honest, strict=True) if not h)),
        "files_made": [str(path) for path in Path.cwd().glob("hostile*")],
    }


def report(results: dict, console: Console) -> None:
    """The results as tables."""
    table = Table("grader", title=f"{results['pairs']} pairs, {results['true_pairs']} of them true")
    for column in ("recall", "false accepted", "timeouts", "raised", "mean CPU ms"):
        table.add_column(column, justify="right")
    for name, row in results["graders"].items():
        numbers = (row["timeouts"], row["raised"])
        false = str(len(row["false_acceptances"]))
        table.add_row(name, f"{row['recall']:.3f}", false, *map(str, numbers), f"{row['ms_mean']:.1f}")
    console.print(table)
    table = Table("mix", "rows", "seconds", "rows/s", "from cache", title=f"speed, {WORKERS} workers")
    for name, row in results["speed"].items():
        cached = f"{row['seconds_from_cache']:.2f} s"
        table.add_row(name, str(row["rows"]), f"{row['seconds']:.2f}", f"{row['rows_per_s']:.0f}", cached)
    console.print(table)
    row = results["natural_wrong"]
    table = Table(
        "kind", "gradings/s", "median ms", "longest ms", title="natural wrong answers, one core, processor time"
    )
    for kind, figures in row["kinds"].items():
        table.add_row(kind, *(f"{figures[name]:.1f}" for name in ("per_s", "ms_median", "ms_max")))
    console.print(table)
    console.print(f"median kind: {row['median_kind_per_s']:.0f} a second; outcomes {row['outcomes']}")
    row = results["hostile"]
    console.print(
        f"hostile: {row['seconds']:.1f} s for {row['rows']} rows (bound {row['bound_s']:.1f} s and a few); "
        f"honest rows right {row['honest_right']} of {row['honest']}; others {row['hostile_outcomes']}"
    )


def main() -> None:
    """Runs everything, writes the JSON file and prints the tables."""
    pairs = mixes.load_pairs()
    results = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            **machine(),
            "load_1min": os.getloadavg()[0],
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("math-verify", "latex2sympy2_extended", "sympy")},
        "pairs": len(pairs),
        "true_pairs": sum(pair["expected"] for pair in pairs),
        "categories": dict(Counter(pair["category"] for pair in pairs)),
        "speed": {make.__name__: speed(make) for make in (mixes.easy, mixes.ordinary, mixes.hard)},
        "natural_wrong": natural_wrong(),
        "hostile": hostile(),
        "graders": compare(),
    }
    theirs = results["graders"]["math-verify, percentages repaired"]["false_acceptances"]
    ours = results["graders"]["archer"]["false_acceptances"]
    results["false_acceptances_of_ours_alone"] = sorted(set(ours) - set(theirs))
    write("grading", results)
    report(results, Console())


if __name__ == "__main__":
    main()
