"""Whether an answer and a ground truth are the same. Imported in grading processes only: it loads SymPy."""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import sympy
from sympy import Integer, Symbol
from sympy.parsing import sympy_parser

from recipes.archer.mathematics.equality import equal, proportional
from recipes.archer.mathematics.exact import EFFORT, TooMuch
from recipes.archer.mathematics.latex import GLUED_UNITS, SCIENTIFIC, tokenize
from recipes.archer.mathematics.quantities import has_meaning, leaves_more, product, same_quantities
from recipes.archer.mathematics.reading import DECIMAL_COMMA, LISTED, read
from recipes.archer.mathematics.sets import ORDERS, matched, real_set
from recipes.archer.mathematics.tokens import Unreadable, spelled
from recipes.archer.mathematics.units import STATED
from recipes.archer.mathematics.values import (
    Chain,
    Listed,
    Matrix,
    Scalar,
    Value,
    Words,
    are_scalars,
    in_common_letters,
    substituted,
    symbols_of,
)

_NUMERAL = re.compile(r"[0-9]+")
_PARSED = 256  # ground truths and answers whose reading is kept
_EQUATIONS = ("=", "approx", "in", "equiv")


def _number_of(text: str, *_: object, **__: object) -> Integer:
    """In place of SymPy's `parse_expr`, which builds Python from text and runs `eval` on it.

    latex2sympy2_extended 1.11.0 makes its numbers with `sympy.Number(text)`, which SymPy 1.14 sends there:
    model output in an `eval`, if only its digits. Can go when neither library evaluates text.

    Raises:
        SyntaxError: for anything but digits; SymPy turns it into its SympifyError.
    """
    if not _NUMERAL.fullmatch(text := text.strip()):
        raise SyntaxError(f"not a number: {text!r}")
    return Integer(int(text))


sympy_parser.parse_expr = _number_of
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)


@lru_cache(maxsize=_PARSED)
def _read(text: str, options: frozenset[str] = frozenset()) -> Value | Unreadable:
    try:
        return read(text, options)
    except Unreadable as error:
        return error


def _read_gold(form: str) -> tuple[Value | Unreadable, frozenset[str]]:
    """What a ground truth means, and how it had to be read: it is the answer, with whatever words it has."""
    value = _read(form)
    if isinstance(value, Unreadable):
        for options in (frozenset((STATED,)), frozenset((STATED, GLUED_UNITS))):
            if not isinstance(stated := _read(form, options), Unreadable):
                return stated, frozenset((STATED,))
    return value, frozenset()


def _in_order(gold: Sequence[Value], answer: Sequence[Value]) -> bool:
    return len(gold) == len(answer) and all(map(same, gold, answer))


def _letter(name: str | None) -> str | None:
    """x of x_1, y of y(t)."""
    return name and re.sub(r"_\w$|\(\)<\w>$", "", name)


def _same_lists(gold: Listed, answer: Listed) -> bool:
    a, b = gold.brackets, answer.brackets
    if ":" in (a, b):
        return a == b and len(gold.items) == len(answer.items) and _same_ratio(gold.items, answer.items)
    if {"setminus", "mod", "time"} & {a, b}:
        return a == b and _in_order(gold.items, answer.items)
    if {a, b} <= {"", r"\{\}"}:
        names = [
            {_letter(item.name) if isinstance(item, Chain) else None for item in side.items} for side in (gold, answer)
        ]
        named = [None not in each and len(each) > 1 for each in names]
        return _in_order(gold.items, answer.items) if sum(named) == 1 else matched(gold.items, answer.items, same)
    if r"\{\}" in (a, b):
        return False
    if len(gold.items) == 2 and a != b and (a, b) not in (("()", ""), ("", "()")):
        return False
    return _in_order(gold.items, answer.items)


def _same_ratio(gold: Sequence[Value], answer: Sequence[Value]) -> bool:
    if not are_scalars(gold) or not are_scalars(answer):
        return _in_order(gold, answer)
    (first_a, *rest_a), (first_b, *rest_b) = gold, answer
    return all(
        equal(product(first_a.value, b.value), product(first_b.value, a.value))
        for a, b in zip(rest_a, rest_b, strict=True)
    )


def _definition(chain: Chain) -> Value | None:
    """What a chain of equations says its name is; of one without a name, what all of its sides are."""
    if not set(chain.signs) <= set(_EQUATIONS):
        return None
    items = list(chain.items)
    if "approx" in chain.signs:
        items = items[: chain.signs.index("approx") + 1] if chain.signs.index("approx") or chain.name is None else items
    if chain.name is not None:
        items = items[1:]
        while len(items) > 1 and isinstance(items[0], Scalar) and isinstance(items[0].value, Symbol):
            items.pop(0)
    if not items or not all(same(items[-1], item) for item in items[:-1]):
        return None
    return items[-1]


