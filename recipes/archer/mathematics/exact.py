"""Rational expressions, exactly, without writing out a power or a factorial.

With variables too, they are one where their residues are, modulo two primes of 127 bits at two points: what differs
in one unit of 2^9999 differs.
"""

import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NoReturn

import sympy
from sympy import Add, Basic, Expr, I, Integer, Mul, Pow, Rational, Symbol, factorial

# Both 1 modulo 4, so that -1 has a root; and above what can be written as a factorial.
PRIMES = (2**127 - 39, 2**126 - 203)
_MAX_BITS = 20_000  # of an exponent or an argument, the only numbers that are written out
MAX_STEPS = 20_000  # factors of a factorial, terms of a sum
MOST_EFFORT = 60_000  # steps, some 10 microseconds each
_FACTORS_A_STEP = 20


def rebuilt(tree: Basic, values: Mapping[Basic, Basic]) -> Basic:
    """`tree` with each of `values`' keys replaced, evaluating nothing."""
    if tree in values:
        return values[tree]
    if not tree.args:
        return tree
    return tree.func(*(rebuilt(argument, values) for argument in tree.args), evaluate=False)


class Unknown(ArithmeticError):
    """No value: outside of the domain, or written with more digits than are ever written out."""


class TooMuch(Exception):
    """A comparison took more steps than it may take."""


class Effort:
    """Counts the steps of one comparison: a step is the value of one part of an expression, at one point."""

    def __init__(self) -> None:
        self.left = MOST_EFFORT

    def begin(self) -> None:
        self.left = MOST_EFFORT

    def spend(self, steps: int = 1) -> None:
        """Raises `TooMuch` when none is left."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch


EFFORT = Effort()


def exact(expression: Expr) -> Fraction:
    """The value of a rational constant. Raises `Unknown` for any other, and for one of many digits."""
    match expression:
        case Rational():
            value = Fraction(int(expression.p), int(expression.q))
        case Add():
            value = sum(map(exact, expression.args), Fraction(0))
        case Mul():
            value = Fraction(1)
            for argument in expression.args:
                value = _bounded(value * exact(argument))
        case Pow():
            base, exponent = map(exact, expression.args)
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if exponent.denominator != 1 or bits * abs(exponent) > _MAX_BITS or base == 0 and exponent < 0:
                raise Unknown
            value = base ** int(exponent)
        case factorial():
            value = Fraction(_factorial(_whole(expression.args[0], 1_000)))
        case _ if expression.func.__name__ in _INTEGER_VALUED:
            value = Fraction(_INTEGER_VALUED[expression.func.__name__](*map(exact, expression.args)))
        case _:
            raise Unknown
    return _bounded(value)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise Unknown
    return value


def _whole(expression: Expr, most: int = MAX_STEPS) -> int:
    value = exact(expression)
    if value.denominator != 1 or not 0 <= value <= most:
        raise Unknown
    return int(value)


@lru_cache(maxsize=64)
def _factorial(number: int, modulus: int | None = None) -> int:
    EFFORT.spend(number // _FACTORS_A_STEP)
    product = 1
    for factor in range(2, number + 1):
        product = product * factor % modulus if modulus else product * factor
    return product


def _gcd(*values: Fraction) -> int:
    return _of_integers(sympy.igcd, values)


def _of_integers(function: Callable[..., int], values: tuple[Fraction, ...]) -> int:
    if any(value.denominator != 1 for value in values):
        raise Unknown
    return int(function(*map(int, values)))


def _choose(above: Fraction, below: Fraction) -> int:
    return _of_integers(lambda n, k: sympy.binomial(n, k) if 0 <= n <= 2_000 else _unknown(), (above, below))


def _unknown() -> NoReturn:
    raise Unknown


_INTEGER_VALUED: dict[str, Callable[..., int | Fraction]] = {
    "gcd": _gcd,
    "lcm": lambda *values: _of_integers(sympy.ilcm, values),
    "max": max,
    "min": min,
    "floor": lambda value: value.__floor__(),
    "ceil": lambda value: value.__ceil__(),
    "abs": abs,
    "binom": _choose,
}


class _Residues:
    """Values of expressions modulo a prime, at one point."""

    def __init__(self, prime: int, seed: int):
        self.prime, self.seed = prime, seed
        self.root = next(
            root for base in range(2, 100) if pow(root := pow(base, (prime - 1) // 4, prime), 2, prime) == prime - 1
        )

    def of(self, expression: Expr) -> int:
        """Raises `Unknown` for what is not rational, or divides by zero."""
        EFFORT.spend()
        prime = self.prime
        match expression:
            case Rational():
                return int(expression.p) * self._inverse(int(expression.q)) % prime
            case Symbol():
                return random.Random(f"{self.seed} {expression.name}").randrange(prime)
            case Add():
                return sum(map(self.of, expression.args)) % prime
            case Mul():
                product = 1
                for argument in expression.args:
                    product = product * self.of(argument) % prime
                return product
            case Pow():
                base, exponent = self.of(expression.args[0]), exact(expression.args[1])
                if exponent.denominator != 1:
                    raise Unknown
                return pow(base if exponent >= 0 else self._inverse(base), abs(int(exponent)), prime)
            case factorial():
                return _factorial(_whole(expression.args[0]), prime)
            case _ if expression is I:
                return self.root
            case _ if expression.func.__name__ == "binom":
                return self._binomial(*expression.args)
            case _ if expression.func.__name__ in ("sum", "prod"):
                return self._range(*expression.args, start=expression.func.__name__ == "prod")
            case _:
                value = exact(expression)
                return value.numerator * self._inverse(value.denominator) % prime

    def _inverse(self, number: int) -> int:
        if number % self.prime == 0:
            raise Unknown
        return pow(number, -1, self.prime)

    def _binomial(self, above: Expr, below: Expr) -> int:
        chosen = exact(below)
        try:
            total = exact(above)
        except Unknown:
            total = None
        if total is not None and total.denominator == 1 and 0 <= chosen <= total:
            chosen = min(chosen, total - chosen)
        if chosen.denominator != 1 or not 0 <= chosen <= MAX_STEPS:
            raise Unknown
        EFFORT.spend(int(chosen) // _FACTORS_A_STEP)
        start, product = self.of(above), 1
        for step in range(int(chosen)):
            product = product * (start - step) % self.prime
        return product * self._inverse(_factorial(int(chosen), self.prime)) % self.prime

    def _range(self, body: Expr, variable: Symbol, first: Expr, last: Expr, *, start: bool) -> int:
        low, high = exact(first), exact(last)
        if low.denominator != 1 or high.denominator != 1 or high - low > MAX_STEPS // 10:
            raise Unknown
        total = int(start)
        for step in range(int(low), int(high) + 1):
            term = self.of(rebuilt(body, {variable: Integer(step)}))
            total = (total * term if start else total + term) % self.prime
        return total


def residues(expression: Expr) -> tuple[int, ...] | None:
    """What decides whether two rational expressions are one; None for what is not rational."""
    try:
        return tuple(_Residues(prime, seed).of(expression) for seed, prime in enumerate(PRIMES))
    except Unknown:
        return None
