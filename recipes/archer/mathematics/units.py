"""Units: what a number is a number of, and how much of it."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import sympy
from sympy import Integer, Rational

from recipes.archer.mathematics.latex import GLUED_UNITS
from recipes.archer.mathematics.numerals import grouped, mixed
from recipes.archer.mathematics.structure import is_text
from recipes.archer.mathematics.tokens import Token, Unreadable, spelled
from recipes.archer.mathematics.values import Scalar, Unit, Value
from recipes.archer.mathematics.vocabulary import (
    ALTERING,
    PARTS,
    RAISING,
    REFUSED,
    UNITS,
    name_of_unit,
    scale_of,
    words,
)

# Within a unit; where one stands last, a number is multiplied, subtracted or divided.
_LINKS = ("*", ".", "-", "/", "per")  # fmt: skip

# Letters that are units after a number of the answer, with a blank between or without one.
_SINGLE, _GLUED = words("m s g h l L N J W V A K C T Omega"), words("m s g L N J W V K Omega")
_TEMPERATURES = ("C", "F", "K")  # where degrees stand before them they are of these
# A reading that takes more for granted: a number is the answer, whatever else is said of it: 5 more.
STATED = "stated"


def _is_no_unit(token: Token, stated: bool) -> bool:
    """Whether a word says more than what is counted, or is the name of a variable."""
    word = token.text
    letter = len(word) == 1 and word.isascii() and word.isalpha() and word != "a" and name_of_unit(word) not in UNITS
    variable = letter and not (stated and token.kind == "text")
    return variable or word.lower() in (REFUSED if stated else ALTERING - PARTS) or scale_of(word) is not None


def _is_a_part(counted: Sequence[Token], stated: bool) -> bool:
    """Whether they make a fraction of the number before: 3 fifths; 6 quarters are coins, 6 fifth graders children."""
    parts = [word.text.lower() for word in counted if word.text.lower() in PARTS]
    if not parts:
        return False
    if len(counted) == 1:
        return not parts[0].endswith("s") if stated else parts[0] != "quarters"
    return not stated or any(part.endswith("s") or part in ("half", "quarter") for part in parts)


def _has_a_product(tokens: Sequence[Token]) -> bool:
    """Whether letters stand side by side that are no unit together: mgh; mV, Nm and mu m are."""
    pairs = ((a, b) for a, b in itertools.pairwise(tokens) if a.kind == b.kind == "name")
    return any(a.text != "mu" and not re.fullmatch("m[NWJVAKCTLF]|[NWJVAT][msh]", a.text + b.text) for a, b in pairs)


def _ends_in_an_abbreviation(tokens: Sequence[Token]) -> bool:
    """Whether its last sign is the full stop of a word: 5 ft. 3 in.; in 10 m . 5 cm it is a product."""
    last = list(itertools.dropwhile(lambda token: token.kind == "space", reversed(tokens)))[:2]
    return len(last) == 2 and last[0].text == "." and last[1].kind == "text"


def starts_unit(tokens: Sequence[Token], place: int, options: frozenset[str]) -> bool:
    """Whether a unit, or words in its place, begin at `place`, which is not the first."""
    token, before = tokens[place], tokens[place - 1]
    if token.kind == "text":
        return before.text != "_"
    if token.text == "()" and all(is_text(inner) for inner in token.parts[0]):
        return True
    if token.text == "mu" and tokens[place + 1 : place + 2] and tokens[place + 1].kind == "text":
        return True
    if token.kind == "operator" and token.text in ("dollar", "euro", "pound"):
        return True
    if token.text == "%":
        return all(t.kind in ("text", "space") for t in tokens[place + 1 :])
    if any(t.kind == "function" for t in tokens[:place]):
        return False
    if token.kind != "space" and re.fullmatch(r"\^?(deg|\{\}<deg>)[CFK]?", spelled(tokens[place:])):
        return True
    number = next((t for t in reversed(tokens[:place]) if t.kind != "space"), token)
    if token.text == "mu":
        return GLUED_UNITS in options and number.kind == "number" and f"μ{spelled(tokens[place + 1 :])}" in UNITS
    single = token.kind == "name" and token.text in (_SINGLE if before.kind == "space" else _GLUED)
    return GLUED_UNITS in options and single and number.kind == "number"


def unit_of(tokens: Sequence[Token], stated: bool = False) -> Unit | None:
    """The unit that `tokens` spell: `cm^2`, `km/h`, `square feet`, `miles per hour`, `blue marbles`; None for none.

    Args:
        tokens: what stands after a number.
        stated: whether the number is known to be the answer: then what more is said of it makes no other one of it.
    """
    powers: dict[str, int] = {}
    size, direction, power, known = Fraction(1), 1, 1, True
    names: list[str] = []
    last: tuple[str, int, Fraction] | None = None  # what a "squared" after it would raise
    rest = [token for token in tokens if token.kind != "space"]
    if _ends_in_an_abbreviation(tokens):
        rest.pop()
    if half := re.fullmatch(r"([ap])\.?m\.?", spelled(rest).lower()):
        return Unit(None, frozenset(), frozenset((f"{half[1]}m",)))
    times = not stated and len(rest) > 1 and any(token.text.lower() == "times" for token in rest)
    if times or rest and rest[-1].text in _LINKS or _is_a_part(rest, stated) or _has_a_product(tokens):
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
        elif name_of_unit(token.text) == "deg" and rest and name_of_unit(rest[0].text) in _TEMPERATURES:
            names.append("deg")
        elif token.text in ("square", "sq", "cubic", "cu"):
            power = 3 if token.text[0] == "c" else 2
        elif token.text in _LINKS:
            continue
        elif token.text == "Nm":
            rest[:0] = [Token("text", "N"), Token("text", "m")]
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
            if token.kind != "operator" and _is_no_unit(token, stated):
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