def _turned(chain: Chain) -> Chain:
    """3 = x as x = 3."""
    left, right = chain.items[0], chain.items[-1]
    if chain.signs == ("=",) and chain.name is None and isinstance(right, Scalar) and isinstance(right.value, Symbol):
        return Chain(("=",), (right, left), right.value.name)
    return chain


def _same_chains(gold: Chain, answer: Chain) -> bool:
    if set(gold.signs + answer.signs) <= set(_EQUATIONS):
        gold, answer = _turned(gold), _turned(answer)
        value_a, value_b = _definition(gold), _definition(answer)
        if gold.name is not None and answer.name is not None and value_a is not None and value_b is not None:
            if gold.name == answer.name or (
                _letter(gold.name) == _letter(answer.name) and _letter(gold.name) in (gold.name, answer.name)
            ):
                return same(value_a, value_b)
            of_a, of_b = (re.fullmatch(r"(\w+'*)\(\)<(\w)>", name) for name in (gold.name, answer.name))
            if of_a and of_b and of_a[1] == of_b[1] and of_a[2] != of_b[2]:
                return same(value_a, substituted(value_b, {Symbol(of_b[2]): Symbol(of_a[2])}))
    if len(gold.signs) != 1 or len(answer.signs) != 1:
        return gold.signs == answer.signs and _in_order(gold.items, answer.items)
    sides = (*gold.items, *answer.items)
    if not are_scalars(sides):
        return gold.signs == answer.signs and _in_order(gold.items, answer.items)
    (sign_a,), (sign_b,) = gold.signs, answer.signs
    differences = [
        sympy.Add(left.value, product(Integer(-1), right.value), evaluate=False)
        for left, right in (sides[:2], sides[2:])
    ]
    turn = proportional(*differences)
    if sign_a in ORDERS and sign_b in ORDERS:
        return ("=" in sign_a) == ("=" in sign_b) and turn == (1 if sign_a[0] == sign_b[0] else -1)
    return sign_a == sign_b and turn != 0


def same(gold: Value, answer: Value) -> bool:
    """Whether two readings say the same."""
    if isinstance(gold, Chain) and isinstance(answer, Chain):
        if _same_chains(gold, answer):
            return True
    elif isinstance(gold, Scalar) and gold.digits and isinstance(answer, Chain) and answer.signs[-1] == "approx":
        return any(same(gold, value) for value in (_definition(answer), answer.items[-1]) if value is not None)
    elif isinstance(gold, Chain) and (value := _definition(gold)) is not None:
        return same(value, answer)
    elif isinstance(answer, Chain) and (value := _definition(answer)) is not None:
        return same(gold, value)
    match gold, answer:
        case Scalar(), Scalar():
            return same_quantities(gold, answer)
        case Words(), Words():
            return gold.text == answer.text
        case (Words(text), Scalar(value=Symbol(name=str(name)))) | (Scalar(value=Symbol(name=str(name))), Words(text)):
            return text == name.casefold()
        case Matrix(), Matrix():
            same_shape = gold.brackets == answer.brackets and len(gold.rows) == len(answer.rows)
            return same_shape and all(map(_in_order, gold.rows, answer.rows))
        case (Matrix(rows=rows), Listed("()" | "[]", items)) | (Listed("()" | "[]", items), Matrix(rows=rows)):
            return len(items) > 1 and all(len(row) == 1 for row in rows) and _in_order([row[0] for row in rows], items)
        case Listed(), Listed():
            if _same_lists(gold, answer):
                return True
        case (Listed("" | r"\{\}", (item,)), Scalar()):
            return same(item, answer)
        case (Scalar(), Listed("" | r"\{\}", (item,))):
            return same(gold, item)
        case (Scalar(), Listed(":", (Scalar() as above, Scalar() as below))):
            return _same_ratio((above, below), (gold, Scalar(Integer(1))))
        case (Listed(":", (Scalar() as above, Scalar() as below)), Scalar()):
            return _same_ratio((above, below), (answer, Scalar(Integer(1))))
    if isinstance(gold, Listed) and isinstance(answer, Listed):
        return False
    set_a, set_b = real_set(gold), real_set(answer)
    if set_a is None or set_b is None:
        return False
    (name_a, pieces_a), (name_b, pieces_b) = set_a, set_b
    return (name_a == name_b or None in (name_a, name_b)) and matched(
        pieces_a, pieces_b, lambda a, b: a[1::2] == b[1::2] and _in_order(a[::2], b[::2])
    )


