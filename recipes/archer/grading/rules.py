"""What can be graded without a judge, and what a judge's or a reward function's reply means. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from recipes.archer.grading.answers import GroundTruthError, accepted_forms, clean
from recipes.archer.grading.exact_match import exact_verdict
from recipes.archer.grading.grades import Grade
from recipes.archer.grading.limits import refusal

Question = tuple[str, tuple[str, ...]]  # to the judge: the cleaned answer, and the accepted forms


def judged(reply: Mapping[str, Any]) -> Grade:
    """A judge's reply as a grade without its answer."""
    outcome = reply["outcome"]
    note, skip = reply.get("note", ""), reply.get("skip", False)
    return Grade(float(outcome == "correct"), outcome, note=note, skip=skip)


def _unreadable_ground_truth(why: object) -> Grade:
    return Grade(0.0, "unparseable", note=f"ground truth: {why}", skip=True)


def without_judge(answer: str | None, ground_truth: object) -> Grade | Question:
    """The grade, where it takes no judge; else what the judge is asked."""
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
    verdict = exact_verdict(text, forms)
    if verdict is None:
        return text, forms
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
