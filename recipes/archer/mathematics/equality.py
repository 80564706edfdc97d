"""Whether two expressions have the same value: exactly where they are rational, else to more digits than they hide."""

import random
from collections.abc import Iterator, Mapping
from fractions import Fraction

import mpmath
import sympy
from sympy import Expr, I, Symbol

from recipes.archer.mathematics.exact import PRIMES, Unknown, exact, rebuilt, residues
from recipes.archer.mathematics.floats import QUADRATURE_BITS, Floats

_BITS = 200  # of the first look at a value
_SURE_BITS = 1_200  # of the second, on top of what the sizes inside ask for
_MAX_SURE_BITS = 100_000
_SLACK = 60  # bits that rounding may cost
_POINTS = 3  # at which the values of a function must agree
_APPROXIMATE_DIGITS = 6  # a decimal of so many stands for what it rounds
_ABS = sympy.Function("abs")
_STEPS = tuple(map(sympy.Function, ("floor", "ceil", "gcd", "lcm")))
_WHOLE_NAMES = frozenset(("n", "m", "k", "N", "integer 0"))  # numbers, where they are rounded
# Lowest, highest, and parts of one, of the values of the variables.
_RANGES = (
    *((500, 2500, 1000),) * 3, *((10, 990, 1000),) * 2, *((-2500, 2500, 1000),) * 2, (-2500, -500, 1000),
    (2, 9, 1), (2, 9, 1), (3, 12, 1),
)  # fmt: skip


def _points(names: list[str], whole: bool = False) -> Iterator[dict[str, Fraction]]:
    """Where functions are compared: positive values, then small ones, any sign, whole numbers; or these alone."""
    if whole:
        yield from ({name: Fraction(step + 3 * n) for n, name in enumerate(names)} for step in (2, 3, 4, 7, 8, 12, 13))
        return
    source = random.Random(0)
    for low, high, step in _RANGES:
        yield {name: Fraction(source.randint(low, high) * 2 + (step != 1), step * 2) for name in names}


def _close(a: Floats, b: Floats, value_a: mpmath.mpf | mpmath.mpc, value_b: mpmath.mpf | mpmath.mpc) -> bool:
    """Whether two values differ by no more than what rounding can have done to them."""
    if a.approximate or b.approximate:
        return bool(abs(value_a - value_b) <= mpmath.ldexp(max(1, abs(value_a)), -QUADRATURE_BITS))
    return bool(value_a == value_b or abs(value_a - value_b) <= mpmath.ldexp(1, max(a.high, b.high) + _SLACK - a.bits))


def _values(
    a: Expr, b: Expr, bits: int, point: Mapping[str, Fraction], real: bool
) -> tuple[Floats, Floats, mpmath.mpf | mpmath.mpc | None, mpmath.mpf | mpmath.mpc | None]:
    """Both values with how they were computed; None for one that is none."""
    results = []
    for expression in (a, b):
        floats = Floats(bits, point, real)
        try:
            value = floats.of(expression)
        except Unknown:
            value = None
        results.append((floats, value))
    return results[0][0], results[1][0], results[0][1], results[1][1]


def _same_at(a: Expr, b: Expr, point: Mapping[str, Fraction], real: bool, sure: bool) -> bool | None:
    """Whether both have one value at a point; None where one has none there."""
    floats_a, floats_b, value_a, value_b = _values(a, b, _BITS, point, real)
    if value_a is None or value_b is None:
        return None if value_a is value_b or not (a.has(_ABS) or b.has(_ABS)) else False
    if not _close(floats_a, floats_b, value_a, value_b) or not sure or floats_a.approximate or floats_b.approximate:
        return _close(floats_a, floats_b, value_a, value_b)
    bits = _SURE_BITS + 2 * max(floats_a.high, floats_a.low, floats_b.high, floats_b.low)
    if bits > _MAX_SURE_BITS:
        return None
    with mpmath.workprec(bits):
        floats_a, floats_b, value_a, value_b = _values(a, b, bits, point, real)
        if value_a is None or value_b is None:  # what is 0 was not seen to be in fewer digits
            return None
        return _close(floats_a, floats_b, value_a, value_b)


