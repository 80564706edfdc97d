"""Whether the words of a sentence leave a number in it what it is: not "half of 5", "5 less" or "5 unless it rains"."""

from collections.abc import Sequence

from recipes.archer.mathematics.vocabulary import ALTERING, PARTS, scale_of, words

# After an expression: at once, or anywhere in its sentence.
_NEXT = (ALTERING - words("is are was were be for where with only true yes and than quarters")) | words(
    "point root ths"
)
_BETWEEN = words("to and by from per as")  # two numbers, or a number and a part
_LATER = words(
    "unless if when whenever except excluding otherwise provided assuming or nor not no never but "
    "perhaps maybe less more fewer power minus plus times squared cubed factorial divided multiplied modulo mod "
    "wrong incorrect false instead cannot rather most least"
)
_PARTS = PARTS | words("cent cents percent mille power long far soon many much")
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
_NEGATIONS = words("not never without except cannot")
_EARLIER = words("none not never neither cannot without unless except otherwise wrong incorrect false instead rather")
_OPINIONS = words(
    "all any every true case correct think believe possible likely sure clear mean so right"
)  # it is not true that
_CONDITIONS = words("if unless whenever")
_LEADING_TO = words(
    "equal equals equivalent simplifies simplify evaluates evaluate amounts amount comes come sums sum adds add "
    "reduces reduce leads lead corresponds converges tends rounds out"
)
# Chinese for ten thousand, hundred million, parts and the like, and for "not".
_CHINESE_SCALE, _CHINESE_NOT = frozenset("十百千万亿萬億兆分倍割折半余多以次乘加减除"), frozenset("不非没無无未")


def is_stated(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the words and signs of a sentence before and after an expression leave it what it is."""
    return _is_left_by([text.lower() for text in before]) and _is_left_as_it_was([text.lower() for text in after])


def _is_left_as_it_was(after: Sequence[str]) -> bool:
    """By what stands after it."""
    later = [text for text in after if text[0].isalpha()]
    if not later:
        return True
    if after[0] in _COMPARED and after[1:2] and after[1][0].isalpha() and after[1] not in ("than", "as"):
        later = [word for word in later if word not in _COMPARED]  # 5 more apples than before
    elif after[0] in (later[0], "(") and (later[0] in _NEXT or later[0] in _BETWEEN and _is_part(after[1:])):
        return False
    if later[:2] == ["quarters", "of"]:  # and otherwise coins
        return False
    if later != ["times"] and any(word in _LATER or word.endswith("n't") for word in later):
        return False
    return later[0][0] not in _CHINESE_SCALE and not any(_CHINESE_NOT & set(word) for word in later)


def _is_part(after: Sequence[str]) -> bool:
    """Whether what comes next is a number, a variable or a part of one: 5 to 6, 5 and a half, 5 per cent."""
    if not after or not after[0][0].isalpha():
        return True
    if len(after[0]) == 1 and after[0] not in ("a", "i"):
        return True
    return any(word in _PARTS or scale_of(word) for word in after[:3])


def _is_left_by(earlier: Sequence[str]) -> bool:
    """By what stands before it."""
    if "if and only if" in " ".join(earlier):
        earlier = " ".join(earlier).partition("if and only if")[2].split()
    if _is_denied(earlier) or any(_CHINESE_NOT & set(word) for word in earlier):
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


def _is_denied(earlier: Sequence[str]) -> bool:
    """Whether a "not" before it is about it, and not about another clause or a part of the question.

    "Since 7 is not prime, the answer is 5" and "the integers that are not even are 5" state it; "it is not 5" and
    "it is not true that it is 5" do not.
    """
    comma = max((place for place, text in enumerate(earlier) if text in (",", ";")), default=-1)
    own = earlier[comma + 1 :]
    denied = own if _STATING.intersection(own) else earlier
    stated = bool(denied) and denied[-1] in _STATING
    for place, word in enumerate(denied):
        if word in _EARLIER or word.endswith("n't"):
            about = denied[place + 1 : place + 4]
            if not stated or word in _EARLIER - _NEGATIONS or not about[:-1] or _OPINIONS.intersection(about):
                return True
    return False
