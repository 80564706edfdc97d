"""Units: what a number is a number of, and how much of it."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import sympy
from sympy import Integer, Rational

from recipes.archer.mathematics.numerals import grouped, mixed
from recipes.archer.mathematics.tokens import Token, Unreadable, spelled
from recipes.archer.mathematics.values import Scalar, Unit, Value
from recipes.archer.mathematics.vocabulary import ALTERING, RAISING, UNITS, name_of_unit, scale_of

_LINKS = (
    "*",
    ".",
    "-",
    "/",
    "per",
)  # within a unit; where one stands last, a number is multiplied, subtracted or divided


def _is_no_unit(word: str) -> bool:
    """Whether a word says more than what is counted, or is the name of a variable."""
    variable = len(word) == 1 and word.isascii() and word.isalpha() and name_of_unit(word) not in UNITS and word != "a"
    return variable or word.lower() in ALTERING or scale_of(word) is not None


def unit_of(tokens: Sequence[Token]) -> Unit | None:
    """The unit that `tokens` spell: `cm^2`, `km/h`, `square feet`, `miles per hour`, `blue marbles`; None for none."""
    powers: dict[str, int] = {}
    size, direction, power, known = Fraction(1), 1, 1, True
    names: list[str] = []
    last: tuple[str, int, Fraction] | None = None  # what a "squared" after it would raise
    rest = [token for token in tokens if token.kind != "space"]
    if rest and rest[-1].text in _LINKS or len(rest) > 1 and any(token.text.lower() == "times" for token in rest):
        return None
    while rest:
        token = rest.pop(0)
        if token.text == "mu" and rest:
            token = Token("text", f"μ{rest.pop(0).text}")
        if token.kind == "group" and token.text in ("{}", "()"):
            rest[:0] = token.parts[0]
        elif token.kind == "frac":
            rest[:0] = [*token.parts[0], Token("operator", "/"), *token.parts[1]]
        elif token.text in ("/", "per"):
            direction = -1
        elif token.text in ("square", "sq", "cubic", "cu"):
            power = 3 if token.text[0] == "c" else 2
        elif token.text in _LINKS:
            continue
        elif token.text in ("mph", "kph", "kmh"):
            rest[:0] = [Token("text", "mile" if token.text == "mph" else "km"), Token("", "per"), Token("text", "h")]
        elif token.text in RAISING:
            if last is None:
                return None
            more = direction * (RAISING[token.text] - 1)
            powers[last[0]] += more * last[1]
            size *= last[2] ** more
            last = None
        elif token.kind in ("text", "name") or token.text in ("dollar", "euro", "pound", "deg"):
            if token.kind != "operator" and _is_no_unit(token.text):
                return None
            if rest[:1] == [Token("operator", "^")] and len(rest) > 1:
                exponent = spelled(rest[1:2]).strip("{}<>")
                rest = rest[2:]
                if not re.fullmatch(r"-?[0-9]", exponent):
                    return None
                power = int(exponent)
            names.append(name_of_unit(token.text))
            base, base_power, base_size = UNITS.get(names[-1], ("", 0, "1"))
            known = known and bool(base)
            powers[base] = powers.get(base, 0) + direction * power * base_power
            size *= Fraction(base_size) ** (direction * power)
            last = (base, base_power, Fraction(base_size)) if base and power == 1 else None
            power = 1
        else:
            return None
    if not names:
        return None
    if known:
        return Unit(size, frozenset((base, power) for base, power in powers.items() if power), frozenset(names))
    return Unit(None, frozenset(), frozenset(names))


def scaled(tokens: Sequence[Token], place: int, number: Scalar) -> tuple[int, Scalar]:
    """`number`, which `tokens` up to `place` are, times the words of scale that follow it, and where those end.

    Raises:
        Unreadable: for words of scale after more than one operand: 3+2 million.
    """
    factor, end = 1, place
    for token in tokens[place:]:
        scale = scale_of(token.text) if token.kind == "text" else None
        if scale is None and token.kind != "space":
            break
        factor, end = factor * (scale or 1), end + 1
    if factor == 1:
        return place, number
    operands = [token for token in mixed(grouped(tokens[:place])) if token.kind != "space"]
    operands = operands[1:] if operands[0] in (Token("operator", "+"), Token("operator", "-")) else operands
    if len(operands) != 1 or operands[0].kind not in ("number", "frac", "group"):
        raise Unreadable("a word of scale after an expression")
    return end, replace(number, value=sympy.Mul(Integer(factor), number.value, evaluate=False))


def numeral_in_a_base(tokens: Sequence[Token]) -> Scalar | None:
    """`2220_5`: its digits, with the base for a unit."""
    tokens = [token for token in tokens if token.kind != "space"]
    if len(tokens) != 3 or tokens[0].kind != "number" or tokens[1].text != "_" or not tokens[0].text.isdigit():
        return None
    base = spelled(tokens[2:]).strip("{}<>")
    return Scalar(Integer(tokens[0].text), Unit(None, frozenset(), frozenset((f"base {base}",))))


def total(items: Sequence[Value]) -> Scalar | None:
    """3 hours and 20 minutes as one quantity, where the units go down and no part is negative; else None."""
    quantities = [item for item in items if isinstance(item, Scalar) and not item.value.could_extract_minus_sign()]
    units = [item.unit for item in quantities if item.unit is not None]
    sizes = [unit.size for unit in units if unit.size is not None]
    if len(sizes) < len(items) or len({unit.kind for unit in units}) > 1:
        return None
    if any(size <= next_size for size, next_size in itertools.pairwise(sizes)):
        return None
    terms = (
        sympy.Mul(Rational(size / sizes[0]), item.value, evaluate=False)
        for item, size in zip(quantities, sizes, strict=True)
    )
    return Scalar(sympy.Add(*terms, evaluate=False), units[0], digits=max(item.digits for item in quantities))
