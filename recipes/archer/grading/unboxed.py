"""The answer of a response without a box: a line `Answer: …`, else the last expression that stands for itself. Pure.

An expression is taken whole or not at all: of "half of 5", "10-5", "5!" and "5 unless it rains", 5 is no answer.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from recipes.archer.grading.wording import is_stated
from recipes.archer.mathematics.vocabulary import (
    FUNCTIONS,
    RAISING,
    SPELLED,
    UNITS,
    name_of_unit,
    scale_of,
    words,
)
from recipes.archer.text.signs import in_latex

# An answer is a conclusion: only the end of a text is looked at, which costs the same for a text of any length.
TAIL_CHARS = 4_000
_REACH = 250  # characters of its sentence before and after an expression

_ANSWER_LINE = re.compile(
    r"(?im)^[^\w\n]{0,8}(?:the )?(?:final )?answer[: *]{0,4}(?:is\b)?[: *]{0,4}\n{0,2}[ *]{0,4}(\S.*)$"
)
# The $ of "$5 and $6" are money: a formula has blanks at both ends or at none, and no digit after it.
_FORMULAS = r"\$\$.+?\$\$|\$(?:\s[^$\n]*|[^$\n]*[^\s$])\$(?![0-9])|\\\(.+?\\\)|\\\[.+?\\\]"
_FORMULA = re.compile(_FORMULAS, re.DOTALL)
_REASON = re.compile(
    r"\. |(?<!as long)(?<!as far),? \(?(?:because|since|which|so|where|as(?! (?:long|far|soon|much|many)\b)) |, so "
)
_START = re.compile(r"(?:[.?]|(?<=[a-z])!)[\"')\]*]*\s|(?<=[0-9)\]}$.,;:!?*])[ \t]*\n|\n\s*\n|\n(?=#+ )")
_END = re.compile(r"[.?](?=\s|[\"')*]|\Z)|(?<=[a-z])!|\n(?![ \t]*[a-z+*/=^<>-])")
_EMPHASIS = re.compile(r"(?<![\w*)\]}\\$])(\*{1,3}|_{1,2}|`)(?=[^\s*])([^*\n`]*?[^\s*`])\1(?![\w*({\\])")
_BULLET = re.compile(r"\s*(?:[*+•]|#+)\s")  # the last as GSM8K marks its answers: #### 5
_CALCULATION = re.compile(r"<<[^<>\n]*>>")  # GSM8K's notes for a calculator
# What else is written around an answer: a tag, a fence, a mark that says "therefore".
_AROUND = (
    (re.compile(r"(?i)<answer>"), "\nAnswer: "),
    (re.compile(r"(?i)</answer>"), "\n"),
    (re.compile(r"(?i)\b([ap])\.\s?m\.(?![a-z])"), r"\1m"),
    (re.compile(r"```[a-z]*\n?"), ""),
    (re.compile(r"(?m)^[ \t]*(?:=>|->|[⇒⟹→∴])\s*"), ""),
)
_NUMBER = re.compile(r"-?\s?\\?\$?(?:[0-9]+(?:[.,][0-9]+)*(?:/[0-9]+)?|\\[dt]?frac\{[0-9]+\}\{[0-9]+\})%?")
_NO_CHAIN = re.compile(
    r"\b(?:and|or)\b|[&<>;:~!]|,(?![0-9]{3}\b)|\\(?!frac|dfrac|tfrac|cdot|times|sqrt|[%$,])|[+*/^]\s*="
)
_DEFINITION = re.compile(r"\s*\\?\w+\s*=[^=]*")
_TIMES = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=[0-9])")
_PIECE = re.compile(
    rf"(?P<formula>{_FORMULAS})|(?P<macro>\\(?:text|textbf|mathrm|mbox)\s?\{{[^{{}}]*\}}|\\[A-Za-z]+|\\.)"
    r"|(?P<number>[0-9]+(?:[.,][0-9]+)*|\.[0-9]+)|(?P<word>[^\W\d_]+(?:'[a-z]+)?)|(?P<sign>\S)",
    re.DOTALL,
)
_MATHEMATICAL = frozenset("+-*/^_=<>|!%()[]{}&~$:")
_HARMLESS = frozenset(",;:.?!\"'—“”‘’，。：；、")  # beside an expression
_DROPPED = ("=", ":", "~", r"\approx", r"\Rightarrow", r"\implies", r"\to", r"\,", r"\ ")  # before an answer
_OPEN_END = frozenset("+-*/^_=<>:")  # an expression that ends so is not whole
_ARTICLES = words("a A I")
_SPOKEN = FUNCTIONS | SPELLED.keys() | words("ab ac bc abc xy xz yz xyz mn pq pqr uv")  # the last are products
_LISTING = (",", ";", "and", "or", "&")
_UNITS = UNITS.keys() | words("unit")
_MEASURING = words("percent pct mph kph kmh am pm") | RAISING.keys()
_SUBORDINATE = words("since as because if when given for with let substituting using by after from while in")


class _Piece(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def _is_mathematical(piece: _Piece) -> bool:
    if piece.kind == "word":
        single = len(piece.text) == 1 and piece.text.isascii()
        return piece.text not in _ARTICLES if single else piece.text.lower() in _SPOKEN
    return piece.kind != "sign" or piece.text in _MATHEMATICAL


def _is_name(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether what could be an article is a variable: A_1, |A|, a + b."""
    after = pieces[place + 1]
    glued = after.start == pieces[place].end
    return pieces[place].text in _ARTICLES and after.text in ("+*/^=_|()" if glued else "+*/=")


