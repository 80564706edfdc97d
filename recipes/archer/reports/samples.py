"""Which of the kept responses to show, and how a response's grade reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from recipes.archer.printable import printable
from recipes.archer.reports.figures import best_row
from recipes.archer.runs.folder import Run, read_samples, sample_steps

SHOWN = 4  # responses a step in a report


@dataclass(frozen=True)
class StepSamples:
    """Responses of one step for a report.

    Attributes:
        title: which step it is and why it is shown.
        counts: outcome -> how many of the kept responses.
        rows: those to show.
    """

    title: str
    counts: dict[str, int]
    rows: list[dict]


def step_samples(run: Run) -> list[StepSamples]:
    """Responses at the first, the best and the last step, as near as they were kept."""
    result = []
    for step, title in _named_steps(run).items():
        rows = read_samples(run, step)
        counts = Counter(outcome(row) for row in rows)
        result.append(StepSamples(f"Step {step}: {title}", dict(counts.most_common()), choose(rows)))
    return result


def _named_steps(run: Run) -> dict[int, str]:
    steps = sample_steps(run)
    if not steps:
        return {}
    names: dict[int, list[str]] = {steps[0]: ["first"]}
    best = best_row(run.rows_from_start)
    if best is not None:
        wanted = best[0]["step"]
        nearest = min(steps, key=lambda step: abs(step - wanted))
        name = "best" if nearest == wanted else f"nearest kept to the best (step {wanted})"
        names.setdefault(nearest, []).append(name)
    names.setdefault(steps[-1], []).append("last")
    return {step: " and ".join(words) for step, words in sorted(names.items())}


def choose(rows: Sequence[dict], number: int = SHOWN) -> list[dict]:
    """Half correct, half not, as far as there are so many; of different outcomes and prompts first."""
    correct = _varied([row for row in rows if outcome(row) == "correct"])
    other = _varied([row for row in rows if outcome(row) != "correct"])
    half = number // 2
    num_correct = min(len(correct), max(half, number - len(other)))
    return correct[:num_correct] + other[: number - num_correct]


def _varied(rows: Sequence[dict]) -> list[dict]:
    """The rows in their order, except that the first of each prompt and outcome come before the others."""
    seen: Counter = Counter()
    ranks = []
    for row in rows:
        kind = (printable(row.get("prompt")), outcome(row))
        ranks.append(seen[kind])
        seen[kind] += 1
    order = sorted(range(len(rows)), key=lambda i: (ranks[i], i))
    return [rows[i] for i in order]


def outcome(row: dict) -> str:
    """The grade of a kept response."""
    return printable(row.get("outcome") or "not graded")


def grade_text(row: dict) -> str:
    """What is known about a response besides its text, in one line."""
    parts = [f"answer {printable(row['answer'])}" if row.get("answer") is not None else "no answer read"]
    parts.append(f"expected {printable(row.get('ground_truth'))}")
    for name in ("score", "reward"):
        if isinstance(row.get(name), int | float):
            parts.append(f"{name} {row[name]:g}")
    if row.get("length") is not None:
        cut = ", cut at the cap" if row.get("truncated") else ""
        parts.append(f"{printable(row['length'])} tokens{cut}")
    return " · ".join(parts)
