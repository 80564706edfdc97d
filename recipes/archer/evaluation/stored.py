"""Scores that were written before, by anyone: checked, and their intervals reckoned as this program does."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.archer.evaluation.figures import LENGTHS, SHARES, counted
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError

_MOST_SAMPLES = 1 << 31
_DIGESTS = ("model", "data")
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "data": lambda value: isinstance(value, str),
    "plan": lambda value: isinstance(value, dict) and all(isinstance(value.get(name), str) for name in _DIGESTS),
    "step": lambda value: value is None or type(value) is int,
    "n": lambda value: type(value) is int and 1 <= value < _MOST_SAMPLES,
    "questions": lambda value: isinstance(value, list) and value != [],
    "by_source": lambda value: isinstance(value, dict),
}
_CLOSE = 1e-6  # of two ways to sum the same shares


def read_scores(path: Path) -> dict[str, Any]:
    """The content of a ``scores.json``; what follows from its questions is reckoned again from them.

    No link is followed: a run folder may be anyone's.

    Raises:
        UnreadableError: it cannot be read; DamagedError: it is no scores of an evaluation; names the field.
    """
    if path.is_symlink():
        raise UnreadableError(path, "is a link, which is not followed")
    content = read_json(path)
    if fault := next(_faults(content), None):
        raise DamagedError(path, f"no scores of an evaluation: {fault}")
    n, questions = content["n"], content["questions"]
    own = _by_source(questions)
    parts = {name: part | _of(own[name], n) for name, part in content["by_source"].items()}
    return {**content, **_of(questions, n), "by_source": parts}


def _by_source(questions: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The questions of each source: once for all sources, of which there may be as many as questions."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for question in questions:
        found.setdefault(question["data_source"], []).append(question)
    return found


def _of(questions: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    return counted([question["num_correct"] for question in questions], [question["maj"] for question in questions], n)


def _faults(content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with it, beginning with the name of the field; each is asked only where those before are right."""
    yield from (_said(content, name) for name, holds in _FIELDS.items() if not holds(content.get(name)))
    questions, n = content["questions"], content["n"]
    for number, question in enumerate(questions):
        yield from _faults_of_question(question, n, f"questions[{number}]")
    if len({question["question"] for question in questions}) < len(questions):
        yield "questions: one is there twice"
    own = _by_source(questions)
    if set(content["by_source"]) != set(own):
        yield "by_source: names other sources than questions"
    yield from _faults_of_figures(content, _of(questions, n))
    for name, part in content["by_source"].items():
        if not isinstance(part, dict):
            yield f"by_source.{name}: is no object"
        yield from (f"by_source.{name}.{fault}" for fault in _faults_of_figures(part, _of(own[name], n)))


def _faults_of_question(question: Any, n: int, where: str) -> Iterator[str]:
    if not isinstance(question, dict):
        yield f"{where}: is no object"
    holds = {
        "question": isinstance(question.get("question"), str),
        "data_source": isinstance(question.get("data_source"), str),
        "num_correct": type(count := question.get("num_correct")) is int and 0 <= count <= n,
        "maj": _is_share(question.get("maj")),
    }
    yield from (f"{where}.{_said(question, name)}" for name, held in holds.items() if not held)


def _faults_of_figures(figures: Mapping[str, Any], reckoned: Mapping[str, Any]) -> Iterator[str]:
    for name in ("n", "num_questions", "avg", "maj"):
        value = figures.get(name)
        if not _is_number(value) or abs(value - reckoned[name]) > _CLOSE:
            yield f"{_said(figures, name)}, where questions say {reckoned[name]:.6g}"
    for name in SHARES:
        if not _is_share(figures.get(name)):
            yield _said(figures, name)
    for name in LENGTHS:
        if (value := figures.get(name)) is not None and not (_is_number(value) and value >= 0):
            yield _said(figures, name)


def _said(content: Mapping[str, Any], name: str) -> str:
    if name not in content:
        return f"{name}: is missing"
    value = content[name]
    return f"{name}: is {value!a:.40}" if isinstance(value, str | int | float | None) else f"{name}: is what cannot be"


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
