"""The two rules against sequences worked out by hand, and what must hold of them whatever they are given."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.archer.control.actuators import (
    AdvantageRule,
    AdvantageState,
    BonusRule,
    Measure,
    advantage,
    bonus,
)

BONUS = BonusRule(delta=1e-4, max=5e-3)
ADVANTAGE = AdvantageRule(proportional=1.0, integral=0.05, decay=0.9, max=0.5, slew=0.1)
LOW, HIGH = 0.3, 0.5  # middle 0.4


def measure(entropy: float) -> Measure:
    return Measure(entropy, LOW, HIGH)


@pytest.mark.parametrize(
    ("entropy", "error"),
    [(0.3, 0.0), (0.5, 0.0), (0.4, 0.0), (0.2, 0.25), (0.0, 0.75), (0.6, -0.25), (1.3, -2.0)],
)
def test_the_error_is_the_distance_to_the_band_over_its_middle(entropy, error):
    assert measure(entropy).error == pytest.approx(error)


def test_the_bonus_by_hand():
    """Below: up by 1e-4, at most to 5e-3; inside: as it was; above: 0 at once."""
    given_and_found = [
        (0.40, 0.0),  # inside, from nothing
        (0.29, 1e-4),
        (0.10, 2e-4),  # as much, however far below
        (0.30, 2e-4),  # on the bound is inside
        (0.50, 2e-4),
        (0.29, 3e-4),
        (0.51, 0.0),
        (2.00, 0.0),
        (0.45, 0.0),
        (0.20, 1e-4),
    ]
    coefficient = 0.0
    for entropy, expected in given_and_found:
        coefficient = bonus(coefficient, measure(entropy), BONUS)
        assert coefficient == pytest.approx(expected, abs=1e-12), entropy
    for _ in range(60):
        coefficient = bonus(coefficient, measure(0.0), BONUS)
    assert coefficient == 5e-3


def test_the_weight_by_hand():
    """K_p 1, K_i 0.05, at most ±0.5, 0.1 a step, the integral kept to 0.9 inside the band.

    integral and alpha, each worked out from the line before it.
    """
    given_and_found = [
        # H, integral, alpha           error; wanted = error + integral
        (0.40, 0.0, 0.0),  # inside
        (0.36, 0.0, 0.0),  # inside
        (0.28, 0.0025, 0.0525),  # 0.05; wanted 0.0525
        (0.26, 0.0075, 0.1075),  # 0.1; wanted 0.1075, 0.055 more
        (0.20, 0.02, 0.2075),  # 0.25; wanted 0.27, 0.1 more
        (0.10, 0.02, 0.3075),  # 0.5: 0.52 is beyond 0.5, so the integral stands still
        (0.10, 0.02, 0.4075),
        (0.10, 0.02, 0.5),
        (0.11, 0.04375, 0.5),  # 0.475: 0.495 is not beyond; wanted 0.51875, which is cut
        (0.11, 0.04375, 0.5),  # now it is
        (0.34, 0.039375, 0.4),  # inside: nine tenths; wanted 0.039375, 0.1 less
        (0.34, 0.0354375, 0.3),
        (0.60, 0.0229375, 0.2),  # -0.25: less 0.0125; wanted -0.2270625
        (0.60, 0.0104375, 0.1),
        (0.60, -0.0020625, 0.0),
        (0.60, -0.0145625, -0.1),
        (0.44, -0.01310625, -0.01310625),  # inside: wanted as much as the integral, 0.087 away
    ]
    state = AdvantageState()
    for entropy, integral, alpha in given_and_found:
        state = advantage(state, measure(entropy), ADVANTAGE)
        assert (state.integral, state.alpha) == pytest.approx((integral, alpha), abs=1e-12), entropy


ENTROPIES = st.lists(st.floats(0, 12), min_size=1, max_size=60)
RULES = st.builds(
    AdvantageRule,
    proportional=st.floats(0, 10),
    integral=st.floats(0, 2),
    decay=st.floats(0, 0.99),
    max=st.floats(0.01, 1),
    slew=st.floats(0.01, 2),
)


@given(ENTROPIES, RULES)
def test_alpha_stays_within_its_bounds_and_moves_no_faster_than_it_may(entropies, rule):
    state = AdvantageState()
    for entropy in entropies:
        after = advantage(state, measure(entropy), rule)
        assert abs(after.alpha) <= rule.max
        assert abs(after.integral) <= rule.max + 29 * rule.integral  # no error is larger
        assert abs(after.alpha - state.alpha) <= rule.slew + 1e-12
        state = after


@given(ENTROPIES)
def test_the_coefficient_stays_within_its_bounds(entropies):
    coefficient = 0.0
    for entropy in entropies:
        after = bonus(coefficient, measure(entropy), BONUS)
        assert 0 <= after <= BONUS.max and (entropy <= HIGH or after == 0)
        coefficient = after


def saturated(entropy: float, steps: int = 6000) -> AdvantageState:
    state = AdvantageState()
    for _ in range(steps):
        state = advantage(state, measure(entropy), ADVANTAGE)
    return state


@pytest.mark.parametrize("below", [0.0, 0.05, 0.1, 0.2, 0.25, 0.29, 0.299])
def test_nothing_winds_up(below):
    """However long: the limit is reached exactly, then nothing changes, and the way back takes what the slew takes."""
    state = saturated(below)
    assert state.alpha == ADVANTAGE.max and ADVANTAGE.is_spent(state.alpha, measure(below).error)
    assert saturated(below, 30_000) == state
    assert advantage(state, measure(HIGH + 0.001), ADVANTAGE).alpha < ADVANTAGE.max  # by however little it turns
    steps = 0
    while state.alpha > 1e-9:
        state, steps = advantage(state, measure(2.5 * HIGH), ADVANTAGE), steps + 1
    assert steps == math.ceil(ADVANTAGE.max / ADVANTAGE.slew)


@given(st.floats(0, LOW - 0.001), st.floats(HIGH + 0.001, 12), st.integers(1, 400))
def test_it_leaves_its_limit_in_the_first_step_in_which_the_error_has_turned(below, above, steps):
    for first, second, sign in ((below, above, 1), (above, below, -1)):
        state = saturated(first, steps)
        assert sign * advantage(state, measure(second), ADVANTAGE).alpha < ADVANTAGE.max


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(LOW, HIGH))
def test_inside_the_band_it_decays_to_exactly_nothing(integral, alpha, inside):
    state = AdvantageState(integral, alpha)
    for _ in range(100):
        after = advantage(state, measure(inside), ADVANTAGE)
        assert abs(after.integral) <= abs(state.integral)
        state = after
    assert state == AdvantageState(0.0, 0.0)


@given(st.lists(st.integers(0, 96), max_size=60))
def test_the_two_directions_are_alike(eighths):
    """Mirrored at the band's middle, everything changes its sign."""
    state = mirrored = AdvantageState()
    for entropy in (number / 8 for number in eighths):  # which floats hold exactly
        state = advantage(state, Measure(entropy, 0.25, 0.75), ADVANTAGE)
        mirrored = advantage(mirrored, Measure(1.0 - entropy, 0.25, 0.75), ADVANTAGE)
        assert (mirrored.integral, mirrored.alpha) == (-state.integral, -state.alpha)


def test_at_one_it_is_a_switch():
    """α = ±1: only right, or only wrong answers count (arXiv 2604.26326)."""
    rule = replace(ADVANTAGE, max=1.0, slew=1.0, proportional=100.0)
    assert advantage(AdvantageState(), measure(0.2), rule).alpha == 1.0
    assert advantage(AdvantageState(), measure(0.6), rule).alpha == -1.0


def test_spent_is_at_the_limit_that_the_error_pushes_to():
    assert BONUS.is_spent(BONUS.max, 0.1) and not BONUS.is_spent(BONUS.max, 0.0) and not BONUS.is_spent(BONUS.max, -0.1)
    assert BONUS.is_spent(0.0, -0.1) and not BONUS.is_spent(0.0, 0.1) and not BONUS.is_spent(1e-4, -0.1)
    most = ADVANTAGE.max
    assert ADVANTAGE.is_spent(most, 0.1) and ADVANTAGE.is_spent(-most, -0.1)
    assert not any(ADVANTAGE.is_spent(*case) for case in ((most, -0.1), (most, 0.0), (0.4, 0.1), (0.0, 0.1)))
