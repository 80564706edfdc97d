"""Whether the words of a sentence leave a number in it what it is: not "half of 5", "5 less" or "5 unless it rains"."""

from collections.abc import Sequence

from recipes.archer.mathematics.vocabulary import ALTERING, PARTS, scale_of, words

# After an expression: at once, or anywhere in its sentence.
_NEXT = (ALTERING - words("is are was were be for where with only true yes")) | words(
    "to and by from per as point root ths"
)
_LATER = words(
    "unless if when whenever except excluding without otherwise provided assuming or nor not no never but "
    "perhaps maybe less more fewer than minus plus times squared cubed factorial divided multiplied modulo mod "
    "wrong incorrect false instead cannot rather most least"
)
_COMPARED = words("more less fewer")
# Before an expression: since the last of _STATING, or anywhere in its sentence.
_STATING = words(
    "is are was were be been equals equal gives give gave get gets got obtain obtains yields yield has have had "
    "makes make find finds found therefore thus hence so then total"
)
_NEAR = PARTS | words(
    "when where twice thrice double triple square cube squared cubed root roots sqrt log logarithm power factorial sum "
    "difference product quotient ratio mod modulo minus plus times negative multiple multiples divisor divisors "
    "factor factors inverse reciprocal absolute percent less fewer more greater larger smaller bigger least most "
    "over under above below beyond between before except excluding besides than per divided divide multiplied "
    "multiply added add subtracted subtract increased decreased reduced raised exponent base or nor versus vs "
    "through until till from by within almost nearly no point step case "
    "part equation theorem lemma figure table problem question exercise section chapter option choice page line "
    "item method approach example halves"
)
_EARLIER = words("not never neither cannot without unless except otherwise wrong incorrect false instead rather")
_CONDITIONS = words("if unless whenever")
_GOES_ON = words("we this so hence thus that therefore it")  # after "and", a clause and no part of a number
_LEADING_TO = words(
    "equal equals equivalent simplifies simplify evaluates evaluate amounts amount comes come sums sum adds add "
    "reduces reduce leads lead corresponds converges tends rounds out"
)
# Chinese for ten thousand, hundred million, parts and the like, and for "not".
_CHINESE_SCALE, _CHINESE_NOT = frozenset("十百千万亿萬億兆分倍割折半余多以次乘加减除"), frozenset("不非没無无未")


def is_stated(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the words and signs of a sentence before and after an expression leave it what it is."""
    earlier = [text.lower() for text in before]
    later = [text.lower() for text in after if text[0].isalpha()]
    return _is_left_by(earlier) and _is_left_as_it_was(later, adjacent=bool(later) and _first_of(after, later[0]))


def _first_of(after: Sequence[str], word: str) -> bool:
    return after[0].lower() in (word, "(")


def _is_left_as_it_was(later: Sequence[str], adjacent: bool) -> bool:
    """By the words after it, the first of which may stand right beside it."""
    if later[:1] and later[0] in _COMPARED and later[1:2] and later[1] != "than":  # 5 more apples than before
        later = [word for word in later if word not in _COMPARED and word != "than"]
    if later != ["times"] and any(word in _LATER or word.endswith("n't") for word in later):
        return False
    goes_on = later[:1] == ["and"] and bool(_GOES_ON.intersection(later[1:2]))
    if adjacent and later and later[0] in _NEXT and not goes_on:
        return False
    return not (later and later[0][0] in _CHINESE_SCALE) and not any(_CHINESE_NOT & set(word) for word in later)


def _is_left_by(earlier: Sequence[str]) -> bool:
    """By what stands before it."""
    comma = max((place for place, text in enumerate(earlier) if text in (",", ";")), default=-1)
    own = earlier[comma + 1 :]
    # "since 7 is not prime, the answer is 5" denies another clause
    denied = own if _STATING.intersection(own) else earlier
    if any(word in _EARLIER or word.endswith("n't") for word in denied):
        return False
    if any(_CHINESE_NOT & set(word) for word in earlier):
        return False
    near, clause = True, True
    for word in reversed(earlier):
        if word in (",", ";"):
            clause = False
        near = near and word not in (",", ";", ":", "=") and word not in _STATING
        if near and (word in _NEAR or scale_of(word)) or clause and word in _CONDITIONS:
            return False
    spoken = ["", "", *(word for word in earlier if word not in ("the", "a", "an"))]
    if spoken[-1] == "to":
        return spoken[-2] in _LEADING_TO or spoken[-2] == "up" and spoken[-3] in ("add", "adds")
    if spoken[-1] == "of":
        return spoken[-2].isalpha()  # and not 10% of 5
    return spoken[-1] not in ("and", "but")
