"""Tokens to what they mean: quantities, lists, intervals, relations, matrices, words.

Nothing is read in part: where something is left over, the whole is unreadable.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy
from sympy import Expr, Symbol

from recipes.archer.mathematics.expressions import Speller
from recipes.archer.mathematics.latex import tokenize
from recipes.archer.mathematics.numerals import both_signs, grouped
from recipes.archer.mathematics.sets import ORDERS
from recipes.archer.mathematics.structure import (
    is_text,
    is_vacuous,
    name_of,
    pieces_of,
    ranges_over_integers,
    stripped,
    with_remarks,
)
from recipes.archer.mathematics.tokens import Token, Unreadable, spelled, split
from recipes.archer.mathematics.units import STATED, numeral_in_a_base, scaled, starts_unit, total, unit_of
from recipes.archer.mathematics.values import (
    EMPTY,
    REALS,
    Chain,
    Joined,
    Listed,
    Matrix,
    Scalar,
    Value,
    Words,
    as_points,
    substituted,
)
from recipes.archer.mathematics.vocabulary import FUNCTIONS

# Readings that take more for granted: 100,200 is two numbers, and 3,14 is one.
LISTED, DECIMAL_COMMA = "listed", "decimal comma"


_PHRASES: dict[str, Value] = {
    **dict.fromkeys(("no solution", "no solutions", "no real solution", "no real solutions", "empty set"), EMPTY),
    **dict.fromkeys(("all real numbers", "all reals", "all real values", "real numbers"), REALS),
    "dne": Words("does not exist"), "percent": Words("percent"),
}  # fmt: skip
_NAMED: dict[str, Value] = {
    "mathbb(R)": REALS, "emptyset": EMPTY, "infty": Scalar(sympy.oo), "+infty": Scalar(sympy.oo),
    "-infty": Scalar(-sympy.oo), "...": Words("..."),
}  # fmt: skip
_RELATIONS = ("=", "<", ">", "<=", ">=", "!=", "approx", "in", "equiv", "perp", "parallel", "cong", "sim")
_PERCENT = re.compile(r"%|(percentage|per ?cent|pct)\b", re.IGNORECASE)
_FOR_ALL = ("where", "for", "with", "any", "all", "every", "integer", "integers", "if", "real", "number", "numbers")


def read(text: str, options: frozenset[str] = frozenset()) -> Value:
    """What `text` means.

    Args:
        text: LaTeX or what stands in for it, cleaned.
        options: readings that take more for granted: `LISTED`, `DECIMAL_COMMA`, `units.STATED`, and
            those of `latex.tokenize`.

    Raises:
        Unreadable: for what is not read whole.
    """
    if DECIMAL_COMMA in options:
        text = text.replace(",", "{,}")
    return _Reader(options).value(tokenize(text, options))


@dataclass(frozen=True)
class _Reader:
    options: frozenset[str]

    def value(self, tokens: Sequence[Token], in_brackets: bool = False) -> Value:
        tokens = stripped(tokens)
        if not tokens:
            raise Unreadable("there is nothing")
        tokens = grouped(with_remarks(tokens), commas=not in_brackets and LISTED not in self.options)
        pieces, alternatives = pieces_of(tokens)
        if len(pieces) > 1:
            return self._listed(pieces, alternatives)
        if len(conclusions := split(tokens, "implies")) > 1:
            return self.value(conclusions[-1])
        if words := _words(tokens):
            return words
        if (text := spelled(tokens)) in _NAMED:
            return _NAMED[text]
        if any(token.kind == "operator" and token.text in _RELATIONS for token in tokens):
            relation, *modulus = split(tokens, "mod")
            chain = self._chain(relation)
            return Listed("mod", (chain, *map(self.value, modulus))) if modulus else chain
        if time := re.fullmatch(r"([0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)([ap]\.?m)?", spelled(tokens).casefold()):
            half = [Token("text", time[3].replace(".", ""))] if time[3] else []
            parts = [part[:1] for part in split(tokens, ":")]
            return Listed("time", tuple(map(self.value, [*parts[:-1], parts[-1] + half])))
        for sign in ("cup", "setminus", "mod", ":"):
            if len(parts := split(tokens, sign)) > 1:
                values = tuple(self.value(part) for part in parts)
                return Joined(values) if sign == "cup" else Listed(sign, values)
        if (
            len(tokens) == 2
            and tokens[1].text == "()"
            and re.fullmatch("[A-Z]", tokens[0].text)
            and "," in spelled(tokens)
        ):
            return self.value(tokens[1:])  # a point with its name
        if len(tokens) == 1 and tokens[0].kind == "group" and (value := self._bracket(tokens[0])) is not None:
            return value
        if any(token.kind == "matrix" and token.text != "vmatrix" for token in tokens):
            return self._matrix(tokens)
        signs = both_signs(tokens)
        if len(signs) > 1:
            return Listed("", tuple(self._quantity(each) for each in signs))
        return self._quantity(tokens)

    def _listed(self, pieces: list[list[Token]], alternatives: bool) -> Value:
        items: list[Value] = []
        conditions: list[str] = []
        for piece in pieces:
            condition = stripped(piece)
            while condition and is_text(condition[0], *_FOR_ALL):
                condition = stripped(condition[1:])
            if name := ranges_over_integers(condition):
                conditions.append(name)
            elif not is_vacuous(condition, stated=len(condition) < len(stripped(piece))):
                items += _each(self.value(piece, in_brackets=True), piece)
        if conditions:
            integer = {Symbol(name): Symbol(f"integer {n}") for n, name in enumerate(conditions)}
            items = [substituted(item, integer) for item in items]
        if not items:
            raise Unreadable("conditions of nothing")
        if len(items) == 1:
            return items[0]
        if not alternatives and (one := total(items)):
            return one
        orders = [isinstance(item, Chain) and set(item.signs) <= {*ORDERS, "in"} for item in items]
        return Joined(tuple(items)) if alternatives and all(orders) else Listed("", as_points(tuple(items)))

    def _chain(self, tokens: list[Token]) -> Chain | Value:
        signs = tuple(t.text for t in tokens if t.kind == "operator" and t.text in _RELATIONS)
        parts = split(tokens, *_RELATIONS)
        name = name_of(parts[0])
        first = Words(name) if name is not None else self.value(parts[0], in_brackets=True)
        if name is not None and len(parts) > 1:
            try:
                first = self.value(parts[0], in_brackets=True)
            except Unreadable:
                first = Words(name)
        return Chain(signs, (first, *(self.value(part) for part in parts[1:])), name)

    def _bracket(self, token: Token) -> Value | None:
        """A tuple, a set, an interval, a matrix in brackets; None for an expression in them."""
        inside = stripped(token.parts[0])
        if token.text == r"\{\}":
            if not inside:
                return EMPTY
            for sign in ("mid", ":"):
                variable, *condition = split(inside, sign)
                if condition:
                    return self._builder(variable, condition)
        elif token.text[-1:] not in ")]" or len(token.text) != 2:
            return None
        pieces, _ = pieces_of(inside)
        if len(pieces) > 1 or token.text == r"\{\}":
            if len(pieces) == 1:
                value = self.value(pieces[0], in_brackets=True)
                if isinstance(value, Listed) and value.brackets == "":
                    return replace(value, brackets=token.text)
                return Listed(token.text, (value,))
            values = (_each(self.value(piece, in_brackets=True), piece) for piece in pieces)
            return Listed(token.text, tuple(itertools.chain.from_iterable(values)))
        simple = any(t.kind in ("matrix", "text") or t.text in (*_RELATIONS, "cup") for t in inside)
        return self.value(inside) if simple else None

    def _builder(self, variable: list[Token], condition: list[list[Token]]) -> Value:
        if len(condition) > 1:
            raise Unreadable("a set with two conditions")
        over = split(variable, "in")
        if name_of(over[0]) is None:
            value = self._listed([variable, condition[0]], False)
            return Listed(r"\{\}", (value,))
        return Joined((self.value(condition[0]),))

    def _matrix(self, tokens: list[Token]) -> Matrix:
        places = [n for n, token in enumerate(tokens) if token.kind == "matrix"]
        if len(places) > 1 or places[0] != len(tokens) - 1:
            raise Unreadable("matrices in an expression")
        matrix = tokens[places[0]]
        rows = tuple(tuple(self.value(cell, in_brackets=True) for cell in row) for row in matrix.parts)
        factor = [token for token in tokens[: places[0]] if token.text != "*"]
        if stripped(factor):
            scale = self._expression(factor if spelled(factor) != "-" else [*factor, Token("number", "1")]).value
            rows = tuple(tuple(_times(scale, cell) for cell in row) for row in rows)
        return Matrix("vector" if matrix.text != "cases" else "cases", rows)

    def _expression(self, tokens: Sequence[Token]) -> Scalar:
        speller = Speller()
        value = speller.expression(tokens)
        return Scalar(value, digits=speller.digits)

    def _quantity(self, tokens: Sequence[Token]) -> Scalar:
        """An expression, with its unit or percent sign if there is one; 3 hours 20 minutes is one quantity."""
        tokens = stripped(tokens)
        while tokens and tokens[0].text in ("dollar", "euro", "pound") and tokens[0].kind == "operator":
            tokens = [*tokens[1:], tokens[0]]
        if len(tokens) > 1 and tokens[0].text in "+-" and tokens[1].text in ("dollar", "euro"):
            tokens = [tokens[0], *tokens[2:], tokens[1]]
        base = numeral_in_a_base(tokens)
        if base is not None:
            return base
        start = next((n for n, token in enumerate(tokens) if n and starts_unit(tokens, n, self.options)), None)
        if start is None:
            return self._expression(tokens)
        start, number = scaled(tokens, start, self._expression(tokens[:start]))
        if start == len(tokens):
            return number
        end = next(
            (n for n in range(start, len(tokens)) if tokens[n].kind == "number" and tokens[n - 1].text != "^"), None
        )
        unit_tokens = tokens[start + 1 : end] if tokens[start].text == "^" else tokens[start:end]
        stated = STATED in self.options
        if (percent := _PERCENT.match(spelled(unit_tokens))) and end is None:
            if percent.end() == len(spelled(unit_tokens)):
                return replace(number, percent=True)
            points = percent[0].lower() == "percentage"  # 5 percentage points are no 5%, but where they are the answer
            if (stated or not points) and (unit := unit_of(unit_tokens[1:], stated)):
                return replace(number, percent=True, unit=unit)
        unit = unit_of(unit_tokens, stated)
        if unit is None:
            raise Unreadable(f"{spelled(unit_tokens)!r} is not a unit")
        if end is not None:
            whole = total((replace(number, unit=unit), self._quantity(tokens[end:])))
            if whole is None:
                raise Unreadable("quantities that do not add up")
            return whole
        if number.value.free_symbols and unit.size is None:
            raise Unreadable("words after a variable")
        return replace(number, unit=unit)


def _times(scale: Expr, cell: Value) -> Scalar:
    if not isinstance(cell, Scalar):
        raise Unreadable("a multiple of what is not a matrix of numbers")
    return replace(cell, value=sympy.Mul(scale, cell.value, evaluate=False))


def _each(value: Value, tokens: Sequence[Token]) -> tuple[Value, ...]:
    """The two values of a plus-minus, or the one that anything else is."""
    if isinstance(value, Listed) and value.brackets == "" and any(token.text in ("pm", "mp") for token in tokens):
        return value.items
    return (value,)


def _words(tokens: Sequence[Token]) -> Value | None:
    """Plain text, when nothing else is there; numbers may stand in it after a word: June 20."""
    kept = [token for token in tokens if token.kind != "space"]
    if kept and kept[0].kind == "group" and kept[0].text == "()" and len(kept) == 1:
        return _words(kept[0].parts[0]) if all(t.kind in ("text", "space") for t in kept[0].parts[0]) else None
    plain = [t for t in kept if t.kind in ("text", "name", "number") or t.text in ("-", "'", ".", ":")]
    if not kept or kept[0].kind != "text" or len(plain) < len(kept) or len(kept) == 1 and kept[0].text in FUNCTIONS:
        return None
    if len(kept) > 1 and len(kept[0].text) == 1 and any(token.kind == "operator" for token in kept):
        return None
    text = " ".join(token.text for token in kept).casefold()
    return _PHRASES.get(text.removeprefix("the ").removeprefix("there is ").removeprefix("there are "), Words(text))