@lru_cache(maxsize=_PARSED)
def unreadable(form: str) -> str | None:
    """Why nothing can be graded against `form`, or None when it is read whole."""
    EFFORT.begin()
    value, _ = _read_gold(form)
    try:
        if not isinstance(value, Unreadable) and has_meaning(value):
            return None
    except TooMuch:
        return f"{form!r} takes more steps than it may take"
    return f"{form!r} cannot be read whole" + (f": {value}" if isinstance(value, Unreadable) else "")


def _as_text(text: str) -> str:
    try:
        return spelled(tokenize(text))
    except Unreadable:
        return " ".join(text.split())


def _readings(answer: str, gold: Value, as_gold: frozenset[str]) -> Iterator[Value]:
    """What the answer can mean: as it stands, and where that can be meant, with more taken for granted."""
    options: list[frozenset[str]] = [frozenset()]
    if not symbols_of(gold) and re.search(r"[0-9](?:\s|~|\\[ ,;:])*\\?[A-Za-z]", answer):
        options += [frozenset((GLUED_UNITS,)), frozenset((SCIENTIFIC,))]
    if isinstance(gold, Listed) and "," in answer:
        options.append(frozenset((LISTED,)))
    if isinstance(gold, Scalar) and re.fullmatch(r"-?[0-9]+,[0-9]+", answer):
        options.append(frozenset((DECIMAL_COMMA,)))
    options += [option | as_gold for option in options if as_gold]
    values = dict.fromkeys(_read(answer, option) for option in options)
    return (value for value in values if not isinstance(value, Unreadable))


def _agree(form: str, answer: str) -> bool:
    if form.split() == answer.split():
        return True
    gold, as_gold = _read_gold(form)
    if isinstance(gold, Unreadable):
        return _as_text(form) == _as_text(answer)
    return any(same(*in_common_letters(gold, value)) for value in _readings(answer, gold, as_gold))


def _is_unevaluated(answer: str, form: str) -> bool:
    left, given = _read(answer), _read_gold(form)[0]
    if not isinstance(left, Scalar) or not isinstance(given, Scalar):
        return False
    return _as_text(form) != _as_text(answer) and leaves_more(left, given)


def judge(answer: str, forms: list[str], restated: bool = False) -> dict[str, Any]:
    """The verdict on a cleaned answer against cleaned accepted forms.

    Args:
        restated: whether the answer stands in the question; it is then wrong where it is not evaluated.

    Returns:
        `outcome`: correct, wrong or unparseable, and `note` where there is something to say;
        `skip` is true when no form can be read, which is a mistake in the data.
    """
    EFFORT.begin()
    try:
        equals = [form for form in forms if _agree(form, answer)]
        if equals and restated and all(_is_unevaluated(answer, form) for form in equals):
            return {"outcome": "wrong", "note": "the question is restated, not answered"}
        if equals:
            return {"outcome": "correct"}
    except TooMuch:
        return {"outcome": "timeout", "note": "the comparison takes more steps than it may take"}
    reasons = [unreadable(form) for form in forms]
    if all(reasons):
        return {"outcome": "unparseable", "note": f"ground truth {reasons[0]}", "skip": True}
    if isinstance(value := _read(answer), Unreadable):
        return {"outcome": "unparseable", "note": f"the answer cannot be read: {value}"}
    return {"outcome": "wrong"}


_WARM_UP = (
    (r"\frac{1}{2}", "0.5"), (r"2\sqrt{3}", r"\sqrt{12}"), ("(x+1)^2", "x^2+2x+1"), ("[0,1)", "[0, 1)"),
    (r"\{1,2\}", "2,1"), ("(1,2,3)", "(1,2,4)"), (r"y=2x+\pi", r"2x-y=-\pi"), (r"50\%", r"\text{even}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\3\end{bmatrix}"), ("2i+1", "(1+i)^2"),
    (r"\sin 2x", r"2\sin x\cos x"), (r"\log_2 8", r"\binom{3}{2}"), ("x>1", r"(1,\infty)"), ("5!", "10^{-3}"),
    (r"\frac{n!}{2^{n-1}}-\sqrt[3]{x+1}", r"-\sqrt[3]{1+x}+2n!/2^n"), (r"\ln 2+e^{-x}\cdot 3", r"\frac{-1}{2x}/3"),
    (r"12\text{ cm}^2", "12 dollars"), (r"\frac{-b\pm\sqrt{b^2-4ac}}{2a}", "-2^{-x}(x-1)!"), ("f(x)=x^2", "a_n=-3"),
)  # fmt: skip


def warm_up() -> None:
    """Runs the judge once over each kind of object, so that no deadline pays for imports and tables."""
    for answer, form in _WARM_UP:
        judge(answer, [form])
