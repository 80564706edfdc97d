"""Numbers written in groups of digits, mixed numbers, and plus-minus: tokens to tokens."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from recipes.archer.mathematics.tokens import Token, Unreadable, spelled

_MAX_SIGNS = 3


def _is_proper(above: str, below: str) -> bool:
    return above.isdigit() and below.isdigit() and 0 < int(above) < int(below)


def grouped(tokens: Sequence[Token], commas: bool = False) -> list[Token]:
    """Numbers whose digits stand in groups of three as one number each.

    `10 000`, `10{,}000` and `10,\\!000` always, `10,000` with `commas`; `3{,}14` is a decimal comma.
    """
    result: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        joins = token.kind == "number" and re.fullmatch(r"[1-9][0-9]{0,2}", token.text)
        while token.kind == "number" and position < len(tokens):
            between = list(
                itertools.takewhile(lambda t: t.kind == "space" or t.text in (",", "{,}"), tokens[position:])
            )
            after = tokens[position + len(between)] if position + len(between) < len(tokens) else Token("", "")
            marks = "".join(t.text for t in between)
            wide = marks.strip() in ("", "{,}")
            thousand = re.fullmatch(r"[0-9]{3}(\.[0-9]+)?", after.text) and joins and "." not in token.text
            if after.kind != "number" or not between:
                break
            if thousand and (wide or marks.startswith(",!") or (commas and marks == ",")):
                token = Token("number", token.text + after.text)
            elif marks.strip() == "{,}" and token.text.isdigit() and after.text.isdigit():
                token = Token("number", f"{token.text}.{after.text}")
            else:
                break
            position += len(between) + 1
        result.append(token)
    return result


def mixed(tokens: Sequence[Token]) -> list[Token]:
    """Mixed numbers, `1\\frac{1}{2}` and `1 1/2`, in brackets as the sums they are.

    Only an integer before a proper fraction of integers makes one: `2\\frac{3}{2}` is a product.
    """
    result: list[Token] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        result.append(token)
        skip = 1 if rest and rest[0].kind == "space" else 0
        if token.kind != "number" or not token.text.isdigit():
            continue
        ahead = rest[skip : skip + 3]
        fraction = None
        if ahead and ahead[0].kind == "frac" and _is_proper(*map(spelled, ahead[0].parts)):
            fraction, used = ahead[0], 1
        elif skip and len(ahead) == 3 and ahead[1].text == "/" and _is_proper(ahead[0].text, ahead[2].text):
            fraction, used = Token("frac", "frac", ((ahead[0],), (ahead[2],))), 3
        if fraction is not None:
            del rest[: skip + used]
            result[-1] = Token("group", "{}", ((token, Token("operator", "+"), fraction),))
    return result


def both_signs(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """`tokens` with each plus-minus taken both ways; minus-plus is the opposite of them all.

    Raises:
        Unreadable: for more than three.
    """
    text = spelled(tokens)
    if not re.search(r"pm|mp", text):
        return [tuple(tokens)]
    count = sum(1 for token in _all(tokens) if token == Token("operator", "pm"))
    if count > _MAX_SIGNS:
        raise Unreadable(f"more than {_MAX_SIGNS} plus-minus signs")
    together = any(token == Token("operator", "mp") for token in _all(tokens))
    choices = [("+",) * count, ("-",) * count] if together else itertools.product("+-", repeat=count)
    return [_with_signs(tokens, iter(choice), choice[:1]) for choice in choices if choice]


def _all(tokens: Sequence[Any]) -> Iterator[Token]:
    for token in tokens:
        if isinstance(token, Token):
            yield token
            for part in token.parts:
                yield from _all(part)
        else:
            yield from _all(token)


def _with_signs(tokens: Sequence[Any], signs: Iterator[str], first: tuple[str, ...]) -> tuple[Any, ...]:
    result: list[Any] = []
    for token in tokens:
        if not isinstance(token, Token):
            result.append(_with_signs(token, signs, first))
        elif token.kind == "operator" and token.text == "pm":
            result.append(Token("operator", next(signs)))
        elif token.kind == "operator" and token.text == "mp":
            result.append(Token("operator", "-" if first == ("+",) else "+"))
        else:
            result.append(token._replace(parts=tuple(_with_signs(part, signs, first) for part in token.parts)))
    return tuple(result)
