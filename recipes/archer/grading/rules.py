"""What can be graded without a judge, and what a judge's or a reward function's reply means. Pure."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from recipes.archer.grading.answers import GroundTruthError, accepted_forms, clean
from recipes.archer.grading.exact_match import exact_verdict
from recipes.archer.grading.grades import Grade
from recipes.archer.grading.limits import refusal

# to the judge: the cleaned answer, the accepted forms, and whether the answer stands in the prompt
Question = tuple[str, tuple[str, ...], bool]


def judged(reply: Mapping[str, Any]) -> Grade:
    """A judge's reply as a grade without its answer."""
    outcome = reply["outcome"]
    note, skip = reply.get("note", ""), reply.get("skip", False)
    return Grade(float(outcome == "correct"), outcome, note=note, skip=skip)


def _unreadable_ground_truth(why: object) -> Grade:
    return Grade(0.0, "unparseable", note=f"ground truth: {why}", skip=True)


_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|limits|[Bb]igg?[lr]?)(?![A-Za-z])|\\[,;:!() \[\]]|\$")
_SIGNS = re.compile(r"\\[A-Za-z]+|[0-9.]+|\S")


@lru_cache(maxsize=256)
def _plain(text: str) -> str:
    """`text` without what only lays out, so that a formula is found in another spelling of it."""
    text = re.sub(r"\\[dtc](frac|binom)(?![A-Za-z])", r"\\\1", text)
    return _LAYOUT.sub(" ", re.sub(r"\\(?:cdot|times|ast)(?![A-Za-z])", "*", text))


def restates(answer: str, prompt: str) -> bool:
    """Whether `answer`, if it is more than a number or a letter, stands in `prompt`, layout aside."""
    signs = [sign for sign in _SIGNS.findall(_plain(answer)) if sign not in "{}"]
    if len(signs) < 2 or len(signs) == 2 and signs[0] == "-":
        return False
    formula = r"[\s{}]*".join(map(re.escape, signs))
    return re.search(rf"(?<![\w.\\]){formula}(?!\w)", _plain(prompt)) is not None


def without_judge(answer: str | None, ground_truth: object, prompt: str | None = None) -> Grade | Question:
    """The grade, where it takes no judge; else the question to it.

    A question is the answer, the accepted forms, and whether the answer stands in `prompt`.
    """
    try:
        forms = accepted_forms(ground_truth)
    except GroundTruthError as error:
        return _unreadable_ground_truth(error)
    if why := next(filter(None, map(refusal, forms)), None):
        return _unreadable_ground_truth(why)
    if answer is None:
        return Grade(0.0, "no_answer")
    if why := refusal(answer):
        return Grade(0.0, "unparseable", note=f"refused: {why}")
    text = clean(answer)
    restated = prompt is not None and restates(text, prompt)
    verdict = None if restated else exact_verdict(text, forms)
    if verdict is None:
        return text, forms, restated
    return Grade(float(verdict), "correct" if verdict else "wrong")


def scored(reply: Mapping[str, Any]) -> Grade:
    """A user's reward function's reply as a grade.

    As in verl it may return a number or a mapping with `score`; a mapping's `acc` says what is correct,
    without one a positive score does, and its `pred` is the answer.
    """
    if "outcome" in reply:  # the process was killed
        return judged(reply)
    value = reply.get("value")
    fields = dict(value) if isinstance(value, Mapping) else {"score": value}
    score = fields.pop("score", None)
    if "error" in reply or not isinstance(score, int | float) or not math.isfinite(score):
        note = reply.get("error", f"it returned {value!r}, not a number or a mapping with a score")
        return Grade(0.0, "unparseable", note=f"score_fn: {note}", failed=True)
    correct = bool(fields.get("acc", score > 0))
    answer = fields.get("pred")
    answer = None if answer is None else str(answer)
    return Grade(float(score), "correct" if correct else "wrong", answer, extra=fields)
