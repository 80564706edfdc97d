"""Whether two quantities are the same: values with units and percent signs; and which is further computed."""

import math
from collections import Counter

import sympy
from sympy import Basic, Expr, Integer, Mul, Pow, Rational

from recipes.archer.mathematics.equality import equal, has_value, magnitude
from recipes.archer.mathematics.exact import Unknown
from recipes.archer.mathematics.values import Chain, Joined, Listed, Matrix, Scalar, Unit, Value
from recipes.archer.mathematics.vocabulary import ALTERING

_NEUTRAL = frozenset(("unit",))
_DEGREES = frozenset(("deg",))
_TEMPERATURES = (_DEGREES | {"C"}, _DEGREES | {"F"})  # of which degrees alone can be either


def product(number: Expr, value: Expr) -> Expr:
    """A product, not multiplied out."""
    return Mul(number, value, evaluate=False)


def _same_units(gold: Unit | None, answer: Unit | None) -> bool:
    """Whether two units can be of one quantity; one that is missing can be any."""
    if gold is None or answer is None or _NEUTRAL & (gold.words | answer.words):
        return True
    said = [unit.words & ALTERING for unit in (gold, answer)]
    if min(said, key=len) - max(said, key=len):
        return False
    if _DEGREES in (gold.words, answer.words) and max(gold.words, answer.words, key=len) in _TEMPERATURES:
        return True
    if gold.size is not None and answer.size is not None:
        return gold.kind == answer.kind
    return bool(gold.words & answer.words)


def same_quantities(gold: Scalar, answer: Scalar) -> bool:
    """Whether `answer` is the quantity `gold`, where either may leave its unit or its percent sign out."""
    digits = max(gold.digits, answer.digits)
    a, b = gold.value, answer.value
    if sympy.oo in (a, b) or -sympy.oo in (a, b):
        return bool(a == b)
    if not _same_units(gold.unit, answer.unit):
        return False
    if gold.percent != answer.percent and (answer if gold.percent else gold).unit:
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


def has_meaning(value: Value) -> bool:
    """Whether everything in it has a value: 1/0 has none."""
    match value:
        case Scalar():
            return has_value(value.value)
        case Listed() | Joined() | Chain():
            return all(map(has_meaning, value.items))
        case Matrix():
            return all(has_meaning(cell) for row in value.rows for cell in row)
    return True


def leaves_more(answer: Scalar, given: Scalar) -> bool:
    """Whether of two equal expressions `answer` leaves more to compute; of functions, whether it has another form."""
    if _is_reduced(answer.value):
        return False
    left, less = _parts(answer.value), _parts(given.value)
    if answer.value.free_symbols:
        return left != less
    return _steps(left) > _steps(less) or _size(left) > _size(less)


def _is_reduced(value: Expr) -> bool:
    """Whether it is a fraction of integers in lowest terms."""
    match value:
        case Mul(args=(Integer() as above, Pow(args=(Integer() as below, exponent)))) if exponent == -1:
            return math.gcd(int(above), int(below)) == 1
    return isinstance(value, Rational)


def _parts(value: Expr) -> Counter[Basic | str]:
    """How often each number, each symbol and, by its name, each operation stands in it."""
    nodes = (node for node in sympy.preorder_traversal(value) if node != -1)
    return Counter(node if node.is_Atom else node.func.__name__ for node in nodes)


def _steps(parts: Counter[Basic | str]) -> int:
    return sum(count for part, count in parts.items() if isinstance(part, str))


def _size(parts: Counter[Basic | str]) -> int:
    return sum(count * (abs(int(part.p)) + int(part.q)) for part, count in parts.items() if isinstance(part, Rational))