def _is_measure(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether a word after a number is a unit or a word of scale; `in` is one where no word follows."""
    piece = pieces[place]
    word = piece.text.lower()
    if piece.kind != "word" or piece.text in _ARTICLES:
        return False
    following = pieces[place + 1 : place + 2]
    if word in ("per", "square", "sq", "cubic", "cu"):
        return bool(following) and following[0].kind == "word" and name_of_unit(following[0].text) in _UNITS
    if word == "in" and following and following[0].kind == "word":
        return False
    return word in _MEASURING or name_of_unit(piece.text) in _UNITS or scale_of(word) is not None


def _before_measure(pieces: Sequence[_Piece], place: int) -> int | None:
    """Where the number of the measure stands that ends before `place`; None where none does."""
    first = place
    while first and _is_measure(pieces, first - 1):
        first -= 1
    return first - 1 if 0 < first < place and pieces[first - 1].kind in ("number", "formula") else None


def _first(pieces: Sequence[_Piece], place: int) -> int:
    """Where the expression begins that `place` is part of."""
    while place:
        before = pieces[place - 1]
        listing = before.text.lower() in _LISTING
        if before.text in ("and", "or") and place > 2 and pieces[place - 2].text == ",":  # 2, 3, and 5
            place, before = place - 1, pieces[place - 2]
        if listing and before.text == "," and pieces[0].text.lower() in _SUBORDINATE:
            return place
        if not listing and (_is_mathematical(before) or _is_name(pieces, place - 1)):
            place -= 1
        elif (start := _before_measure(pieces, place - listing)) is not None:
            place = start
        elif listing and place > 1 and _is_mathematical(pieces[place - 2]):
            place -= 2
        else:
            return place
    return place


def _last(pieces: Sequence[_Piece], place: int) -> int:
    """Where the expression ends that `place` is part of; the place after it."""
    place += 1
    while place < len(pieces):
        piece = pieces[place]
        glued = piece.start == pieces[place - 1].end
        if _is_measure(pieces, place) or glued and piece.kind == "word" and piece.text.isascii():
            place += 1
        elif not glued and _is_remark(pieces, place) or piece.text == ":" and not _is_glued(pieces, place):
            return place
        elif _is_mathematical(piece):
            place += 1
        elif piece.text.lower() in _LISTING and place + 1 < len(pieces) and _is_mathematical(pieces[place + 1]):
            place += 2
        else:
            return place
    return place


def _is_glued(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether a colon has no blank on either side: that of a ratio."""
    return [p.end for p in pieces[place - 1 : place + 1]] == [p.start for p in pieces[place : place + 2]]


def _is_remark(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether a bracket opens on words: 5 (see above)."""
    return pieces[place].text == "(" and any(
        p.kind == "word" and len(p.text) > 1 for p in pieces[place + 1 : place + 2]
    )


def _is_balanced(text: str) -> bool:
    depth = 0
    for sign in re.findall(r"\\[{}]|[()\[\]{}]", text):
        depth += 1 if sign[-1] in "([{" else -1
        if depth < 0:
            return False
    return depth == 0


def _is_clean_beside(outer: _Piece, glued: bool) -> bool:
    """Whether what stands beside an expression is no part of it."""
    if outer.kind == "word":
        return not glued or not outer.text.isascii()
    if not glued and unicodedata.category(outer.text[0]) in ("So", "Cs", "Co", "Cn"):  # an emoji, or what is broken
        return True
    return outer.text in _HARMLESS and not (glued and outer.text in "\"'")


def _whole(text: str, item: int, only: bool) -> str | None:
    """The expression of a sentence that holds the character at `item`, if it stands for itself.

    Args:
        only: whether nothing else in the sentence may be an expression.
    """
    if any(sign in text for sign in "*_`"):
        text = _EMPHASIS.sub(lambda m: " " * len(m[1]) + m[2] + " " * len(m[1]), text)
    if bullet := _BULLET.match(text):
        text = " " * bullet.end() + text[bullet.end() :]
    pieces = [_Piece(m.lastgroup or "", m.group(), m.start(), m.end()) for m in _PIECE.finditer(text)]
    place = next(n for n, piece in enumerate(pieces) if piece.end > item)
    first, last = _first(pieces, place), _last(pieces, place)
    trimmed = False
    while first < last and pieces[first].text in _DROPPED:
        first, trimmed = first + 1, True
    before, run, after = pieces[:first], pieces[first:last], pieces[last:]
    if not run or not _is_balanced(text[run[0].start : run[-1].end]) or run[-1].text in _OPEN_END:
        return None
    if run[0].text in "*/^_<>!%" or run[0].text in "+-" and not trimmed and not _is_sign(before, run):
        return None
    if only and any(piece.kind in ("number", "formula") for piece in (*before, *after)):
        return None
    quoted = before and after and before[-1].text == after[0].text and before[-1].text in "\"'"
    if before and not trimmed and not quoted and not _is_clean_beside(before[-1], before[-1].end == run[0].start):
        return None
    if after and after[0].text != "(" and not quoted and not _is_clean_beside(after[0], after[0].start == run[-1].end):
        return None
    glued = run[-1].kind == "word" and len(run[-1].text) > 1 and not _is_measure(pieces, last - 1)
    beside = [run[-1], *after] if glued else after
    if not is_stated([piece.text for piece in before], [piece.text for piece in beside]):
        return None
    answer = text[run[0].start : run[-1].end]
    if len(run) == 1 and run[0].kind == "formula":
        answer = answer[2:-2] if answer[0] == "\\" or answer.startswith("$$") else answer[1:-1]
        answer = answer.strip().removesuffix(".")
    answer = _TIMES.sub(r"\\times ", answer)
    return (_value(answer) or answer).strip() or None


def _value(chain: str) -> str | None:
    """The number at the end of `m + n = 42`; None of what says more than it, as an inequality, a list, or `x^2 = 3`."""
    *earlier, last = re.split(r",\s*(?:and\s|so\s)?(?![0-9]{3}\b)|\sand\s", chain)
    *sides, number = last.split("=")
    if not sides or _NO_CHAIN.search(last) or not _NUMBER.fullmatch(number.strip()) or not all(map(str.strip, sides)):
        return None
    letters = set("".join(re.findall("[A-Za-z]+", re.sub(r"\\[A-Za-z]+", "", sides[0]))))
    if len(letters) == 1 and not re.fullmatch(r"\s*(?:\|[A-Z]\||[A-Za-z]_(?:\w|\{\w+\}))\s*", sides[0]):
        return None
    if earlier and (len(letters) < 2 or not all(map(_DEFINITION.fullmatch, earlier))):
        return None
    return number


def _is_sign(before: Sequence[_Piece], run: Sequence[_Piece]) -> bool:
    """Whether a plus or minus belongs to the number after it: "is -5", not "total - 5", a list's "- 5" or "A-5"."""
    if len(run) < 2:
        return False
    if run[0].end == run[1].start:
        return not before or before[-1].end < run[0].start or before[-1].text in _HARMLESS
    return bool(before) and before[-1].text.lower() in ("is", "are", "was", "equals", ":")


def _last_item(text: str) -> tuple[int, int] | None:
    """Where the last number or formula stands: its start, or a digit of it, and its end."""
    start = max(map(text.rfind, "0123456789"))
    item = (start, start + 1) if start >= 0 else None
    if "$" in text or r"\(" in text or r"\[" in text:
        for match in _FORMULA.finditer(text):
            if item is None or match.end() > item[0] and any(map(str.isalnum, match.group())):
                item = match.span()
    return item


def _of_line(line: str) -> str:
    """The answer of a line that gives one: what stands for itself in it, else all of it up to a reason."""
    if formula := _FORMULA.match(line):
        rest = line[formula.end() :].strip(" .*")
        if not rest:
            return _whole(formula.group(), 0, only=True) or formula.group()
    line = _REASON.split(line.strip().strip("*").strip(), maxsplit=1)[0].strip().rstrip(".").strip("* ")
    item = _last_item(line)
    return item and _whole(line, item[0], only=True) or line


def unboxed(text: str) -> str | None:
    """The answer that a text without a box gives, or None when it gives none.

    It is in LaTeX or ASCII signs (`signs.in_latex`). Linear in the last `TAIL_CHARS` characters of `text`.
    """
    tail = _CALCULATION.sub("", text[-TAIL_CHARS:])
    for pattern, instead in _AROUND:
        tail = pattern.sub(instead, tail)
    tail = in_latex(tail)
    if lines := list(_ANSWER_LINE.finditer(tail)):
        start, end = lines[-1].span(1)
        formula = _FORMULA.match(tail, start)  # which may go on over several lines
        return _of_line(tail[start : max(end, formula.end() if formula else end)]) or None
    item = _last_item(tail)
    if item is None:
        return None
    start, end = max(0, item[0] - _REACH), item[1] + _REACH
    for match in _START.finditer(tail, start, item[0]):
        start = match.end()
    boundary = _END.search(tail, item[1], end)
    return _whole(tail[start : boundary.start() if boundary else end], item[0] - start, only=False)
