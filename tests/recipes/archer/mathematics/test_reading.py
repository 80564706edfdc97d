"""What a formula is read as; nothing is read in part."""

import pytest

from recipes.archer.mathematics.latex import GLUED_UNITS, SCIENTIFIC, tokenize
from recipes.archer.mathematics.reading import DECIMAL_COMMA, LISTED, read
from recipes.archer.mathematics.tokens import Unreadable, spelled
from recipes.archer.mathematics.values import EMPTY, REALS, Chain, Joined, Listed, Matrix, Scalar, Words


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (r"\frac12x^2_1+1", Scalar), (r"3\text{ hours }20\text{ minutes}", Scalar), ("12 km/h", Scalar),
        ("2220_5", Scalar),
        ("1,2", Listed), ("1,234", Scalar), ("(1,234)", Listed), (r"1\pm\sqrt2", Listed), ("1:2", Listed),
        ("12:30", Listed), (r"n\equiv1\pmod4", Listed), ("[0,1)", Listed), ("]0;1[", Listed), ("x=1", Chain),
        ("1<x<2", Chain), (r"x\in\mathbb{R}", Chain), (r"x<1\text{ or }x>2", Joined), (r"\{x\mid x>3\}", Joined),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", Matrix), (r"2\begin{pmatrix}1\\2\end{pmatrix}", Matrix), ("even", Words),
        (r"\text{June 20}", Words), ("abc", Scalar), (r"\begin{cases}x=1\\y=2\end{cases}", Listed),
    ],
)  # fmt: skip
def test_kinds(text, kind):
    assert isinstance(read(text), kind)


def test_sets_with_a_name():
    assert read(r"\mathbb{R}") == read("all real numbers") == REALS
    assert read(r"\varnothing") == read(r"\{\}") == read(r"\text{no solution}") == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "1,,2", "1,", "2 3", "x +* ) y", "(1",
        "1)", r"\frac{1}{", r"\frac{1}", "a}", r"\unknown x", "m\\text{ odd}",
        "8\\text{ if }x>0", "$n^2$ for odd n, $0$ otherwise", r"\sum k", r"\lim_{x\to0}x", "x^", "x_", "-",
        "1 + ", "@", "\x00",
        r"5\text{ at least}", r"\text{not }5 + 1", "11 7/6", "__import__('os').system('true')", "^2", r"\pm\pm\pm\pm 1",
    ],
)  # fmt: skip
def test_what_is_not_read_whole_is_not_read(text):
    with pytest.raises(Unreadable):
        read(text)


def test_readings_that_take_more_for_granted():
    assert read("100,200") == Scalar(100200) and len(read("100,200", frozenset((LISTED,))).items) == 2
    assert len(read("3,14").items) == 2 and read("3,14", frozenset((DECIMAL_COMMA,))) == read("3.14", frozenset())
    assert (
        read("2e-3").value.free_symbols == set() and read("2e-3", frozenset((SCIENTIFIC,))).value == read("0.002").value
    )
    assert read("10 m").unit is None and read("10 m", frozenset((GLUED_UNITS,))).unit == read(r"10\text{ m}").unit


@pytest.mark.parametrize(
    "texts",
    [
        (r"\frac{1}{2}", r"\dfrac12", r"\frac 1 2"), (r"\left(x\right)", r"\bigl(x\bigr)", "(x)"),
        ("x_{1}", "x_1", "x_ 1"),
        (r"\text{ho}", r"\mathrm{ho}", r"\textbf{ho}"), ("50%", r"50\%"), ("$5", r"\$5"),
        (r"\boxed{7}", r"\fbox{7}", "7"),
        (r"\begin{aligned}x&=1\end{aligned}", "{x=1}"), (r"\textcolor{red}{7}", r"\bm{7}", r"\mathbf{7}"),
    ],
)  # fmt: skip
def test_layout_is_not_read(texts):
    assert len({spelled(tokenize(text)) for text in texts}) == 1
