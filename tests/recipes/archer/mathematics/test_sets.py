"""Values as sets of real numbers, where they are some."""

import pytest

from recipes.archer.mathematics.exact import EFFORT
from recipes.archer.mathematics.reading import read
from recipes.archer.mathematics.sets import real_set


@pytest.fixture(autouse=True)
def fresh_effort():
    EFFORT.begin()


@pytest.mark.parametrize(
    "text",
    [
        r"\mathbb{R}\setminus\{(1,2)\}", r"\mathbb{R}\setminus\{\text{even}\}", r"\{(1,2),(3,4)\}", r"x>(1,2)",
        r"(0,1)\cup\{(1,2)\}", r"x>1, x<(1,2)",
    ],
)  # fmt: skip
def test_what_is_no_set_of_numbers_is_none(text):
    assert real_set(read(text)) is None


def test_the_numbers_without_some_are_the_intervals_between_them():
    low, middle, high = real_set(read(r"\mathbb{R}\setminus\{2,-1\}"))[1]
    assert low[2] == middle[0] and middle[2] == high[0]
    assert not any(closed for piece in (low, middle, high) for closed in piece[1::2])
