"""What may be searched: values and ranges, from text to Optuna and back to settings."""

import pytest

from recipes.archer.ending import UserError
from recipes.archer.search.space import Choices, Span, axis_of, grid, short_names, size, text_of, words

LR = "actor_rollout_ref.actor.optim.lr"


@pytest.mark.parametrize(
    ("text", "present", "axis"),
    [
        ("1e-4,2e-4", 2e-4, Choices("k", ("1e-4", "2e-4"))),
        ("[0.2,0.2],[0.2,0.3]", [0.2, 0.2], Choices("k", ("[0.2,0.2]", "[0.2,0.3]"))),
        ("'a,b', c", "c", Choices("k", ("'a,b'", "c"))),
        ("1e-5..1e-3:log", 1e-4, Span("k", 1e-5, 1e-3, True, False)),
        ("0..1", 0.001, Span("k", 0, 1, False, False)),  # the setting's own kind decides, not how it is written
        ("2..8", 4, Span("k", 2, 8, False, True)),
        ("-1..1", 0.0, Span("k", -1, 1, False, False)),
    ],
)
def test_values_and_ranges(text, present, axis):
    assert axis_of("k", text, present) == axis


@pytest.mark.parametrize(
    ("text", "present", "said"),
    [
        ("2..1", 1.0, "is an empty range"),
        ("1..1", 1.0, "is an empty range"),
        ("1..", 1.0, "write a range as LOW..HIGH"),
        ("1..x", 1.0, "write a range as LOW..HIGH"),
        ("1..2:exp", 1.0, "write a range as LOW..HIGH"),
        ("0..1:log", 1.0, "begins above 0"),
        ("1..2.5", 1, "is a whole number"),
        ("1e999..2", 1.0, "too large"),
        ("1,,2", 1.0, "empty value"),
        ("1,1", 1.0, "a value twice"),
        ("1", 1.0, "is one value"),
    ],
)
def test_what_is_nothing_to_search_is_said_in_one_line(text, present, said):
    with pytest.raises(UserError, match=said) as caught:
        axis_of("k", text, present)
    assert str(caught.value).startswith(f"--set k={text}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "axis",
    [
        Span("k", 1e-5, 1e-3, True, False),
        Span("k", 0, 0.01, False, False),
        Span("k", 2, 8, False, True),
        Span("k", 1, 512, True, True),
        Choices("k", ("a", "b")),
    ],
)
def test_every_share_is_a_value_of_the_axis(axis):
    values = [axis.at(share / 64) for share in range(64)]
    assert all(axis.distribution._contains(axis.distribution.to_internal_repr(value)) for value in values)
    assert len(set(values)) > 1
    assert [text_of(value) for value in (values[0],)] == [axis.ends[0]]


def test_a_number_that_is_drawn_can_be_read_and_stays_in_its_range():
    assert Span("k", 1e-5, 1e-3, True, False).fitted(0.000123456789) == 0.0001235
    assert Span("k", 0.1234321, 1.0, False, False).fitted(0.1234321) == 0.1234321  # not rounded out of it


def test_a_grid_is_every_combination():
    axes = [Choices("a", ("1", "2")), Choices("b", ("x", "y"))]
    assert grid(axes) == [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"}]
    assert size(axes) == 4 and size([*axes, Span("c", 1, 3, False, True)]) == 12
    assert size([*axes, Span("c", 0, 1, False, False)]) is None
    with pytest.raises(UserError, match="a grid takes values"):
        grid([Span("c", 0, 1, False, False)])


def test_names_are_short_and_tell_apart():
    names = short_names([LR, "critic.optim.lr", "data.train_batch_size"])
    assert list(names.values()) == ["actor.optim.lr", "critic.optim.lr", "train_batch_size"]
    assert words({LR: 2.5e-05, "guard.x": "a"}) == "lr=2.5e-05, x=a"
