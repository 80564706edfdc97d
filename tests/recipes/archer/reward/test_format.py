"""The form of a response."""

import pytest

from recipes.archer.reward.format import format_is_right


@pytest.mark.parametrize(
    "response",
    [
        r"<think>some thought</think> So it is \boxed{5}.",
        r"some thought</think>\boxed{\frac{1}{2}}",
        "\n<think>\n\\boxed{4}? no.\n</think>\n\nIt is $\\boxed{5}$.",
    ],
)
def test_a_closed_think_block_and_one_final_box(response):
    assert format_is_right(response)


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{5}",
        r"<think>never closed \boxed{5}",
        r"<think>a</think>b</think>\boxed{5}",
        r"<think>a<think>b</think>\boxed{5}",
        r"first <think>a</think>\boxed{5}",
        r"<think>a</think>\boxed{5} and <think> again",
        r"<think>a</think>\boxed{5} or \boxed{6}",
        r"<think>a</think>5",
        r"<think>\boxed{5}</think>",
        r"<think>a</think>\boxed{}",
        r"<think>a</think>\boxed{5",
        "",
    ],
)
def test_anything_else(response):
    assert not format_is_right(response)
