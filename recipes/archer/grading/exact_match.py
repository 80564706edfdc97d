"""The cheap comparison that comes before the judge: integers and fractions of integers. Pure."""

import re
from collections.abc import Iterable
from fractions import Fraction

# Up to 15 digits: far from every limit of the judge, and enough for contest answers.
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{([0-9]{1,15})\}\{([0-9]{1,15})\}")


def _rational(text: str) -> Fraction | None:
    if _INTEGER.fullmatch(text):
        return Fraction(int(text))
    match = _FRACTION.fullmatch(text)
    if match is None or int(match[3]) == 0:
        return None
    return Fraction(int(match[1] + match[2]), int(match[3]))


def exact_verdict(answer: str, forms: Iterable[str]) -> bool | None:
    """Whether `answer` certainly equals one of `forms`.

    True when both are plain rationals of equal value, False when the answer and every form are plain
    integers and none agrees, None when it takes the judge to tell. The judge compares rationals
    exactly too, so neither verdict can differ from its own.
    """
    value = _rational(answer)
    if value is None:
        return None
    forms = list(forms)
    if any(_rational(form) == value for form in forms):
        return True
    integers = all(_INTEGER.fullmatch(text) for text in (answer, *forms))
    return False if integers else None
