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
from recipes.archer.mathematics.vocabulary import ALTERING, RAISING, scale_of

_BASE = {  # unit to (base unit, power, size); plural forms are made singular first
    "mm": ("m", 1, "1/1000"), "cm": ("m", 1, "1/100"), "m": ("m", 1, "1"), "km": ("m", 1, "1000"),
    "inch": ("m", 1, "0.0254"), "foot": ("m", 1, "0.3048"), "yard": ("m", 1, "0.9144"), "mile": ("m", 1, "1609.344"),
    "s": ("s", 1, "1"), "min": ("s", 1, "60"), "h": ("s", 1, "3600"), "day": ("s", 1, "86400"),
    "week": ("s", 1, "604800"), "ms": ("s", 1, "1/1000"), "year": ("year", 1, "1"), "month": ("year", 1, "1/12"),
    "μm": ("m", 1, "1/1000000"), "nm": ("m", 1, "1/1000000000"), "angstrom": ("m", 1, "1/10000000000"),
    "μs": ("s", 1, "1/1000000"), "mg": ("kg", 1, "1/1000000"), "g": ("kg", 1, "1/1000"), "kg": ("kg", 1, "1"),
    "pound": ("kg", 1, "0.45359237"),
    "ml": ("m", 3, "1/1000000"), "liter": ("m", 3, "1/1000"), "mL": ("m", 3, "1/1000000"), "L": ("m", 3, "1/1000"),
    "dollar": ("dollar", 1, "1"), "cent": ("dollar", 1, "1/100"), "euro": ("euro", 1, "1"),
    "deg": ("deg", 1, "1"), "radian": ("rad", 1, "1"), "J": ("J", 1, "1"), "kJ": ("J", 1, "1000"), "N": ("N", 1, "1"),
    "W": ("W", 1, "1"), "V": ("V", 1, "1"), "A": ("A", 1, "1"), "K": ("K", 1, "1"), "Hz": ("s", -1, "1"),
    "C": ("C", 1, "1"),
    "gallon": ("gallon", 1, "1"), "quart": ("gallon", 1, "1/4"), "pint": ("gallon", 1, "1/8"),
    "mol": ("mol", 1, "1"), "Pa": ("Pa", 1, "1"), "T": ("T", 1, "1"), "eV": ("eV", 1, "1"),
}  # fmt: skip
_UNIT_NAMES = {
    "in": "inch", "inches": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "meter": "m",
    "metre": "m",
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "kilometer": "km", "kilometre": "km", "sec": "s",
    "second": "s", "minute": "min", "hr": "h", "hour": "h", "gram": "g", "kilogram": "kg", "lb": "pound",
    "lbs": "pound",
    "litre": "liter", "milliliter": "ml", "degree": "deg", "rad": "radian", "joule": "J", "newton": "N", "watt": "W",
    "volt": "V", "ampere": "A", "kelvin": "K", "buck": "dollar", "usd": "dollar", "yr": "year", "cents": "cent",
    "wk": "week", "mo": "month", "gal": "gallon", "qt": "quart", "pt": "pint", "oz": "ounce", "tsp": "teaspoon",
    "tbsp": "tablespoon",
}  # fmt: skip
_LINKS = (
    "*",
    ".",
    "-",
    "/",
    "per",
)  # within a unit; where one stands last, a number is multiplied, subtracted or divided


def _name_of_unit(word: str) -> str:
    for form in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if form in _UNIT_NAMES or form in _BASE and (len(form) > 1 or form == word):
            return _UNIT_NAMES.get(form, form)
    return word.lower().removesuffix("s")


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
            if token.kind == "text" and (token.text.lower() in ALTERING or scale_of(token.text)):
                return None
            if rest[:1] == [Token("operator", "^")] and len(rest) > 1:
                exponent = spelled(rest[1:2]).strip("{}<>")
                rest = rest[2:]
                if not re.fullmatch(r"-?[0-9]", exponent):
                    return None
                power = int(exponent)
            names.append(_name_of_unit(token.text))
            base, base_power, base_size = _BASE.get(names[-1], ("", 0, "1"))
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
