"""Answers without a box: an expression is taken whole or not at all."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from recipes.archer.grading.grader import GradingPool
from recipes.archer.grading.unboxed import unboxed
from recipes.archer.text.signs import in_latex


@pytest.fixture(scope="module")
def pool():
    with GradingPool(1, 5.0, answer_format="any") as pool:
        yield pool


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is −7", "-7"), ("so it is –7.", "-7"), ("so √5", r"\sqrt{5}"), ("it is 3!", "3!"),
        ("thus 10−5", "10-5"), ("so 2^10", "2^10"), ("so half of 5", None), (r"so \sqrt 5", r"\sqrt 5"),
        ("so log 5", "log 5"), ("so 5 unless it rains", None), ("so 5 less", None), ("so 5 squared", "5 squared"),
        ("so 5 percent less", None), ("so 5 percent", "5 percent"), ("it is not 42", None),
        ("I do not think it is 5", None), ("It isn't 5", None), ("it cannot be 5", None), ("5 is wrong", None),
        ("Answer: −7", "-7"), ("Answer: 3!", "3!"), ("Answer: half of 5", "half of 5"),
        ("Answer: 5 squared", "5 squared"), ("Answer: 5 million", "5 million"), ("The answer isn't 5", "isn't 5"),
        ("Answer: 5 as long as it rains", "5 as long as it rains"),
        ("total - 5", None), ("total -5", "-5"), ("it is - 5", "- 5"), ("- 5", None), ("so A-5", None),
        ("COVID-19", None), ("a step-3", None), ("x - 5", "x - 5"), ("half of\n5", None), ("5\nunless it rains", None),
        ("It takes 20 min.", "20 min"), ("It takes 3 hours and 20 minutes.", "3 hours and 20 minutes"),
        ("It's 5 feet 3 inches tall", "5 feet 3 inches"), ("it weighs 10 apples and 5 pears", None),
        ("3 + 4 = 7", "7"), ("5 apples + 3 pears", None), ("5 apples + 3 pears = 8 fruits", "8"),
        ("2 x 5 = 10", "10"), ("x > 5", "x > 5"), ("total > 5", None),
        ("The roots are 3 and 5", "3 and 5"),
        ("x is 3, 5", "3, 5"), ("Since a is 3, 5 is b", "5"), ("half of $5$", None), ("$5$ million", "$5$ million"),
        ("not $5$", None), ("-$5$", "-$5$"), ("$5$ unless it rains", None), ("$5$ squared", "$5$ squared"),
        ("I paid $5 million", "$5 million"), ("it costs $5 and $6, total $11.", "$11"),
        ("simplifies to 5", "5"), ("adds up to 5", "5"), ("up to 5", None), ("divided by 5", None),
        ("from step 5", None), ("答案是5", "5"), ("不是5", None), ("5万", None), ("≡ 5", None), ("#5", None),
        ("the 5th one", None), ("5 is the answer", "5"), ("The result (see 5)", None), ("It is 5 (mod 7)", None),
        ("He is 5 times as old", None), ("5 times", "5"), ("twice 5", None), ("at least 5", None),
        ("two thirds of 5", None), ("5 or more", None), ("5 and a half", None), ("5 to the power of x", None),
        ("The total is **42**.", "42"), ("* 42 apples", "42"), ('so "5"', "5"), ("John has 12 apples left.", "12"),
        ("equals 3/4 of it", "3/4"),
        ("so 5 \U0001f389", "5"), ("so 5\u200b0", None), ("∛27", r"\sqrt[3]{27}"), ("∜16", r"\sqrt[4]{16}"),
        ("\\[ x = 5 \\]", "x = 5"), ("Hence m + n = 42.", "42"), ("$m+n = -\\frac{1}{2}$", r"-\frac{1}{2}"),
        ("a + b = 3 + 4 = 7", "7"), ("|A| = 12", "12"), ("a_{10} = 55", "55"), ("f(x) = 2x + 1", "f(x) = 2x + 1"),
        ("x + y <= 5", "x + y <= 5"), ("x + y = 3, z = 4", "x + y = 3, z = 4"), ("x + 1 = 3 or 4", "x + 1 = 3 or 4"),
        ("x + y = 3 million", "x + y = 3 million"), ("x^2 + y = 10 - 5", "x^2 + y = 10 - 5"), ("is a - 5", None),
        ("#### 18", "18"), ("so 18 are left\n#### 1,234", "1,234"), ("so it is 3+4=<<3+4=7>>7 apples", "7"),
        ("She has 42 more apples than Bob", "42"), ("She has 42 more than Bob", None), ("She has 42 less", None),
        ("Since 7 is not prime, the answer is 5", "5"), ("It is not, as some say, 5", None), ("It is not 5", None),
    ],
)  # fmt: skip
def test_an_expression_is_taken_whole_or_not_at_all(text, answer):
    assert unboxed(text) == answer


BEFORE = [
    "half of", "a third of", "twice", "double", "the square of", "the square root of", "the log of", "minus",
    "negative", "not", "isn't", "never", "more than", "less than", "at least", "at most", "up to", "over",
    "under", "divided by", "times", "plus", "the sum of 2 and", "10 -", "10 −", "10 –", "total -", "2^", "2 ^",
    "3 /", "3 *", "3·", "x +", "√", "∛", "∜", "\\sqrt", "\\frac1", "log", "ln", "sin", "\\sin", "min", "\\max",
    "gcd", "3,", "3 and", "3 or", ">", "≥", "x <", "≠", "-", "−", "–", "±", "-(", "|3 -", "1/", "$10$ -",
    "$-$", "$\\sqrt{2}$", "10 % of", "3 % of", "by", "between 2 and", "all but", "the reciprocal of",
    "a multiple of", "a power of", "one plus", "the factorial of", "{10} - {",
]  # fmt: skip
AFTER = [
    "unless it rains", "if it rains", "less", "less than x", "more", "fewer", "squared", "cubed", "factorial",
    "percent less", "million", "thousand", "dozen", "hundred", "billion", "lakh", "halves", "thirds",
    "quarters of x", "tenths", "millionths", "times as many", "plus x", "minus x", "over 2", "divided by x",
    "mod x", "to the power x", "or so", "and a half", "!", "!!", "^2", "²", "³", "⁻¹", "- x", "− 1", "+ x",
    "× 3", "·3", "/ 3", "/x", "°C + 1", "x", "π", "\\pi", "is wrong", "is not the answer", "isn't it",
    "per mille", "choose x", "at most", "below zero", "e3", "th", "nd", "bn", ":30", ", 6", "and 6", "or 6",
    "\\cdot 3", "\\times 10^3", "^{2}", "k", "m - 1 cm", "½",
]  # fmt: skip
FRAMES = [
    "{}",
    "So the result is {}.",
    "Answer: {}",
    "Hence we get {}",
    "**{}**",
    "The answer is {}",
    "{}, as required.",
]
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def _accepted(pool, texts, truth="7"):
    responses = [frame.format(text) for text in texts for frame in FRAMES]
    return [r for r, g in zip(responses, pool.grade_batch(responses, [truth] * len(responses)), strict=True) if g.score]


def test_no_number_is_cut_out_of_what_changes_it(pool):
    texts = [f"{before}{blank}{number}" for before in BEFORE for blank in ("", " ") for number in ("7", "$7$")]
    texts += [f"{number}{blank}{after}" for after in AFTER for blank in ("", " ") for number in ("7", "$7$")]
    assert _accepted(pool, texts) == []


blanks = st.sampled_from(["", " "])
sevens = st.sampled_from(["7", "$7$", "\\(7\\)", "07", "7.0", "７"])


@given(st.sampled_from(["", *BEFORE]), blanks, blanks, st.sampled_from(["", *AFTER]), sevens)
@quick
def test_no_number_is_cut_out_of_any_mixture(pool, before, left, right, after, number):
    assume(before or after)
    assume(before not in ("√", r"\sqrt") or after not in ("^2", "²", "^{2}"))  # that is 7
    assert _accepted(pool, [f"{before}{left}{number}{right}{after}"]) == []


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("So it is 5 million dollars.", "5000000"), ("So it takes 20 min.", r"20\text{ minutes}"),
        ("so √12", r"2\sqrt3"),
        ("it is ∛27", "3"), ("it is −7.", "-7"), ("so 10−5", "5"), ("so it is 3!", "6"), ("we get 2^10.", "1024"),
        ("There are 3 dozen eggs.", "36"), ("so the area is 12 cm²", r"12\text{ cm}^2"),
        ("so 12 cm squared", r"12\text{ cm}^2"),
        ("It costs $2 thousand.", "2000"), ("Therefore $x = 5$.", "5"), ("so 3 + 4 = 7 apples", "7"),
        ("so 2 x 5 = 10", "10"),
        ("the answer is 50%", r"50\%"), ("The area is about 5.", "5"), ("so there are **12** ways", "12"),
        ("The remainder when it is divided by 7 is 5.", "5"), ("so x = 5 and we are done.", "5"),
        ("we find that it equals 5 square units.", "5"), ("In the end, 5 students passed the test.", "5"),
        ("The least common multiple of 1 and 5 is 5.", "5"), ("So the largest value of $n$ is 5!", "120"),
    ],
)  # fmt: skip
def test_whole_expressions_are_right_where_they_are(pool, text, truth):
    assert pool.grade_batch([text], [truth])[0].outcome == "correct"


ENDINGS = [json.loads(line) for line in (Path(__file__).parent / "data" / "endings.jsonl").read_text().splitlines()]


def test_endings_as_models_and_people_write_them(pool):
    """Of GSM8K's, MATH's, AIME's and DAPO's style; and what must not count as the number in it."""
    grades = pool.grade_batch([row["response"] for row in ENDINGS], [row["ground_truth"] for row in ENDINGS])
    taken = [(row["response"], grade.outcome == "correct") for row, grade in zip(ENDINGS, grades, strict=True)]
    assert taken == [(row["response"], row["right"]) for row in ENDINGS]


@given(st.text(alphabet="0123456789 abx+-*/^_$\\(){}[].,;:!?'\"\n√∛−½²五万notif", max_size=80))
@settings(parent=quick, max_examples=300)
def test_what_is_taken_stands_in_the_text(text):
    answer = unboxed(text)
    if answer is not None:
        kept = "".join(in_latex(text).split()).replace("x", "").replace("X", "")
        assert "".join(answer.split()).replace(r"\times", "").replace("x", "").replace("X", "") in kept
