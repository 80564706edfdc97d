"""Whether two quantities are the same: values with units and percent signs."""

import sympy
from sympy import Expr, Mul, Rational

from recipes.archer.mathematics.equality import equal, magnitude
from recipes.archer.mathematics.exact import Unknown
from recipes.archer.mathematics.values import Scalar, Unit

_NEUTRAL = frozenset(("unit",))


def product(number: Expr, value: Expr) -> Expr:
    """A product, not multiplied out."""
    return Mul(number, value, evaluate=False)


def _same_units(gold: Unit | None, answer: Unit | None) -> bool:
    """Whether two units can be of one quantity; one that is missing can be any."""
    if gold is None or answer is None or _NEUTRAL & (gold.words | answer.words):
        return True
    if gold.size is not None and answer.size is not None:
        return gold.kind == answer.kind
    return bool(gold.words & answer.words)


def same_quantities(gold: Scalar, answer: Scalar) -> bool:
    """Whether `answer` is the quantity `gold`, where either may leave its unit or its percent sign out."""
    digits = max(gold.digits, answer.digits)
    a, b = gold.value, answer.value
    if sympy.oo in (a, b) or -sympy.oo in (a, b):
        return a == b
    if not _same_units(gold.unit, answer.unit):
        return False
    sizes = [quantity.unit.size if quantity.unit else None for quantity in (gold, answer)]
    if None not in sizes and sizes[0] != sizes[1]:
        a, b = product(Rational(sizes[0]), a), product(Rational(sizes[1]), b)
    if gold.percent == answer.percent:
        return equal(a, b, digits)
    hundredth = Rational(1, 100)
    if gold.percent:
        return equal(a, b, digits) or equal(product(hundredth, a), b, digits)
    return equal(a, product(hundredth, b), digits) or _exceeds_one(a) and equal(a, b, digits)


def _exceeds_one(value: Expr) -> bool:
    try:
        return abs(magnitude(value)) > 1
    except Unknown:
        return False
