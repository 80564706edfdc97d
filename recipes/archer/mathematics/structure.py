"""Rows of tokens as lists, conditions and names, before anything in them is read."""

import re
from collections.abc import Sequence

from recipes.archer.mathematics.expressions import CONSTANTS
from recipes.archer.mathematics.tokens import Token, Unreadable, spelled, split
from recipes.archer.mathematics.vocabulary import words

_FILLERS = words("the answer final is are equals so thus therefore hence approximately about we have get")


def is_text(token: Token, *words: str) -> bool:
    return token.kind == "text" and (not words or token.text.lower() in words)


def stripped(tokens: Sequence[Token]) -> list[Token]:
    """Without blanks and a full stop around, fillers before (the answer is …), and braces that hold everything."""
    tokens = list(tokens)
    while tokens and (tokens[-1].kind == "space" or tokens[-1].text in (".", "newline")):
        tokens.pop()
    while tokens and (tokens[0].kind == "space" or len(tokens) > 1 and tokens[0].text in (":", "approx", "=")):
        tokens.pop(0)
    fillers = len(tokens) > 1 and is_text(tokens[0], *_FILLERS)
    if fillers and any(token.kind not in ("text", "space") for token in tokens):
        return stripped(tokens[1:])
    if len(tokens) == 1 and tokens[0].text == "{}":
        return stripped(tokens[0].parts[0])
    return tokens


def name_of(tokens: Sequence[Token]) -> str | None:
    """What the left side of an equation is called; None for one that is an expression.

    Names are a variable, words, f(x), sin x, an angle or a segment, |z| of a variable, a tuple of variables.
    """
    tokens = [token for token in tokens if token.kind != "space"]
    text = spelled(tokens)
    if not tokens:
        return None
    if all(token.kind == "text" for token in tokens):
        return text.casefold()
    if re.fullmatch(r"(angle|triangle|m)*[A-Z]{2,}", text) or re.fullmatch(r"m?angle[A-Z0-9]", text):
        return text
    first, rest = tokens[0], tokens[1:]
    if len(tokens) == 1 and first.kind == "group" and first.text in ("()", "abs(abs)", "[]"):
        parts = [name_of(part) for part in split(first.parts[0], ",")]
        return text if all(parts) and text else None
    if len(tokens) == 1 and first.kind == "frac":
        return text if re.fullmatch(r"frac<(d\w+><d\w+|[A-Z]{2,}><[A-Z]{2,})>", text) else None
    if first.kind == "function" and first.text not in (
        "sum",
        "prod",
        "int",
        "sqrt",
        "cbrt",
        "fourthroot",
        "gcd",
        "lcm",
        "max",
        "min",
    ):
        return text if re.search(r"[A-Za-zα-ω]", text.removeprefix(first.text)) and not _has_sum(rest) else None
    if first.kind != "name" or first.text in CONSTANTS:
        return None
    marks = "".join("g" if t.text == "()" else t.text if t.text in ("'", "_", "^") else "x" for t in rest)
    if re.fullmatch(r"('|_x|_g)*(\^x)?g?", marks) and ("^" not in marks or marks.endswith("g")):
        return text
    return None


def _has_sum(tokens: Sequence[Token]) -> bool:
    return any(token.kind == "operator" and token.text in ("+", "-", "*", "/") for token in tokens)


def pieces_of(tokens: Sequence[Token]) -> tuple[list[list[Token]], bool]:
    """A list cut at its separators, and whether one of them is "or".

    Raises:
        Unreadable: for an empty place in the list.
    """
    pieces: list[list[Token]] = [[]]
    alternatives = False
    between = ""
    for token in tokens:
        sign = token.text.lower() if token.kind in ("operator", "text") else ""
        word = sign in ("and", "or") or sign in ("where", "for") and token.kind == "text"
        if token.kind == "operator" and sign in (",", ";", "newline") or word:
            alternatives |= sign == "or"
            empty = all(t.kind == "space" for t in pieces[-1])
            if empty and not (word and between):
                raise Unreadable("an empty place in a list")
            if not empty:
                pieces.append([])
            if sign in ("where", "for"):
                pieces[-1].append(token)
            between = sign
        else:
            pieces[-1].append(token)
    if len(pieces) > 1 and all(token.kind == "space" for token in pieces[-1]):
        raise Unreadable("an empty place in a list")
    return pieces, alternatives


def with_remarks(tokens: list[Token]) -> list[Token]:
    """`(mod 4)` as `\\pmod 4`."""
    last = tokens[-1]
    if last.text == "()" and len(tokens) > 1 and ranges_over_integers(last.parts[0]):
        return [*tokens[:-1], Token("operator", ","), *last.parts[0]]
    if last.text == "()" and (inside := stripped(last.parts[0])) and inside[0].text == "mod":
        return [*tokens[:-1], Token("operator", "mod"), *inside[1:]]
    return [Token("operator", "mod") if is_text(token, "mod") else token for token in tokens]


def is_vacuous(condition: Sequence[Token], stated: bool) -> bool:
    """Whether a condition says no more than that something holds "for all x"."""
    variable, *over = split([token for token in condition if token.kind != "space"], "in")
    everything = not over or spelled(over[0]) in ("mathbb(R)", "mathbb(C)", "mathbb(Q)")
    return (stated or bool(over)) and everything and len(variable) <= 1 and all(t.kind == "name" for t in variable)


def ranges_over_integers(tokens: Sequence[Token]) -> str | None:
    """The variable, in `k \\in \\mathbb{Z}`."""
    variable, *over = split([token for token in tokens if token.kind != "space"], "in")
    if len(variable) == 1 and variable[0].kind in ("name", "text") and len(over) == 1:
        return variable[0].text if spelled(over[0]) in ("mathbb(Z)", "integers", "the integers") else None
    return None
