"""Values as sets of real numbers: intervals, inequalities, unions."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sympy import Symbol

from recipes.archer.mathematics.equality import magnitude
from recipes.archer.mathematics.exact import Unknown
from recipes.archer.mathematics.values import HIGHEST, LOWEST, REALS, Chain, Joined, Listed, Scalar, Value, are_scalars

ORDERS = ("<", ">", "<=", ">=")
Piece = tuple[Scalar, bool, Scalar, bool]
_Item = TypeVar("_Item")


def real_set(value: Value) -> tuple[str | None, list[Piece]] | None:
    """A set of reals as the variable it restricts, if it has one, and its intervals with whether their ends count."""
    match value:
        case Listed("()" | "[]" | "(]" | "[)", (Scalar() as low, Scalar() as high)):
            return None, [(low, value.brackets[0] == "[", high, value.brackets[1] == "]")]
        case Listed(r"\{\}", items) if are_scalars(items):
            return None, [(item, True, item, True) for item in items]
        case Listed("setminus", (whole, Listed(r"\{\}", points))) if whole == REALS and are_scalars(points):
            return None, _without(points)
        case Listed("", items) if all(isinstance(item, Chain) and set(item.signs) <= set(ORDERS) for item in items):
            return _both(items)
        case Joined(items):
            parts = [part for part in map(real_set, items) if part is not None]
            if len(parts) < len(items):
                return None
            names = {name for name, _ in parts if name is not None}
            return (
                (min(names, default=None), [piece for _, pieces in parts for piece in pieces])
                if len(names) < 2
                else None
            )
        case Chain(("in",), (_, inner), str(name)):
            found = real_set(inner)
            return None if found is None else (name, found[1])
        case Chain(("!=",), (_, Scalar() as point), str(name)):
            return name, _without((point,))
        case Chain(signs, items) if set(signs) <= {"<", "<="} or set(signs) <= {">", ">="}:
            return _solved(signs, items)
    return None


def _without(points: Sequence[Scalar]) -> list[Piece]:
    try:
        ends = [LOWEST, *sorted(points, key=lambda point: magnitude(point.value)), HIGHEST]
    except Unknown:
        return []
    return [(low, False, high, False) for low, high in zip(ends, ends[1:], strict=False)]


def _solved(signs: tuple[str, ...], items: tuple[Value, ...]) -> tuple[str | None, list[Piece]] | None:
    """An inequality that already says between what its variable lies."""
    if signs[0].startswith(">"):
        signs, items = tuple(sign.replace(">", "<") for sign in reversed(signs)), tuple(reversed(items))
    if not are_scalars(items):
        return None
    variable = [n for n, item in enumerate(items) if isinstance(item.value, Symbol)]
    others = [item for n, item in enumerate(items) if n not in variable]
    if len(variable) != 1 or len(items) > 3 or len(items) == 3 and variable != [1]:
        return None
    name = items[variable[0]].value.name
    if any(Symbol(name) in item.value.free_symbols for item in others):
        return None
    closed = [sign == "<=" for sign in signs]
    if len(items) == 3:
        return name, [(items[0], closed[0], items[2], closed[1])]
    low, high = (LOWEST, items[1]) if variable == [0] else (items[0], HIGHEST)
    return name, [(low, variable == [1] and closed[0], high, variable == [0] and closed[0])]


def _both(items: tuple[Value, ...]) -> tuple[str | None, list[Piece]] | None:
    """x > 1, x < 2: what satisfies both, or where nothing does, what satisfies one."""
    parts = [part for part in map(real_set, items) if part is not None and len(part[1]) == 1]
    if len(items) != 2 or len(parts) != 2 or parts[0][0] != parts[1][0]:
        return None
    lower = next((part[1][0] for part in parts if part[1][0][2] == HIGHEST), None)
    upper = next((part[1][0] for part in parts if part[1][0][0] == LOWEST), None)
    if lower is None or upper is None:
        return None
    try:
        if magnitude(lower[0].value) < magnitude(upper[2].value):
            return parts[0][0], [(lower[0], lower[1], upper[2], upper[3])]
    except Unknown:
        return None
    return parts[0][0], [part[1][0] for part in parts]


def matched(gold: Sequence[_Item], answer: Sequence[_Item], alike: Callable[[_Item, _Item], bool]) -> bool:
    """Whether the items can be paired."""
    left = list(answer)
    if len(left) != len(gold):
        return False
    for item in gold:
        place = next((n for n, other in enumerate(left) if alike(item, other)), None)
        if place is None:
            return False
        del left[place]
    return True
