"""math-verify as the judge of an answer. Imported in grading processes only: it loads SymPy."""

import logging
import math
import re
from functools import lru_cache
from typing import Any

import sympy.physics.units  # noqa: F401 -- its import evaluates text of its own, before that is switched off
from latex2sympy2_extended.antlr_parser import PSParser
from math_verify import parse, verify
from math_verify.parser import LatexExtractionConfig
from sympy import Basic, Float, Integer, MatrixBase, nan, zoo
from sympy.parsing import sympy_parser

# LaTeX only: math-verify's reader of plain expressions is SymPy's `parse_expr`.
_CONFIG = (LatexExtractionConfig(boxed_match_priority=0),)
_FLOAT_ROUNDING = 6  # decimals in which floats are compared, math-verify's default
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LETTER = re.compile(r"[^\W\d_]")
_IMAGINARY_UNIT = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")
_SMALL = re.compile(r"0?\.000|10\^\s*\{?\s*-")
_NUMERAL = re.compile(r"[0-9]+|[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\.?(?:[eE][-+]?[0-9]+)?")
_WORDS = re.compile(r"[^\W\d_]+(?:[ '’-][^\W\d_]+)*")
_PARSED = 256  # ground truths and answers whose parse is kept


def _repair_percent() -> bool:
    """Lets percentages through the grammar built for antlr 4.9; whether it had to.

    latex2sympy2_extended 1.11.0 asks every atom for FUNC_GAMMA before it asks for PERCENT_NUMBER; its
    grammars for antlr 4.9.3 and 4.11 have no such method, so each percentage ends in an AttributeError.
    OmegaConf holds antlr at 4.9. Not needed once those grammars are regenerated, or with antlr 4.13.
    """
    if hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
        return False
    PSParser.AtomContext.FUNC_GAMMA = lambda self: None
    return True


def _number_of(text: str, *_: object, **__: object) -> Basic:
    """In place of SymPy's `parse_expr`, which builds Python from text and runs `eval` on it.

    latex2sympy2_extended 1.11.0 makes its numbers with `sympy.Number(text)`, which SymPy 1.14 sends there:
    model output in an `eval`, if only its digits. A numeral becomes the same number here; anything else
    is refused. Can go when neither library evaluates text.

    Raises:
        SyntaxError: which SymPy turns into its SympifyError.
    """
    text = text.strip()
    if not _NUMERAL.fullmatch(text):
        raise SyntaxError(f"not a number: {text!r}")
    return Integer(text) if text.isdigit() else Float(text)


PERCENT_REPAIRED = _repair_percent()
sympy_parser.parse_expr = _number_of
# Its log is a line for each answer that does not parse.
logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)


@lru_cache(maxsize=_PARSED)
def _read(text: str) -> tuple[Any, ...]:
    """What math-verify makes of `text`: a SymPy object where it can, and the text itself."""
    # Its timeouts are alarms, which work in a main thread only and are of no use against one long
    # operation; the keeper kills this process instead.
    return tuple(parse(f"\\boxed{{{text}}}", _CONFIG, parsing_timeout=None))


def _is_mathematics(parsed: tuple[Any, ...]) -> bool:
    return any(isinstance(item, Basic | MatrixBase) and item not in (nan, zoo) for item in parsed)


def _unit_spelled(texts: list[str]) -> list[str]:
    """Writes the imaginary unit as SymPy's `I` where `i` cannot be anything else.

    math-verify reads `i` as a variable, and (1+i)^2 is then not 2i. It is the unit when no other letter
    but e occurs in the answer and in the ground truth.
    """
    letters = {letter for text in texts for letter in _LETTER.findall(_COMMAND.sub("", text))}
    if "i" not in letters or not letters <= {"i", "e"}:
        return texts
    return [_IMAGINARY_UNIT.sub("{(I)}", text) for text in texts]


def _rounding(form: str) -> int:
    """Decimals to compare floats in: more for a small ground truth, or 2e-7 would equal 3e-7."""
    if not _SMALL.search(form):
        return _FLOAT_ROUNDING
    try:
        size = abs(complex(_read(form)[0].evalf(_FLOAT_ROUNDING)))
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        return _FLOAT_ROUNDING  # not a number
    return _FLOAT_ROUNDING + max(0, -math.floor(math.log10(size))) if size else _FLOAT_ROUNDING


def _agree(form: str, answer: str) -> bool:
    verdict: bool = verify(
        list(_read(form)),
        list(_read(answer)),
        float_rounding=_rounding(form),
        allow_set_relation_comp=True,
        timeout_seconds=None,
    )
    return verdict


def unreadable(form: str) -> str | None:
    """Why nothing can be graded against `form`, or None when it is mathematics or plain words."""
    if _is_mathematics(_read(form)) or _WORDS.fullmatch(form):
        return None
    return f"{form!r} cannot be read as mathematics"


def judge(answer: str, forms: list[str]) -> dict[str, Any]:
    """The verdict on a cleaned answer against cleaned accepted forms.

    Returns:
        `outcome`: correct, wrong or unparseable, and `note` where there is something to say;
        `skip` is true when no form can be read, which is a mistake in the data.
    """
    answer, *forms = _unit_spelled([answer, *forms])
    reasons = [unreadable(form) for form in forms]
    if all(reasons):
        return {"outcome": "unparseable", "note": f"ground truth {reasons[0]}", "skip": True}
    if any(_agree(form, answer) for form, reason in zip(forms, reasons, strict=True) if reason is None):
        return {"outcome": "correct"}
    if not _is_mathematics(_read(answer)) and not _WORDS.fullmatch(answer):
        return {"outcome": "unparseable", "note": "the answer cannot be read as mathematics"}
    return {"outcome": "wrong"}


_WARM_UP = (
    (r"\frac{1}{2}", "0.5"), (r"2\sqrt{3}", r"\sqrt{12}"), ("(x+1)^2", "x^2+2x+1"), ("[0,1)", "[0, 1)"),
    (r"\{1,2\}", "2,1"), ("(1,2,3)", "(1,2,4)"), (r"y=2x+\pi", r"2x-y=-\pi"), (r"50\%", r"\text{even}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\3\end{bmatrix}"), ("2i+1", "(1+i)^2"),
    (r"\sin 2x", r"2\sin x\cos x"), (r"\log_2 8", r"\binom{3}{2}"), ("x>1", r"(1,\infty)"), ("5!", "10^{-3}"),
)  # fmt: skip


def warm_up() -> None:
    """Runs the judge once over each kind of object, so that no deadline pays for imports and tables."""
    for answer, form in _WARM_UP:
        judge(answer, [form])
