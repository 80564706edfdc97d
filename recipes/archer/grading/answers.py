"""What is graded: the answer inside a response, and the accepted forms of a ground truth. Pure."""

import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

ANSWER_FORMATS = ("boxed", "any")

THINK_END = "</think>"
# `answer_format="any"` looks at the end of the text only: an answer is a conclusion,
# and the patterns below then cost the same for a response of any length.
TAIL_CHARS = 4_000

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_BOXED_NUMBER = re.compile(r"\s?\$?([-+]?[0-9]+(?:\.[0-9]+)?)")  # `\boxed 7`, which TeX reads as well
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# What stands between boxes that are one answer in parts, and between those that say when each holds.
_AND = re.compile(r"(?:\s|\$|,|;|\\q?quad|\\[;,]|\\\(|\\\)|\\text\{ ?(?:and|or) ?\}|and\b|or\b){0,12}")
_CONDITION_CHARS = 60
_ANSWER_LINE = re.compile(
    r"(?im)^[^\w\n]{0,8}(?:the )?(?:final )?answer[: *]{0,4}(?:is\b)?[: *]{0,4}\n{0,2}[ *]{0,4}(\S.*)$"
)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_PLAIN = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?: ?/ ?[0-9]+)?(?:\s?\\?%)?"
_NUMBER = re.compile(rf"(?<!\bnot ){_PLAIN}(?: or {_PLAIN})*")
_REASON = re.compile(r"\. |,? (?:because|since|as|which|so|where) |, so ")
_CHANGES_IT = re.compile(r"(?i)\b(?:or|and|not|no|if|when|unless|except|neither|otherwise|than|per|to)\b")
_SIGNS = re.compile(r"[-+*/^=<>\\{}&|_0-9]")  # mathematics beside a formula or a number
_SIGNS_AND_BRACKETS = re.compile(r"[-+*/^=<>\\{}&|_0-9(\[]")
_REPEATING = re.compile(r"(?<![0-9])([0-9]{1,9})\.([0-9]{0,9})\\(?:overline|bar|dot)\s?\{([0-9]{1,9})\}")
# Signs that models write in Unicode, as LaTeX has them. Digits, letters and blanks are below.
_UNICODE = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ",
    "÷": r"\div ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∖": r"\setminus ", "∅": r"\emptyset ", "°": r"^\circ ", "±": r"\pm ",
    "∓": r"\mp ", "…": r"\ldots ", "′": "'", "’": "'", "∠": r"\angle ", "△": r"\triangle ",
    "⟨": "(", "⟩": ")", "∗": "*",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "→": r"\to ", "⁄": "/", "∛": r"\sqrt[3]", "∣": "|",
}  # fmt: skip
_RAISED = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿⁱ]+")
_LOWERED = re.compile("[₀-₉₊₋ₙᵢₖ]+")
_ROOT = re.compile(r"√\s?([0-9]+(?:\.[0-9]+)?)")


def _ascii(sign: str) -> str:
    """A sign of another script as LaTeX or ASCII has it: digits, full-width forms, blanks, fractions, Greek."""
    if (digit := unicodedata.decimal(sign, None)) is not None:
        return str(digit)
    if unicodedata.category(sign) == "Zs":
        return " "
    if "\uff01" <= sign <= "\uff5e":
        return chr(ord(sign) - 0xFEE0)
    if unicodedata.category(sign) == "No" and "\u2044" in (form := unicodedata.normalize("NFKC", sign)):
        above, below = form.split("\u2044")
        return rf"\frac{{{above}}}{{{below}}}" if below else sign
    if "\u0391" <= sign <= "\u03c9":
        size, _, letter = unicodedata.name(sign, "").removeprefix("GREEK ").partition(" LETTER ")
        return f"\\{letter.capitalize() if size == 'CAPITAL' else letter.lower()} "
    return sign


def _in_latex(text: str) -> str:
    """`text` with the signs that Unicode has and LaTeX writes in letters."""
    if text.isascii():
        return text
    for pattern, mark in ((_RAISED, "^"), (_LOWERED, "_")):
        text = pattern.sub(partial(_script, mark), text)
    text = _ROOT.sub(r"\\sqrt{\1}", text).replace("√", "sqrt")
    return "".join(sign if sign.isascii() else _UNICODE.get(sign) or _ascii(sign) for sign in text)


def _script(mark: str, match: re.Match[str]) -> str:
    text = unicodedata.normalize("NFKC", match.group()).replace("−", "-")
    return f"{mark}{text}" if len(text) == 1 else f"{mark}{{{text}}}"


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


def _of_line(line: str) -> str:
    """The answer of a line that gives one: what stands alone in it, else all of it up to a reason."""
    line = _REASON.split(line.strip().strip("*").strip(), maxsplit=1)[0].strip().rstrip(".").strip("* ")
    for pattern, signs in ((_FORMULA, _SIGNS), (_NUMBER, _SIGNS_AND_BRACKETS)):
        found = list(pattern.finditer(line))
        rest = pattern.sub(" ", line)
        if len(found) == 1 and not signs.search(rest) and not _CHANGES_IT.search(rest):
            (match,) = found
            beside = line[: match.start()][-1:] + line[match.end() :][:1]
            return line if beside.isalnum() else next(filter(None, match.groups()), match.group()).strip()
        if found:
            return line
    return line


def _last_formula_or_number(text: str) -> str | None:
    tail = text[-TAIL_CHARS:]
    lines = _ANSWER_LINE.findall(tail)
    if lines:
        return _of_line(lines[-1]) or None
    found = [*_FORMULA.finditer(tail), *_NUMBER.finditer(tail)]
    if not found:
        return None
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
    text = _in_latex(answer).strip()
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