def _same_floats(a: Expr, b: Expr, real: bool) -> bool | None:
    names = sorted({symbol.name for symbol in a.free_symbols | b.free_symbols})
    agreed, needed = 0, _POINTS if names else 1
    whole = set(names) <= _WHOLE_NAMES and any(a.has(step) or b.has(step) for step in _STEPS)
    for point in _points(names, whole) if names else [{}]:
        same = _same_at(a, b, point, real, sure=agreed == 0)
        if same is False:
            return False
        agreed += same is True
    return True if agreed >= needed else None


def equal(a: Expr, b: Expr, digits: int = 0) -> bool:
    """Whether `a` and `b` have one value, wherever both have a value.

    Args:
        digits: the significant ones of the longest decimal in them: from six on it may be rounded, and agrees
            with what differs by less than one in the sixth place, or the sixth digit of a small number.
    """
    if a == b:
        return True
    of_a, of_b = residues(a), residues(b)
    if of_a is not None and of_a == of_b:
        return True
    if digits >= _APPROXIMATE_DIGITS and _rounds(a, b):
        return True
    if of_a is not None and of_b is not None:
        return False
    same = None if a.has(I) or b.has(I) else _same_floats(a, b, real=True)
    return bool(_same_floats(a, b, real=False) if same is None else same)


def _is_short(expression: Expr) -> bool:
    """Whether a value is a decimal of fewer than six digits, and so not the rounding of anything, nor rounded."""
    try:
        value = exact(expression)
    except Unknown:
        return False
    scaled = value / _unit_in_the_last_place(value)
    return scaled.denominator == 1 and scaled.numerator % 10 == 0


def _unit_in_the_last_place(value: Fraction | mpmath.mpf) -> Fraction:
    """Of a decimal of six places, or of six digits where the number is below 0.001."""
    zeros = max(0, -int(mpmath.floor(mpmath.log10(abs(mpmath.mpmathify(value))))) - 1) if value else 0
    return Fraction(1, 10 ** (_APPROXIMATE_DIGITS + (zeros if zeros > 2 else 0)))


def _rounds(a: Expr, b: Expr) -> bool:
    """Whether one constant is the other, rounded."""
    if a.free_symbols or b.free_symbols or _is_short(a) or _is_short(b):
        return False
    _, _, value_a, value_b = _values(a, b, _BITS, {}, not (a.has(I) or b.has(I)))
    if value_a is None or value_b is None:
        return False
    return bool(abs(value_a - value_b) < mpmath.mpmathify(_unit_in_the_last_place(mpmath.re(value_a))))


def proportional(a: Expr, b: Expr) -> int:
    """The sign of c where `a` is c times `b` for a constant c that is not zero; 0 where there is none."""
    products = [[residues(rebuilt(expression, _shifted(a, b, point))) for expression in (a, b)] for point in (0, 1)]
    (a_0, b_0), (a_1, b_1) = products
    if a_0 is not None and b_0 is not None and a_1 is not None and b_1 is not None:
        for prime, *values in zip(PRIMES, a_0, b_0, a_1, b_1, strict=True):
            if (values[0] * values[3] - values[2] * values[1]) % prime or not values[0] or not values[1]:
                return 0
    names = sorted({symbol.name for symbol in a.free_symbols | b.free_symbols})
    ratios = []
    for point in _points(names):
        floats_a, floats_b, value_a, value_b = _values(a, b, _BITS, point, real=True)
        if value_a is not None and value_b:
            ratios.append(value_a / value_b)
            if abs(ratios[-1] - ratios[0]) > mpmath.ldexp(abs(ratios[0]), _SLACK - _BITS):
                return 0
    return int(mpmath.sign(ratios[0])) if len(ratios) >= (_POINTS if names else 1) else 0


def _shifted(a: Expr, b: Expr, point: int) -> dict[Expr, Expr]:
    """Other names for the variables, so that they have other values."""
    symbols = a.free_symbols | b.free_symbols if point else ()
    return {symbol: Symbol(f"{symbol.name} {point}") for symbol in symbols}


def has_value(expression: Expr) -> bool:
    """Whether a constant has a value: 1/0 has none."""
    if expression in (sympy.oo, -sympy.oo) or expression.free_symbols or residues(expression) is not None:
        return True
    return any(_values(expression, expression, _BITS, {}, real)[2] is not None for real in (True, False))


def magnitude(expression: Expr) -> float:
    """A real constant, roughly. Raises `Unknown` for any other."""
    return float(Floats(_BITS, {}, True).of(expression))
