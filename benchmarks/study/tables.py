"""The study's figures as Markdown tables."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from benchmarks.study import signs
from benchmarks.study.cells import Cell, SickJob
from benchmarks.study.memory import Kept, Memory

KEPT_WITHIN = 0.8  # share of the steps that a run must be in its band to count as held


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its heading."""
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean, least and greatest over the seeds."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "–"
    return f"{np.mean(known):.{digits}f} ({min(known):.{digits}f}–{max(known):.{digits}f})"


def of_disease(cells: Sequence[Cell], memory: Memory, seeds: Sequence[int]) -> str:
    """A line a cell: figures, and in how many of the seeds each sign of V0 to V5 shows."""
    rows: list[tuple[str, ...]] = [
        ("turn end, filter, regularisation", "held out, end", "entropy, first → last", "KL, last", *signs.SIGNS)
    ]
    for cell in cells:
        runs = memory.of(cell, seeds)
        if not runs:
            continue
        counts = (f"{sum(map(sign, runs))} of {len(runs)}" for sign in signs.SIGNS.values())
        edges = [signs.edges(run, "actor/entropy") for run in runs]
        entropy = f"{np.mean([first for first, _ in edges]):.2f} → {spread(last for _, last in edges)}"
        kl = spread(signs.edges(run, "actor/kl_loss")[1] for run in runs)
        rows.append((cell.name, spread(map(signs.at_end, runs)), entropy, kl, *counts))
    return markdown(rows)


def of_cure(job: SickJob, cells: Sequence[Cell], memory: Memory, seeds: Sequence[int]) -> str:
    """A line an arm: scores, how well entropy was held, and the paired difference to the best fixed arm."""
    found = {cell.name: memory.of(cell, seeds) for cell in cells}
    against = best_fixed(job, found)
    rows: list[tuple[str, ...]] = [
        ("arm", "held out, end", "held out, best", "entropy, first → last", "steps in the band", "seeds held",
         "lost", f"end, against {against or 'the best fixed arm'}")
    ]  # fmt: skip
    for name, runs in found.items():
        if not runs:
            continue
        shares = [signs.within(run, *job.band) for run in runs]
        edges = [signs.edges(run, "actor/entropy") for run in runs]
        rows.append((
            name, spread(map(signs.at_end, runs)), spread(map(signs.at_best, runs)),
            f"{np.mean([first for first, _ in edges]):.2f} → {spread(last for _, last in edges)}", spread(shares),
            f"{sum(share >= KEPT_WITHIN for share in shares)} of {len(runs)}",
            str(sum(run.lost for run in runs)),
            difference(runs, found.get(against or "", [])) if name != against else "",
        ))  # fmt: skip
    return markdown(rows)


def best_fixed(job: SickJob, found: dict[str, list[Kept]]) -> str | None:
    """The arm with fixed coefficients that ends with the highest mean accuracy."""
    fixed = {name: np.mean([signs.at_end(run) for run in found[name]]) for name in job.fixed if found.get(name)}
    return max(fixed, key=lambda name: fixed[name], default=None)


def difference(runs: Sequence[Kept], others: Sequence[Kept]) -> str:
    """Mean paired difference of accuracy at the end, with its 95% interval over seeds."""
    mine, theirs = ({run.seed: signs.at_end(run) for run in some} for some in (runs, others))
    shared = sorted(mine.keys() & theirs.keys())
    if len(shared) < 2:
        return "–"
    gaps = np.array([mine[seed] - theirs[seed] for seed in shared])
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    return f"{gaps.mean():+.2f} ({low:+.2f} to {high:+.2f})"
