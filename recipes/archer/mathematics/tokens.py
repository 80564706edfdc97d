"""Tokens: one sign or a group of them, and what is done with rows of them."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from recipes.archer.mathematics import vocabulary

APPLIED = frozenset("fghFGH")
_NO_ARGUMENT = (")", "]", r"\}", ",", ";", "/", "*", "=", "<", ">", "<=", ">=", "approx", ".", "newline", "&")
_SOMETIMES_APPLIED = frozenset("PQTSENpqC")  # to a single thing


class Unreadable(ValueError):
    """Text that is not read whole; nothing is made of its pieces."""


class Token(NamedTuple):
    """One sign, or a group of them.

    Attributes:
        kind: number, name (a variable or constant), function, text, operator, space, group, frac, sqrt,
            binom, matrix.
        text: which; of a group its two brackets, of a matrix its environment.
        parts: token sequences inside: of a matrix its rows, of cells.
    """

    kind: str
    text: str
    parts: tuple[Any, ...] = ()


def split(tokens: Sequence[Token], *operators: str) -> list[list[Token]]:
    """`tokens` cut at each of `operators`."""
    pieces: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "operator" and token.text in operators:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


def _opens(before: Token | None) -> bool:
    """Whether a | begins an absolute value; after an operand in a set it stands for "such that"."""
    return before is None or before.kind in ("operator", "function") and before.text not in ("!", "%", "'")


def _timed(flat: Sequence[Token]) -> Sequence[Token]:
    """`flat` with `min` and `sec` as minutes and seconds, where they follow a number and are applied to nothing."""
    if not any(token.text in vocabulary.TIMES and token.kind == "function" for token in flat):
        return flat
    result = list(flat)
    for place in range(len(flat) - 1, -1, -1):  # from the end: in 5 min 30 sec the second one decides on the first
        token = flat[place]
        if token.kind == "function" and token.text in vocabulary.TIMES:
            before = next((t for t in reversed(flat[:place]) if t.kind != "space"), Token("", ""))
            rest = (t for t in itertools.islice(result, place + 1, None) if t.kind != "space")
            ahead = list(itertools.islice(rest, 3))
            if ahead[:1] == [Token("operator", "^")]:
                ahead = [] if len(ahead) == 2 else ahead
            counted = before.kind in ("number", "text", "frac") or before.text in ("/", ")", "}")
            following = ahead[1:2] if ahead and ahead[0].kind == "number" else ahead[:1]
            words = [t.kind == "text" and (len(t.text) > 1 or t.text in "sh") for t in following]
            if counted and (not ahead or words == [True] or ahead[0].text in _NO_ARGUMENT):
                result[place] = Token("text", token.text)
    return result


def nest(flat: Sequence[Token]) -> tuple[Token, ...]:
    """Flat tokens with each bracket and what it holds as one group; `[0,1)` is one, too."""
    stack: list[tuple[str, list[Token]]] = [("", [])]
    for token in _timed(flat):
        inside, tokens = stack[-1]
        sign = token.text if token.kind == "operator" else None
        before = next((earlier for earlier in reversed(tokens) if earlier.kind != "space"), None)
        if sign in vocabulary.OPEN:
            stack.append((sign, []))
        elif sign in vocabulary.CLOSE:
            if sign not in vocabulary.INTERVAL.get(inside, (vocabulary.OPEN.get(inside),)):
                raise Unreadable(f"{sign} closes nothing")
            stack.pop()
            stack[-1][1].append(Token("group", inside + sign, (tuple(tokens),)))
        elif sign == "|" and inside == "|" and not _opens(before):
            stack.pop()
            stack[-1][1].append(Token("group", "abs(abs)", (tuple(tokens),)))
        elif sign == "|" and inside == r"\{" and before is not None and not _opens(before):
            tokens.append(Token("operator", "mid"))
        elif sign == "|":
            stack.append(("|", []))
        else:
            tokens.append(token)
    if len(stack) > 1:
        raise Unreadable(f"{stack[-1][0]} is never closed")
    return tuple(stack[0][1])


def spelled(tokens: Iterable[Token]) -> str:
    """Tokens as one string, the same for all spellings of them."""
    pieces: list[str] = []
    before = ""
    for token in tokens:
        if token.kind == "space":
            continue
        if before == token.kind and token.kind in ("number", "text"):
            pieces.append(" ")
        before = token.kind
        pieces.append(token.text)
        pieces += [f"<{spelled(part) if _flat(part) else _spelled_row(part)}>" for part in token.parts]
    return "".join(pieces)


def _flat(part: Sequence[Any]) -> bool:
    return not part or isinstance(part[0], Token)


def _spelled_row(row: Iterable[Iterable[Token]]) -> str:
    return "&".join(spelled(cell) for cell in row)


def is_applied(name: str, argument: Token) -> bool:
    """Whether a name before a bracket is that of a function: in f(x), P(3) and P(A), not in x(x+1) and P(1+r)."""
    letter = name.rstrip("'").partition("_")[0]
    inside = argument.parts[0]
    listed = any(
        token.kind == "operator" and token.text in (",", "=", "mid", "cap", "cup", "<", ">") for token in inside
    )
    single = len([token for token in inside if token.kind != "space"]) == 1
    return letter in APPLIED or listed or single and (letter in _SOMETIMES_APPLIED)
