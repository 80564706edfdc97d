"""Two evaluations on the same questions: which is better, how surely, and what would tell them apart."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recipes.archer.ending import UserError
from recipes.archer.evaluation.scores import Difference, Effort, effort, paired_difference, sampling_noise

BETTER, WORSE, ALIKE = "better", "worse", "not told apart"
MOST = 1_000_000  # an effort above it is not one


@dataclass(frozen=True)
class Comparison:
    """How one model differs from another.

    Attributes:
        verdict: better, worse or not told apart.
        difference: of the shares of right responses, mean over the questions.
        difference_ci95: its 95% interval.
        num_questions: that both have answered.
        only_here, only_there: that one of them has.
        gained, lost: questions that went from at most half right to more, and back.
        questions_needed, samples_needed: what would show such a difference, see ``scores.Effort``.
        sentence: all that in words.
    """

    verdict: str
    difference: float
    difference_ci95: list[float]
    num_questions: int
    only_here: int
    only_there: int
    gained: int
    lost: int
    questions_needed: int | None
    samples_needed: int | None
    sentence: str

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def compare(own: Mapping[str, Any], other: Mapping[str, Any], other_name: str) -> Comparison:
    """Compares the scores of two evaluations, as ``scores.json`` has them.

    Args:
        other_name: what the sentence calls the other one.

    Raises:
        UserError: they share no question.
    """
    ours, theirs = _counts(own), _counts(other)
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise UserError(f"{other_name} was evaluated on other questions: compare on the same --data")
    n, other_n = int(own["n"]), int(other["n"])
    correct, other_correct = (np.array([counts[key] for key in shared]) for counts in (ours, theirs))
    share, other_share = correct / n, other_correct / other_n
    found = paired_difference(share, other_share)
    needed = _needed(share - other_share, sampling_noise(correct, other_correct, n, other_n), min(n, other_n))
    verdict = ALIKE if not found.told_apart else BETTER if found.difference > 0 else WORSE
    bounds = [round(max(-1.0, found.low), 6), round(min(1.0, found.high), 6)]
    return Comparison(
        verdict=verdict,
        difference=found.difference,
        difference_ci95=bounds,
        num_questions=len(shared),
        only_here=len(ours) - len(shared),
        only_there=len(theirs) - len(shared),
        gained=int(((share > 0.5) & (other_share <= 0.5)).sum()),
        lost=int(((share <= 0.5) & (other_share > 0.5)).sum()),
        questions_needed=needed.questions,
        samples_needed=needed.samples,
        sentence=_sentence(verdict, found, bounds, needed, len(shared), min(n, other_n), other_name),
    )


def shared(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two evaluations have a question in common."""
    return not _counts(own).keys().isdisjoint(_counts(other))


def with_comparison(scores: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with what comparing them with others gives: ``difference``, ``difference_ci95``, and all else of it."""
    found = compare(scores, other, str(other.get("model", "the other")))
    facts = {name: value for name, value in found.facts().items() if not name.startswith("difference")}
    against = {"model": other.get("model"), "plan": other.get("plan"), **facts}
    return {**scores, "difference": found.difference, "difference_ci95": found.difference_ci95, "against": against}


def _counts(scores: Mapping[str, Any]) -> dict[str, int]:
    return {question["question"]: question["num_correct"] for question in scores["questions"]}


def _needed(gaps: Any, noise: float | None, n: int) -> Effort:
    found = effort(gaps, noise, n)
    return Effort(*(number if number is not None and number <= MOST else None for number in found))


def _sentence(
    verdict: str, found: Difference, bounds: list[float], needed: Effort, size: int, n: int, other_name: str
) -> str:
    gap = f"{100 * found.difference:+.1f} points, 95% interval {100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"
    basis = f"{size} question{'s' * (size != 1)}, n={n}"
    if verdict != ALIKE:
        return f"{verdict} than {other_name}: {gap} ({basis})"
    told = f"not told apart from {other_name} by this benchmark at n={n}: {gap} ({basis})"
    ways = []
    if needed.samples is not None and needed.samples > n:
        ways.append(f"{needed.samples:,} samples a question")
    if needed.questions is not None and needed.questions > size:
        ways.append(f"{needed.questions:,} questions at n={n}")
    if not ways:
        return told
    return f"{told}; a difference of {100 * math.fabs(found.difference):.1f} points takes about {' or '.join(ways)}"
