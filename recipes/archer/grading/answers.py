"""What is graded: the answer inside a response, and the accepted forms of a ground truth. Pure."""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

ANSWER_FORMATS = ("boxed", "any")

THINK_END = "</think>"
# `answer_format="any"` looks at the end of the text only: an answer is a conclusion,
# and the patterns below then cost the same for a response of any length.
TAIL_CHARS = 4_000

_BOX = "\\boxed"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ANSWER_LINE = re.compile(r"(?im)^[^\w\n]{0,8}(?:the )?(?:final )?answer[: *]{0,4}(?:is\b)?[: *]{0,4}(\S.*)$")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?(?:\s?\\?%)?")
_REPEATING = re.compile(r"(?<![0-9])([0-9]{1,9})\.([0-9]{0,9})\\(?:overline|bar)\s?\{([0-9]{1,9})\}")
# Signs that models write in Unicode and the judge's grammar has in LaTeX only.
_UNICODE = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\neq ", "∪": r"\cup ", "∈": r"\in ", "°": r"^\circ ",
    "²": "^2", "³": "^3",
}  # fmt: skip
_UNICODE_TABLE = str.maketrans(_UNICODE)


class GroundTruthError(ValueError):
    """A ground truth that cannot be graded against: a mistake in the data, not a wrong answer."""


def final_text(response: str) -> str:
    """The part of `response` that is graded: after the last `</think>`, or all of it without one."""
    return response.rpartition(THINK_END)[2]


def _opening_brace(text: str, start: int) -> int | None:
    """Where the brace is that stands at `start`, spaces aside; None when something else does."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start if text.startswith("{", start) else None


def _closing_brace(text: str, opening: int) -> int | None:
    r"""Where the brace at `opening` is closed (`\{` and `\}` are signs, not braces); None when never."""
    depth = 0
    for match in _BRACE.finditer(text, opening):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    return None


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` that holds something.

    A box that is never closed is a response cut off inside its answer: None, and no earlier box
    stands in for it. `\boxed` without a brace and `\boxed{}` are talk about boxes and are passed over.
    """
    end = len(text)
    while (position := text.rfind(_BOX, 0, end)) >= 0:
        opening = _opening_brace(text, position + len(_BOX))
        if opening is not None:
            closing = _closing_brace(text, opening)
            if closing is None:
                return None
            if content := text[opening + 1 : closing].strip():
                return content
        end = position
    return None


def _last_formula_or_number(text: str) -> str | None:
    tail = text[-TAIL_CHARS:]
    lines = _ANSWER_LINE.findall(tail)
    if lines:
        tail = lines[-1].strip().strip("*").strip()
    found = [*_FORMULA.finditer(tail), *_NUMBER.finditer(tail)]
    if not found:
        return tail if lines else None
    if lines and not _FORMULA.search(tail) and len(tail.split()) == 1:
        return tail  # `Answer: x+1`: the whole line is the answer, not the last number in it
    last = max(found, key=lambda match: (match.end(), -match.start()))
    return next(filter(None, last.groups()), last.group()).strip() or None


def extract_answer(response: str, answer_format: str = "boxed") -> str | None:
    """The answer that `response` gives, or None when it gives none.

    Args:
        response: any text.
        answer_format: `boxed` takes the last box only; `any` falls back on the last `Answer:` line,
            then on the last formula or number.

    Raises:
        ValueError: for an unknown `answer_format`.
    """
    if answer_format not in ANSWER_FORMATS:
        raise ValueError(f"answer_format is {answer_format!r}: use one of {', '.join(ANSWER_FORMATS)}")
    text = final_text(response)
    answer = last_boxed(text)
    if answer is None and answer_format == "any":
        answer = _last_formula_or_number(text)
    return answer


def _repeating_decimal(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    numerator = int(whole + fixed + period) - int(whole + fixed)
    return rf"\frac{{{numerator}}}{{{(10 ** len(period) - 1) * 10 ** len(fixed)}}}"


def clean(answer: str) -> str:
    r"""`answer` in the notation the judge reads: same mathematics, other spelling.

    Removes `$…$`, `\(…\)`, `\[…\]` around it and a full stop after it; writes Unicode signs, repeating
    decimals and `\langle…\rangle` as LaTeX that the judge's grammar has.
    """
    text = answer.translate(_UNICODE_TABLE).strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inner = text[len(opening) : len(text) - len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inner.strip() and closing not in inner:
            text = inner.strip()
    text = re.sub(r"(?<!\\)[.,;:]\Z", "", text).rstrip()
    text = text.replace(r"\langle", "(").replace(r"\rangle", ")")
    return _REPEATING.sub(_repeating_decimal, text)


def _number_text(number: int | float) -> str:
    if isinstance(number, bool) or not math.isfinite(number):
        raise GroundTruthError(f"{number!r} is not a number that can be an answer")
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def _json_list(text: str) -> list[Any] | None:
    """A list of strings written as JSON (a Parquet column cannot mix strings and lists); else None."""
    if not (text.startswith('["') and text.endswith('"]')):
        return None
    try:
        forms = json.loads(text)
    except ValueError:
        return None
    return forms if all(isinstance(form, str) for form in forms) else None


def accepted_forms(ground_truth: object) -> tuple[str, ...]:
    """The forms, cleaned, any of which an answer may equal.

    Args:
        ground_truth: a string (boxed or not, or a JSON list of strings), a number, or a list, tuple or
            array of those.

    Raises:
        GroundTruthError: when nothing in it can be an answer (None, a mapping, an empty string, NaN).
    """
    if hasattr(ground_truth, "tolist"):  # a NumPy array or scalar, as Parquet readers give them
        ground_truth = ground_truth.tolist()
    if isinstance(ground_truth, int | float):
        return (_number_text(ground_truth),)
    if isinstance(ground_truth, str):
        listed = _json_list(ground_truth.strip())
        if listed is None:
            form = clean(last_boxed(ground_truth) or ground_truth)
            if not form:
                raise GroundTruthError("it is empty")
            return (form,)
        ground_truth = listed
    if isinstance(ground_truth, list | tuple) and ground_truth:
        return tuple(dict.fromkeys(form for entry in ground_truth for form in accepted_forms(entry)))
    raise GroundTruthError(f"{ground_truth!r} is not a string, a number or a list of them")


def ground_truth_of(row: Mapping[str, Any]) -> tuple[str, object]:
    """The ground truth of a data row, with the name of the field it was found in.

    Looks where verl's files (`reward_model.ground_truth`) and the usual evaluation sets (`ground_truth`,
    `answer`, `Answer`) have it.

    Raises:
        GroundTruthError: when the row has none of those fields.
    """
    reward_model = row.get("reward_model")
    if isinstance(reward_model, Mapping) and "ground_truth" in reward_model:
        return "reward_model.ground_truth", reward_model["ground_truth"]
    for field in ("ground_truth", "answer", "Answer"):
        if field in row:
            return field, row[field]
    raise GroundTruthError("no reward_model.ground_truth, ground_truth, answer or Answer in it")
