"""What is taken for an answer, what a ground truth accepts, what is refused, and what needs no judge."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.grading.answers import (
    GroundTruthError,
    accepted_forms,
    clean,
    extract_answer,
    ground_truth_of,
    last_boxed,
)
from recipes.archer.grading.exact_match import exact_verdict
from recipes.archer.grading.limits import MAX_CHARS, MAX_NESTING, costliness, refusal
from recipes.archer.grading.rules import restates


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\begin{matrix}1\\{2}\end{matrix}}", r"\begin{matrix}1\\{2}\end{matrix}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"it is \boxed{3}. I was asked for \boxed{} or \boxed", "3"),
        (r"\boxed{3} or rather \boxed{4", None),
        (r"\boxed{3} and $\boxed{-4}$", "3, -4"),
        (r"\boxed{1} \quad \text{or} \quad \boxed{2}.", "1, 2"),
        (r"\boxed{3}, that is, \boxed{3}", "3"),
        (r"\fbox{7}", "7"),
        (r"\boxed 7", "7"),
        (r"$\boxed-2.5$", "-2.5"),
        (r"use \boxed to answer", None),
        (r"\boxed{}", None),
        ("no box", None),
    ],
)
def test_the_last_box_that_holds_something_is_the_answer(text, content):
    assert last_boxed(text) == content


def test_only_what_follows_the_last_closed_think_block_is_graded():
    assert extract_answer(r"<think>\boxed{1}</think> hm </think> so \boxed{2}") == "2"
    assert extract_answer(r"<think>\boxed{1}</think> I forgot the box") is None
    assert extract_answer(r"never closed its thinking: \boxed{1}") == "1"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Work.\nAnswer: 34", "34"),
        ("**Final Answer:** $x+1$", "x+1"),
        (r"The answer is \(\frac{1}{2}\).", r"\frac{1}{2}"),
        ("Answer: x+1", "x+1"),
        ("The answer is: 17 apples", "17"),
        ("So there are 1,234 ways", "1,234"),
        ("we had 5, hence $y=2$ holds", "y=2"),
        ("we had $y=2$, hence 5", "5"),
        (r"\boxed{9} beats the 8 after it", "9"),
        ("no number at all", None),
        ("Answer: 42 or 43", "42 or 43"),
        ("so it is 42 or 43", "42 or 43"),
        ("Answer: $42$ or $43$", "$42$ or $43$"),
        ("Answer: not 42", "not 42"),
        ("Answer: 3 / 4", "3 / 4"),
        ("Work.\nAnswer:\n34", "34"),
        ("Answer:\n\n$x+1$", "x+1"),
        ("Answer: 17, because 3*5+2 = 17", "17"),
        ("Answer: 12 km/h", "12 km/h"),
        ("Answer: (1,2)", "(1,2)"),
        ("Answer: 2 hours 3 minutes", "2 hours 3 minutes"),
        ("Answer: $5$ (see above)", "5"),
    ],
)
def test_any_falls_back_on_the_answer_line_then_on_the_last_formula_or_number(text, answer):
    assert extract_answer(text, "any") == answer
    if "boxed" not in text:
        assert extract_answer(text, "boxed") is None


def test_an_unknown_answer_format_is_named():
    with pytest.raises(ValueError, match="answer_format is 'box'"):
        extract_answer("", "box")


@pytest.mark.parametrize(
    "text",
    [r"\boxed" * 40_000, r"\boxed{" * 40_000, r"\boxed{}" * 30_000, r"\boxed" + " " * 200_000, "$" * 200_000]
    + ["answer:" * 40_000, "\n*" * 100_000, "1," * 100_000, r"\(" * 100_000, "(" * 200_000, "!" * 200_000],
    ids=lambda text: repr(text[:9]),
)
def test_extraction_and_refusal_are_linear(text):
    start = time.perf_counter()
    for answer_format in ("boxed", "any"):
        extract_answer(text, answer_format)
    refusal(text)
    # 0.06 s on an idle core; a quadratic pass over 200,000 characters takes minutes.
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("$12$", "12"), (r"\[x\]", "x"), ("5.", "5"), ("120°", r"120^\circ"), ("−3", "-3"), ("x²", "x^2"),
        (r"0.\overline{3}", r"\frac{3}{9}"), (r"1.2\bar{45}", r"\frac{1233}{990}"),
        (r"\langle 1,2 \rangle", "( 1,2 )"), ("$1$, $2$", "$1$, $2$"), (r"\$5", r"\$5"),
        ("½", r"\frac{1}{2}"), ("√12", r"\sqrt{12}"), ("∛27", r"\sqrt[3]{27}"), ("∜1,296", r"\sqrt[4]{1,296}"),
        ("∛(x+1)", "cbrt (x+1)"), ("x⁴", "x^4"), ("2¹⁰", "2^{10}"), ("x₁", "x_1"), ("１２", "12"),
        ("١٢", "12"), ("10\u202f000", "10 000"), ("α", r"\alpha"), ("Ω", r"\Omega"), ("**7**", "7"), ("x**2", "x**2"),
    ],
)  # fmt: skip
def test_clean_changes_the_spelling_only(raw, cleaned):
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    ("ground_truth", "forms"),
    [
        ("34", ("34",)), (34, ("34",)), (0.5, ("0.5",)), (3.0, ("3",)), (1e-7, ("0.0000001",)),
        (1e20, ("100000000000000000000",)), (r"so it is $\boxed{6 \pi}$.", (r"6 \pi",)), ("$x^2$", ("x^2",)),
        (["1/2", "0.5", "1/2"], ("1/2", "0.5")), (("a", 2), ("a", "2")), ('["1/2", "0.5"]', ("1/2", "0.5")),
        ("[1,2]", ("[1,2]",)), (np.array(["7", "8"]), ("7", "8")), (np.int64(7), ("7",)), ("073", ("073",)),
    ],
)  # fmt: skip
def test_ground_truths_are_strings_numbers_or_lists_boxed_or_not(ground_truth, forms):
    assert accepted_forms(ground_truth) == forms


@pytest.mark.parametrize("ground_truth", [None, "", "  ", {}, [], True, float("nan"), float("inf"), ["1", None]])
def test_what_cannot_be_a_ground_truth_is_an_error_in_the_data(ground_truth):
    with pytest.raises(GroundTruthError):
        accepted_forms(ground_truth)


@pytest.mark.parametrize(
    ("ground_truth", "form"),
    [
        (r"\boxed{3} and \boxed{-4}", "3, -4"),
        (r"first $\boxed{3}$. Some lines later, it is \boxed{5}.", "5"),
        (r"\boxed{3} if n is odd, \boxed{4} otherwise", None),
        (r"$\boxed{n^2}$ for odd n, $\boxed{0}$ otherwise", None),
    ],
)
def test_of_several_boxes_of_a_ground_truth_none_is_taken_for_all(ground_truth, form):
    if form is not None:
        assert accepted_forms(ground_truth) == (form,)
    else:
        with pytest.raises(GroundTruthError, match="several boxes"):
            accepted_forms(ground_truth)


@pytest.mark.parametrize(
    ("answer", "prompt", "stands"),
    [
        (r"513^2-487^2", r"Compute $513^2-487^2$.", True),
        (r"\dbinom{31}{28}", r"What is $\binom{31}{28}$?", True),
        (r"\sum_{k=1}^{10}k^2", r"Find $$\sum_{k=1}^{10} k^{2}.$$", True),
        (r"2\cdot 3", r"What is \(2 \times 3\)?", True),
        (r"13^2-7", r"Compute $513^2-7$.", False),
        (r"13^2-7", r"Compute $13^2-71$.", False),
        ("12", "There are 12 eggs.", False),
        ("x", "Find x.", False),
        ("-5", "It is -5 now.", False),
    ],
)
def test_an_answer_is_found_in_its_prompt_layout_aside(answer, prompt, stands):
    assert restates(answer, prompt) == stands


def test_costly_kinds_come_last():
    texts = [r"\sum_{k=1}^{9}k", "2^{9999}", "5000!", r"\sqrt{2}+1", "x+1", "7"]
    assert sorted(texts, key=costliness)[:3] == ["7", "x+1", r"\sqrt{2}+1"]


def test_a_row_without_a_ground_truth_says_where_it_was_looked_for():
    assert ground_truth_of({"answer": "1", "reward_model": {"ground_truth": "2"}}) == (
        "reward_model.ground_truth",
        "2",
    )
    with pytest.raises(GroundTruthError, match="no reward_model.ground_truth, ground_truth, answer"):
        ground_truth_of({"solution": "1"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1" * (MAX_CHARS + 1), "characters"), ("1" * 201, "digits"), ("1," * 250, "digits"),
        ("(" * 25 + ")" * 25, "nested"), ("9^{9^{9^9}}", "tower"), ("9^9^9^9", "tower"),
        ("9^(9^(9^9))", "tower"), ("a**b**c**d", "tower"), ("2^{3}^{4}^5", "tower"),
        ("10^{100000}", "exponent"), ("10^{-100000}", "exponent"), ("9!!", "factorial of a factorial"),
        ("((9!)!)", "factorial of a factorial"), ("6000!", "factorial of a number"),
        ("(60000)!", "factorial of a number"),
    ],
)  # fmt: skip
def test_what_would_run_away_is_refused_before_it_is_parsed(text, why):
    assert why in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "x^2+y^2+z^2+w^2", r"\frac{10!}{3!7!}", "2^{2^{2021}}", "10^{2023}-1", "2^{x^2+y^2}", "e^{-x^{2}/2}",
        r"\begin{pmatrix} x^2 & y^2 \\ z^2 & w^2 \end{pmatrix}", "2023!", "1" * 200,
        "(" * MAX_NESTING + ")" * MAX_NESTING,
    ],
)  # fmt: skip
def test_what_answers_look_like_is_not_refused(text):
    assert refusal(text) is None


def test_exact_verdicts():
    assert exact_verdict("073", ["73"]) is True
    assert exact_verdict(r"\frac{2}{4}", ["1", r"\frac{1}{2}"]) is True
    assert exact_verdict("12", ["13", "14"]) is False
    assert exact_verdict("12", ["13", "x"]) is None
    assert exact_verdict("12", ["12.0"]) is None
    assert exact_verdict(r"\frac{1}{0}", [r"\frac{1}{0}"]) is None
    assert exact_verdict("١", ["1"]) is None, "digits of other scripts are the judge's business"


@given(st.text(max_size=300), st.sampled_from(["boxed", "any"]))
def test_no_text_makes_extraction_raise(text, answer_format):
    answer = extract_answer(text, answer_format)
    assert answer is None or answer.strip()
    refusal(text)
    clean(text)


@given(st.text(alphabet=r"\boxed{}() 1$", max_size=60))
def test_a_box_found_is_a_box_in_the_text(text):
    content = last_boxed(text)
    if content is not None:
        assert content in text
        assert content.replace(r"\{", "").replace(r"\}", "").count("{") >= 0
