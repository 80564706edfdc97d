"""Which answers are refused before any parser sees them. Pure."""

import re

# The longest answer of MATH-500 has 159 characters, the deepest nests 6 brackets.
MAX_CHARS = 1_000
MAX_NESTING = 24
MAX_DIGITS = 200  # in one number
MAX_EXPONENT = 10_000  # written as a literal
MAX_FACTORIAL = 5_000  # argument written as a literal
MAX_TOWER = 2  # powers in the exponent of a power: a^{b^{c}} is 2

_DIGITS = re.compile(rf"[0-9](?:[0-9]|[,_ ](?=[0-9])){{{MAX_DIGITS},}}")
_EXPONENT = re.compile(rf"(?:\^|\*\*)[\s{{(+-]*([0-9]{{1,{MAX_DIGITS}}})")
_FACTORIAL = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})[\s)}}\]]*!")
_NESTED_FACTORIAL = re.compile(r"![\s)}\]]*!")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\^|\*\*|[{}()\[\]]|[0-9.,]+|\S", re.DOTALL)


def _nesting_and_tower(text: str) -> tuple[int, int]:
    r"""The deepest bracket level, and the most powers that stand in each other's exponents.

    Escaped brackets do not count: what is in `\{…\}` counts where it stands.
    """
    deepest = tower = 0
    carets = 0  # powers whose exponent the current place is part of
    after_atom = False  # the exponent just read would be a base if another ^ followed: 2^3^4
    outside: list[tuple[int, int]] = []  # per open bracket: carets around it, and inside it
    for token in _TOKEN.findall(text):
        base = outside[-1][1] if outside else 0
        if token in ("^", "**"):
            carets += 1
            tower = max(tower, carets)
            after_atom = False
            continue
        if after_atom:
            carets = base
        after_atom = carets > base
        if token in ("{", "(", "["):
            outside.append((carets, carets))
            deepest = max(deepest, len(outside))
            after_atom = False
        elif token in ("}", ")", "]") and outside:
            carets = outside.pop()[0]
            after_atom = carets > (outside[-1][1] if outside else 0)
    return deepest, tower


def refusal(text: str) -> str | None:
    """Why `text` is not shown to the judge, or None when it may be.

    These limits save time; what passes them and still runs away is killed at its deadline.
    Linear in `len(text)`, and constant beyond `MAX_CHARS`.
    """
    if len(text) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    if _DIGITS.search(text):
        return f"a number of more than {MAX_DIGITS} digits"
    nesting, tower = _nesting_and_tower(text)
    if nesting > MAX_NESTING:
        return f"brackets nested deeper than {MAX_NESTING}"
    if tower > MAX_TOWER:
        return f"a tower of more than {MAX_TOWER} powers"
    if any(int(exponent) > MAX_EXPONENT for exponent in _EXPONENT.findall(text)):
        return f"an exponent above {MAX_EXPONENT}"
    if _NESTED_FACTORIAL.search(text):
        return "a factorial of a factorial"
    if any(int(argument) > MAX_FACTORIAL for argument in _FACTORIAL.findall(text)):
        return f"the factorial of a number above {MAX_FACTORIAL}"
    return None


_COSTLY = re.compile(r"\\(?:sum|prod|int|lim)|\b(?:sum|prod|int)\b|![^=]|!$|\\d?binom|(?:\^|\*\*)[\s{(-]*[0-9]{3}")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|log|ln|sqrt|arc\w+)|\^")


def costliness(text: str) -> tuple[int, int]:
    """How much a check of `text` may cost, to be compared: the kind of what is in it, then its length."""
    kind = 2 if _COSTLY.search(text) else 1 if _FUNCTION.search(text) else 0
    return kind, len(text)
