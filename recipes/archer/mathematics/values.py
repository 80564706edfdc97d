"""What can be read: quantities, lists, intervals, relations, matrices, words. Plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeGuard

import sympy
from sympy import Expr, Symbol

from recipes.archer.mathematics.exact import rebuilt

_INDICES = frozenset("jkmnl")  # beside them i is an index or a vector, not the imaginary unit


@dataclass(frozen=True)
class Unit:
    """What a number is a number of.

    Attributes:
        size: in the base units of `kind`; None for one that is not known, such as apples.
        kind: base units, each with its power.
        words: as it is written.
    """

    size: Fraction | None
    kind: frozenset[tuple[str, int]]
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scalar:
    """An expression; `digits` are the significant ones of the longest decimal in it, 0 without one."""

    value: Expr
    unit: Unit | None = None
    percent: bool = False
    digits: int = 0


@dataclass(frozen=True)
class Listed:
    """Values side by side; the brackets are none for a plain list, else of a set, a tuple or an interval."""

    brackets: str
    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Joined:
    """Sets joined; none at all are the empty set."""

    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Chain:
    """`signs` between `items`: a = b, 1 < x <= 2. `name` is what the first item is called, if it only is a name."""

    signs: tuple[str, ...]
    items: "tuple[Value, ...]"
    name: str | None = None


@dataclass(frozen=True)
class Matrix:
    """Rows of values; `brackets` is the environment."""

    brackets: str
    rows: "tuple[tuple[Value, ...], ...]"


@dataclass(frozen=True)
class Words:
    """Plain text, its upper and lower case made one."""

    text: str


Value = Scalar | Listed | Joined | Chain | Matrix | Words
EMPTY = Joined(())
LOWEST, HIGHEST = Scalar(-sympy.oo), Scalar(sympy.oo)
REALS = Listed("()", (LOWEST, HIGHEST))


def are_scalars(items: Sequence[Value]) -> TypeGuard[Sequence[Scalar]]:
    """Whether each of them is a quantity."""
    return all(isinstance(item, Scalar) for item in items)


def substituted(value: Value, replacements: Mapping[Symbol, Expr]) -> Value:
    """`value` with its variables replaced."""
    match value:
        case Scalar():
            return replace(value, value=rebuilt(value.value, replacements))
        case Listed() | Joined() | Chain():
            return replace(value, items=tuple(substituted(item, replacements) for item in value.items))
        case Matrix():
            return replace(
                value, rows=tuple(tuple(substituted(cell, replacements) for cell in row) for row in value.rows)
            )
    return value


def symbols_of(value: Value) -> set[str]:
    """The names of the variables in it."""
    match value:
        case Scalar():
            return {symbol.name for symbol in value.value.free_symbols}
        case Listed() | Joined() | Chain():
            return set().union(*map(symbols_of, value.items))
        case Matrix():
            return set().union(*(symbols_of(cell) for row in value.rows for cell in row))
    return set()


def as_points(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """x=1, y=2 or x=2, y=1 as the points (1,2) and (2,1); other items as they are."""
    names = [item.name if isinstance(item, Chain) and item.signs == ("=",) else None for item in items]
    size = len(set(names))
    if None in names or size < 2 or len(names) == size or names != names[:size] * (len(names) // size):
        return items
    values = [item.items[1] for item in items if isinstance(item, Chain)]
    return tuple(Listed("()", tuple(values[n : n + size])) for n in range(0, len(values), size))


def in_common_letters(gold: Value, answer: Value) -> tuple[Value, Value]:
    """Both with i for the imaginary unit, but where j, k, l, m or n stand beside it; and one name for "any integer"."""
    names, others = symbols_of(gold), symbols_of(answer)
    if "i" in names | others and not (names | others) & _INDICES:
        unit = {Symbol("i"): sympy.I}
        gold, answer = substituted(gold, unit), substituted(answer, unit)
    only_gold, only_answer = names - others, others - names
    if only_gold == {"integer 0"} and len(only_answer) == 1:
        answer = substituted(answer, {Symbol(only_answer.pop()): Symbol("integer 0")})
    return gold, answer
