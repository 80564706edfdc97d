"""What is graded: the answer inside a response, and the accepted forms of a ground truth. Pure."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from recipes.archer.grading.unboxed import unboxed
from recipes.archer.reading.json import parse_json
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.text.signs import in_latex

ANSWER_FORMATS = ("boxed", "any")

THINK_END = "</think>"

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_BOXED_NUMBER = re.compile(r"\s?\$?([-+]?[0-9]+(?:\.[0-9]+)?)")  # `\boxed 7`, which TeX reads as well
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# What stands between boxes that are one answer in parts, and between those that say when each holds.
_AND = re.compile(r"(?:\s|\$|,|;|\\q?quad|\\[;,]|\\\(|\\\)|\\text\{ ?(?:and|or) ?\}|and\b|or\b){0,12}")
_CONDITION_CHARS = 60
_REPEATING = re.compile(r"(?<![0-9])([0-9]{1,9})\.([0-9]{0,9})\\(?:overline|bar|dot)\s?\{([0-9]{1,9})\}")


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


def _boxes(text: str) -> Iterator[tuple[int, int, str] | None]:
    """Start, end and content of each box that holds something, from the last; None for one that is never closed."""
    for match in reversed(list(_BOX.finditer(text))):
        opening = _opening_brace(text, match.end())
        if opening is None:
            if number := _BOXED_NUMBER.match(text, match.end()):
                yield match.start(), number.end(), number[1]
        elif (closing := _closing_brace(text, opening)) is None:
            yield None
        elif content := text[opening + 1 : closing].strip():
            yield match.start(), closing + 1, content


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` that holds something; of several with only "and" between, all.

    A box that is never closed is a response cut off inside its answer: None, and no earlier box
    stands in for it. `\boxed` without a brace or a number and `\boxed{}` are talk about boxes and are passed over.
    """
    contents: list[str] = []
    start = None
    for box in _boxes(text):
        if box is None:
            return ", ".join(contents) or None
        if start is not None and (start - box[1] > _CONDITION_CHARS or not _AND.fullmatch(text, box[1], start)):
            break
        start = box[0]
        if box[2] not in contents:
            contents.insert(0, box[2])
    return ", ".join(contents) or None


def _has_conditional_boxes(text: str) -> bool:
    """Whether several boxes stand close together, and not for one answer in parts."""
    boxes = [box for box in itertools.islice(_boxes(text), 4) if box is not None]
    for later, earlier in itertools.pairwise(boxes):
        between = text[earlier[1] : later[0]]
        close = len(between) < _CONDITION_CHARS and "\n" not in between and ". " not in between
        if close and later[2] != earlier[2] and not _AND.fullmatch(between):
            return True
    return False


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
        answer = unboxed(text)
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
    text = in_latex(answer).strip()
    if (bold := text.removeprefix("**").removesuffix("**")) != text and len(bold) == len(text) - 4 and "**" not in bold:
        text = bold.strip()
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
        forms = parse_json(text, "ground_truth")
    except UnreadableError:
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
            if _has_conditional_boxes(ground_truth):
                raise GroundTruthError("it has several boxes, each with a condition")
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
