"""Values in floating point, to as many digits as asked, and what rounding can do to them."""

from collections.abc import Callable, Mapping
from fractions import Fraction

import mpmath
import sympy
from sympy import Add, Expr, I, Mul, Pow, Rational, Symbol

from recipes.archer.mathematics.exact import EFFORT, MAX_STEPS, Unknown, exact

_MAX_MAGNITUDE = 200_000  # binary digits before the point of a number whose sine or power is taken
_BITS_A_STEP = 2_000
QUADRATURE_BITS = 40  # to which an integral is known


class Floats:
    """Values of expressions in floating point, at one point.

    Attributes:
        bits: binary digits to compute with.
        real: whether only real values count: a root of a negative number is then none, but for odd roots.
        high, low: the powers of two, up and down, that the parts reached.
    """

    def __init__(self, bits: int, point: Mapping[str, Fraction], real: bool):
        self.bits, self.point, self.real, self.high, self.low = bits, point, real, 0, 0
        self.bound: dict[Symbol, mpmath.mpf] = {}
        self.approximate = False

    def of(self, expression: Expr) -> mpmath.mpf | mpmath.mpc:
        """Raises `Unknown` where there is no value."""
        with mpmath.workprec(self.bits):
            try:
                return self._of(expression)
            except (ValueError, ZeroDivisionError, OverflowError, TypeError, mpmath.libmp.NoConvergence) as error:
                raise Unknown from error

    def _of(self, expression: Expr) -> mpmath.mpf | mpmath.mpc:
        EFFORT.spend(1 + self.bits // _BITS_A_STEP)
        value = self._value(expression)
        if self.real and isinstance(value, mpmath.mpc):
            raise Unknown
        if not mpmath.isfinite(value):
            raise Unknown
        if value != 0:
            magnitude = int(mpmath.mag(value))
            self.high, self.low = max(self.high, magnitude), max(self.low, -magnitude)
        return value

    def _value(self, expression: Expr) -> mpmath.mpf | mpmath.mpc:
        match expression:
            case Rational():
                return mpmath.mpf(int(expression.p)) / int(expression.q)
            case Symbol():
                if expression in self.bound:
                    return self.bound[expression]
                value = self.point[expression.name]
                return mpmath.mpf(value.numerator) / value.denominator
            case Add():
                return mpmath.fsum(map(self._of, expression.args))
            case Mul():
                return mpmath.fprod(map(self._of, expression.args))
            case Pow():
                return self._power(*expression.args)
            case _ if expression is sympy.pi:
                return +mpmath.pi
            case _ if expression is sympy.E:
                return +mpmath.e
            case _ if expression is I and not self.real:
                return mpmath.mpc(0, 1)
        return self._function(expression.func.__name__, expression.args)

    def _power(self, base_expression: Expr, exponent_expression: Expr) -> mpmath.mpf | mpmath.mpc:
        base = self._of(base_expression)
        try:
            exponent: Fraction | None = exact(exponent_expression)
        except Unknown:
            exponent = None
        if exponent is not None and exponent.denominator == 1:
            self._small(exponent * max(1, abs(int(mpmath.mag(base))) if base else 1))
            return base ** int(exponent)
        if exponent is not None and self.real and base < 0 and exponent.denominator % 2:
            root = -((-base) ** (mpmath.mpf(1) / exponent.denominator))
            return root**exponent.numerator
        power = self._of(exponent_expression)
        if self.real and base < 0 and power != int(power):
            raise Unknown
        if base == 0 and mpmath.re(power) <= 0:
            raise Unknown
        self._small(power * mpmath.log(base) if base else 0)
        return base**power

    def _small(self, size: Fraction | mpmath.mpf | mpmath.mpc) -> None:
        if abs(size) > 2**40:
            raise Unknown

    def _function(self, name: str, arguments: tuple[Expr, ...]) -> mpmath.mpf | mpmath.mpc:
        if name in ("sum", "prod"):
            return self._range(name, *arguments)
        if name == "int":
            return self._integral(*arguments)
        values = [self._of(argument) for argument in arguments]
        if any(value and mpmath.mag(value) > _MAX_MAGNITUDE for value in values):
            raise Unknown
        if name == "log":
            if self.real and any(value <= 0 for value in values):
                raise Unknown
            return mpmath.log(*values)
        if name == "binom":
            return mpmath.binomial(*values)
        if name in ("gcd", "lcm") and all(mpmath.isint(value) for value in values):
            return mpmath.mpf((sympy.igcd if name == "gcd" else sympy.ilcm)(*map(int, values)))
        if name not in _FUNCTIONS:
            raise Unknown
        return _FUNCTIONS[name](*values)

    def _range(self, name: str, body: Expr, variable: Symbol, first: Expr, last: Expr) -> mpmath.mpf | mpmath.mpc:
        low = exact(first)
        if last is sympy.oo:
            self.approximate = True
            with mpmath.workprec(2 * QUADRATURE_BITS):
                function = mpmath.nsum if name == "sum" else mpmath.nprod
                return function(lambda step: self._with(body, variable, step), [int(low), mpmath.inf])
        high = exact(last)
        if low.denominator != 1 or high.denominator != 1 or high - low > MAX_STEPS // 20:
            raise Unknown
        terms = [self._with(body, variable, step) for step in range(int(low), int(high) + 1)]
        return (mpmath.fsum if name == "sum" else mpmath.fprod)(terms)

    def _with(self, body: Expr, variable: Symbol, value: object) -> mpmath.mpf | mpmath.mpc:
        self.bound[variable] = mpmath.mpmathify(value)
        try:
            return self._of(body)
        finally:
            del self.bound[variable]

    def _integral(self, body: Expr, variable: Symbol, low: Expr, high: Expr) -> mpmath.mpf | mpmath.mpc:
        if body.has(sympy.Function("int")):
            raise Unknown  # an integral in an integral takes the square of its time
        ends = [mpmath.inf * (1 if end is sympy.oo else -1) if end in (sympy.oo, -sympy.oo) else self._of(end)
                for end in (low, high)]  # fmt: skip
        self.approximate = True
        with mpmath.workprec(2 * QUADRATURE_BITS):
            return mpmath.quad(lambda value: self._with(body, variable, value), ends, maxdegree=5)


_FUNCTIONS: dict[str, Callable[..., mpmath.mpf | mpmath.mpc]] = {
    **{
        name: getattr(mpmath, name)
        for name in [
            "sin",
            "cos",
            "tan",
            "cot",
            "sec",
            "csc",
            "sinh",
            "cosh",
            "tanh",
            "coth",
            "asin",
            "acos",
            "atan",
            "acot",
            "asec",
            "acsc",
            "exp",
            "floor",
            "ceil",
            "factorial",
        ]
    },
    "abs": abs,
    "max": max,
    "min": min,
}
