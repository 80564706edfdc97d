"""Responses and votes to the figures of an evaluation, each with its interval over questions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.archer.evaluation.responses import Response
from recipes.archer.evaluation.scores import Interval, interval, pass_at_k, ratio_interval, steps_of_k

SHARES: dict[str, Callable[[Response], bool]] = {
    "truncated": lambda response: not response.ended,
    "no_answer": lambda response: response.outcome == "no_answer",
    "unparseable": lambda response: response.outcome == "unparseable",
    "timeout": lambda response: response.outcome == "timeout",
}
LENGTHS: dict[str, Callable[[Response], bool]] = {
    "length": lambda response: True,
    "length_correct": lambda response: response.correct,
    "length_wrong": lambda response: not response.correct,
}


@dataclass(frozen=True)
class Answered:
    """One question with all its responses.

    Attributes:
        key, data_source: the question's.
        responses: all n.
        majority: what its vote is worth, see ``votes.majority``.
    """

    key: str
    data_source: str
    responses: Sequence[Response]
    majority: float

    @property
    def num_correct(self) -> int:
        return sum(response.correct for response in self.responses)

    def facts(self) -> dict[str, Any]:
        """What another evaluation of the same questions is compared by."""
        source = {"data_source": self.data_source, "row": self.responses[0].row}
        return {"question": self.key, **source, "num_correct": self.num_correct, "maj": self.majority}


def figures(questions: Sequence[Answered], max_tokens: int) -> dict[str, Any]:
    """All figures, over everything and by data source; see docs/evaluation.md for each.

    Args:
        max_tokens: the cap of a response.
    """
    own: dict[str, list[Answered]] = {}
    for question in questions:
        own.setdefault(question.data_source, []).append(question)
    by_source = {name: _figures(own[name], max_tokens) for name in sorted(own)}
    whole = _figures(questions, max_tokens)
    return {**whole, "by_source": by_source, "questions": [question.facts() for question in questions]}


def counted(num_correct: Sequence[int], votes: Sequence[float], n: int) -> dict[str, Any]:
    """What follows from how many responses to each question are right, and what its vote is worth.

    Args:
        num_correct, votes: (questions,), at least one; of each question, 0 … n and 0 … 1.
        n: responses a question.
    """
    correct = np.array(num_correct)
    passed = {str(k): pass_at_k(correct, n, k) for k in steps_of_k(n)}
    return {
        "num_questions": len(correct),
        "n": n,
        **_with_interval("avg", correct / n),
        "pass_at": {k: float(values.mean()) for k, values in passed.items()},
        "pass_at_ci95": {k: list(_rounded(interval(values))) for k, values in passed.items()},
        **_with_interval("maj", np.array(votes)),
    }


def _figures(questions: Sequence[Answered], most: int) -> dict[str, Any]:
    n = len(questions[0].responses)
    return {
        **counted([question.num_correct for question in questions], [q.majority for q in questions], n),
        **{name: value for share, holds in SHARES.items() for name, value in _share(share, holds, questions).items()},
        **{name: value for kind, of in LENGTHS.items() for name, value in _length(kind, questions, most, of).items()},
    }


def _share(name: str, holds: Callable[[Response], bool], questions: Sequence[Answered]) -> dict[str, Any]:
    return _with_interval(name, np.array([np.mean([holds(r) for r in q.responses]) for q in questions]))


def _with_interval(name: str, values: NDArray[Any]) -> dict[str, Any]:
    return {name: float(values.mean()), f"{name}_ci95": list(_rounded(interval(values)))}


def _length(name: str, questions: Sequence[Answered], most: int, counts: Callable[[Response], bool]) -> dict[str, Any]:
    """Mean tokens of the responses that count, None where there is none."""
    lengths = [[response.tokens for response in q.responses if counts(response)] for q in questions]
    tokens, numbers = _columns((sum(each), len(each)) for each in lengths)
    if not numbers.sum():
        return {name: None, f"{name}_ci95": None}
    bounds = list(_rounded(ratio_interval(tokens, numbers, most)))
    return {name: float(tokens.sum() / numbers.sum()), f"{name}_ci95": bounds}


def _columns(pairs: Iterable[tuple[int, int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    table = np.array(list(pairs), dtype=float)
    return table[:, 0], table[:, 1]


def _rounded(found: Interval) -> Interval:
    """To what a resampling knows, so that machines agree."""
    return Interval(round(found.low, 6), round(found.high, 6))
