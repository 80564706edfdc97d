"""Exact where it can be, sure where it cannot, and never long."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Expr

from recipes.archer.mathematics.equality import equal, has_value, proportional
from recipes.archer.mathematics.exact import EFFORT, MOST_EFFORT, TooMuch
from recipes.archer.mathematics.reading import read


def expression(text: str) -> Expr:
    return read(text).value


def same(a: str, b: str) -> bool:
    EFFORT.begin()
    return equal(expression(a), expression(b))


integers = st.integers(1, 40).map(lambda n: (str(n), Fraction(n)))
rationals = st.recursive(
    integers,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]}+{p[1][0]})", p[0][1] + p[1][1])),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]}-{p[1][0]})", p[0][1] - p[1][1])),
        st.tuples(inner, inner).map(lambda p: (rf"{p[0][0]}\cdot {p[1][0]}", p[0][1] * p[1][1])),
        st.tuples(inner, integers).map(lambda p: (rf"\frac{{{p[0][0]}}}{{{p[1][0]}}}", p[0][1] / p[1][1])),
        st.tuples(inner, st.integers(0, 9)).map(lambda p: (f"({p[0][0]})^{{{p[1]}}}", p[0][1] ** p[1])),
    ),
    max_leaves=6,
)


@given(rationals, rationals)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_rational_numbers_are_one_exactly_when_they_are(a, b):
    assert same(a[0], b[0]) == (a[1] == b[1])
    assert same(a[0], rf"\frac{{{a[1].numerator}}}{{{a[1].denominator}}}")
    assert not same(a[0], rf"{a[0]}+\frac{{1}}{{10^{{999}}}}")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2^{9999}-1", "2^{9999}+1"), ("5000!", "5000!+1"), ("2^{2^{2021}}", "2^{2^{2021}}+1"), (r"\sin\pi", r"\sin 3"),
        (r"\pi+e^{-1000}", r"\pi+e^{-1001}"), (r"2^{2024}\sqrt3-1", r"2^{2024}\sqrt3+1"), ("e^{-100}", "e^{-101}"),
        (r"\binom{9999}{5000}", r"\binom{9999}{4998}"), ("x^{99}+10^{-60}", "x^{99}"), ("e^x+10^{-60}", "e^x"),
        ("(-1)^n", "1"), (r"\lfloor n/2\rfloor", "n/2"), (r"\sqrt{x^2}", "x"), ("n!", "(n-1)!"), ("x_1", "x_2"),
    ],
)  # fmt: skip
def test_what_differs_in_a_small_part_differs(a, b):
    assert same(a, a) and same(b, b)
    assert not same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), (r"\sqrt{ab}", r"\sqrt a\sqrt b"), (r"\ln(ab)", r"\ln a+\ln b"),
        (r"\cos n\pi", "(-1)^n"), (r"\sqrt[3]{-8}", "-2"), ("n!", "n(n-1)!"), (r"\binom{2n}{n}", r"\frac{(2n)!}{n!n!}"),
        (r"\lceil n/2\rceil", r"\lfloor (n+1)/2\rfloor"), (r"\sum_{k=1}^{99}k", "4950"),
        (r"\int_0^1 x^2dx", r"\frac13"),
        (r"\sum_{k=1}^{\infty}\frac{1}{k^2}", r"\frac{\pi^2}{6}"), (r"\sin\pi", "0"), (r"\frac{x^2-1}{x-1}", "x+1"),
    ],
)  # fmt: skip
def test_what_is_one_in_two_forms_is_one(a, b):
    assert same(a, b)


def test_equations_are_one_up_to_a_factor_and_inequalities_up_to_a_positive_one():
    assert proportional(expression("2x-y+3"), expression("y-2x-3")) == -1
    assert proportional(expression(r"\sqrt2x-2"), expression(r"x-\sqrt2")) == 1
    assert proportional(expression("x-5"), expression("y-5")) == 0
    assert proportional(expression("x^2+4"), expression("x^2+9")) == 0


def test_what_divides_by_zero_has_no_value():
    assert has_value(expression("9^{9^{9}}")) and has_value(expression(r"\frac{1}{x}"))
    assert not has_value(expression(r"\frac{1}{0}")) and not has_value(expression(r"\frac{1}{\sqrt4-2}"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\pi", r"\pi+\frac{0}{\sqrt2\sqrt7-\sqrt{14}}"),
        (r"\frac{1}{\sqrt2\sqrt7-\sqrt{14}}", r"\frac{1}{\sqrt2\sqrt7-\sqrt{14}}+1"),
    ],
)
def test_what_more_digits_show_to_divide_by_zero_is_equal_to_nothing(a, b):
    assert not same(a, b) and not same(b, a)


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9}}", "((9^{9999})^{9999})^{9999}", r"\binom{10000000000}{5000000000}", "(x+y+z)^{5000}", "5000!",
        r"\sin(10^{9999})", "e^{10^{9999}}", r"\prod_{k=1}^{1000}k", r"\frac{x^{9999}-1}{x-7}",
        "{" * 23 + "x" + "}" * 23,
        "(" * 23 + "x" + ")" * 23, r"\sqrt{2+" * 12 + "1" + "}" * 12, "x!" * 99,
    ],
)  # fmt: skip
def test_effort_is_bounded_by_what_is_written(text):
    EFFORT.begin()
    start = time.process_time()
    equal(expression(text), expression(f"{text}+1"))
    assert MOST_EFFORT - EFFORT.left < MOST_EFFORT / 4
    assert time.process_time() - start < 2  # 0.3 s at most


def test_what_would_take_long_is_given_up():
    EFFORT.begin()
    with pytest.raises(TooMuch):
        equal(expression(r"\sum_{k=1}^{\infty}\sum_{j=1}^{\infty}\frac{1}{k^2j^2}"), expression("3"))
