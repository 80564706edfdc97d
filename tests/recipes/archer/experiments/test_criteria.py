"""Criteria: what a record may say, and how conditions are decided row by row."""

import json

import pytest

from recipes.archer.experiments.criteria import parse_criterion
from recipes.archer.monitoring.criterion_state import MEMORY, CriterionState
from recipes.archer.monitoring.trends import trend_of
from recipes.archer.settings.strict_fields import RecordError


def state(**sides) -> CriterionState:
    return CriterionState(parse_criterion({"metric": "m", **sides}, "x.yaml: record.criteria[0]"))


def feed(judged: CriterionState, values: dict) -> list[str]:
    return [verdict_at(judged, step, value).status for step, value in values.items()]


def verdict_at(judged: CriterionState, step: int, value: float | None):
    judged.observe(step, value)
    return judged.verdict


@pytest.mark.parametrize(
    "data, words",
    [
        ({"good": [{"above": 1}]}, "criteria[0].metric is missing"),
        ({"metric": "m"}, "neither good nor bad"),
        ({"metric": "m", "bad": [{"belo": 1}]}, "bad[0].belo is not known"),
        ({"metric": "m", "bad": [{"above": 1, "below": 0}]}, "has above and below"),
        ({"metric": "m", "bad": [{"sustained": 3}]}, "exactly one of above, below, between and trend"),
        ({"metric": "m", "bad": [{"above": "high"}]}, "bad[0].above must be a finite number"),
        ({"metric": "m", "bad": [{"above": float("nan")}]}, "must be a finite number"),
        ({"metric": "m", "bad": [{"above": True}]}, "must be a finite number"),
        ({"metric": "m", "bad": [{"above": 1, "window": 0}]}, "at least 1"),
        ({"metric": "m", "bad": [{"above": 1, "at": 5, "from": 3}]}, "leave out from"),
        ({"metric": "m", "bad": [{"trend": "upward", "window": 9}]}, "needs change"),
        ({"metric": "m", "bad": [{"trend": "sideways", "window": 9, "change": 1}]}, "'sideways'"),
        ({"metric": "m", "bad": [{"above": 1, "change": 1}]}, "needs change together with trend"),
        ({"metric": "m", "good": [{"between": [6, 3]}]}, "[lower, upper]"),
        ({"metric": "m", "good": [{"between": [3]}]}, "[lower, upper]"),
        ({"metric": "m", "good": {"above": 1}}, "good must be a list"),
        ("actor/entropy", "must be a mapping"),
    ],
)
def test_a_wrong_criterion_is_refused_with_file_and_field(data, words):
    with pytest.raises(RecordError) as error:
        parse_criterion(data, "x.yaml: record.criteria[0]")
    assert words in str(error.value) and "x.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_criterion_says_itself_in_words():
    criterion = parse_criterion(
        {
            "metric": "actor/entropy",
            "good": [{"between": [3.0, 6.0], "at": 100}],
            "bad": [
                {"above": 7, "sustained": 20, "rows": 3},
                {"trend": ["flat"], "change": 1, "window": 50, "from": 9},
            ],
        },
        "x",
    )
    assert str(criterion) == (
        "actor/entropy: good 3.0–6.0 at step 100; bad above 7 for 20 steps and 3 rows or flat over 50 steps from step 9"
    )


def test_a_level_at_a_step_is_decided_there_and_stays():
    judged = state(good=[{"between": [3, 6], "at": 100}])
    assert feed(judged, {1: 9, 99: 9, 100: 4, 101: 9}) == ["too early", "too early", "good", "good"]


def test_bounds_of_between_belong_to_it_and_bounds_of_above_do_not():
    assert feed(state(good=[{"between": [3, 6]}]), {1: 3, 2: 6, 3: 6.01}) == ["good", "good", "watch"]
    assert feed(state(good=[{"above": 3}]), {1: 3, 2: 3.01}) == ["watch", "good"]


def test_the_first_value_after_the_step_decides_where_the_step_itself_has_none():
    assert feed(state(bad=[{"below": 1, "at": 100}]), {90: 5, 100: None, 102: 0.5}) == ["too early", "too early", "bad"]


def test_sustained_counts_steps_and_a_spike_is_not_bad():
    judged = state(bad=[{"below": 1, "sustained": 3}])
    statuses = feed(judged, {1: 5, 2: 0.5, 3: 5, 4: 0.5, 5: 0.5, 6: 0.5})
    assert statuses == ["good", "watch", "good", "watch", "watch", "bad"]
    assert verdict_at(judged, 7, 0.4).since == 4


def test_a_row_of_a_sparse_table_speaks_for_the_steps_before_it():
    judged = state(bad=[{"below": 1, "sustained": 3}])
    assert feed(judged, {50: 5.3, 78: 0.18}) == ["good", "bad"]


def test_a_lone_first_row_is_not_sustained():
    assert feed(state(bad=[{"above": 7, "sustained": 3}]), {114: 8.5}) == ["watch"]


def test_rows_asks_for_more_than_one_row():
    judged = state(bad=[{"above": 7, "sustained": 20, "rows": 3}])
    assert feed(judged, {20: 5, 61: 8, 102: 8, 148: 8}) == ["good", "watch", "watch", "bad"]


def test_window_takes_the_median():
    judged = state(bad=[{"above": 10, "window": 3}])
    assert feed(judged, {1: 1, 2: 99, 3: 1, 4: 99, 5: 99}) == ["good", "bad", "watch", "bad", "bad"]


def test_from_leaves_earlier_steps_alone():
    assert feed(state(bad=[{"below": 10, "from": 20}]), {1: 0, 19: 0, 20: 0}) == ["too early", "too early", "bad"]


def test_neither_good_nor_bad_is_watch():
    sides = {"good": [{"above": 0.1, "at": 200}], "bad": [{"below": 0.05, "at": 200}]}
    assert feed(state(**sides), {199: 0.5, 200: 0.07, 300: 0.9}) == ["too early", "watch", "watch"]


def test_without_any_value_there_is_no_data():
    assert feed(state(bad=[{"above": 1}]), {1: None, 2: None}) == ["no data", "no data"]


def test_a_bad_spell_that_is_over_is_watched_for_a_while():
    judged = state(bad=[{"below": 1}])
    feed(judged, {1: 5, 2: 0.5})
    verdict = verdict_at(judged, 3, 5)
    assert verdict.status == "watch" and verdict.since == 2 and "no longer" in verdict.detail
    assert verdict_at(judged, 3 + MEMORY, 5).status == "good"


TREND = {"trend": "upward", "change": 0.05, "window": 60, "from": 30}


def noisy(slope, seed=0, steps=120, level=0.2):
    import numpy as np

    noise = np.random.default_rng(seed)
    return {step: level + slope * step + 0.02 * float(noise.normal()) for step in range(1, steps + 1)}


@pytest.mark.parametrize("seed", range(5))
def test_trends_are_found_in_noise(seed):
    up, down, flat = noisy(0.002, seed), noisy(-0.002, seed, level=0.6), noisy(0.0, seed)
    assert feed(state(good=[TREND]), up)[-1] == "good"
    assert feed(state(bad=[{**TREND, "trend": ["flat", "downward"]}]), down)[-1] == "bad"
    assert feed(state(bad=[{**TREND, "trend": ["flat", "downward"]}]), flat)[-1] == "bad"
    assert "bad" not in feed(state(bad=[{**TREND, "trend": ["flat", "downward"]}]), up)


def test_two_points_are_no_trend_and_outliers_do_not_make_one():
    assert trend_of((1, 100), (0.0, 1.0), 0.1) is None
    values = [0.5 + 0.001 * (i % 2) for i in range(40)]
    values[-1] = 50.0  # least squares would see a rise of several units
    assert trend_of(tuple(range(40)), tuple(values), 0.1).direction == "flat"


def test_a_steady_rise_that_is_too_small_is_flat():
    values = [0.2 + 0.0001 * i for i in range(40)]
    assert trend_of(tuple(range(40)), tuple(values), 0.1).direction == "flat"
    assert trend_of(tuple(range(40)), tuple(values), 0.003).direction == "upward"


def test_a_constant_series_is_flat():
    assert trend_of(tuple(range(20)), (1.0,) * 20, 0.1).direction == "flat"


def test_half_of_the_movement_in_half_of_the_window_is_not_flat():
    steps, values = tuple(range(60)), tuple(0.2 + 0.001 * i for i in range(60))
    assert trend_of(steps, values, 0.1, 60).direction == "flat"  # 0.06 in the whole window
    assert trend_of(steps, values, 0.1, 150).direction == "unclear"  # on its way to 0.15
    assert trend_of(steps, (0.2,) * 60, 0.1, 150).direction == "flat"


def test_a_slow_fall_is_not_called_stuck_before_its_window_is_full():
    fall = {"trend": ["flat", "upward"], "change": 4, "window": 150, "from": 100, "sustained": 20}
    slowly = {step: 30 - 5 * step / 150 for step in range(1, 200)}
    assert "bad" not in feed(state(bad=[fall]), slowly)
    assert feed(state(bad=[fall]), dict.fromkeys(slowly, 30))[-1] == "bad"


def test_few_noisy_rows_leave_it_open():
    assert trend_of((20, 61, 102, 148), (60, 41, 46, 50), 4).direction == "unclear"
    assert (
        feed(state(bad=[{**TREND, "trend": ["flat"], "change": 4, "window": 150}]), {50: 60, 61: 41, 148: 50})[-1]
        == "too early"
    )


def test_unless_excuses_a_plateau_at_the_top():
    top = noisy(0.0, level=0.95)
    assert feed(state(good=[{**TREND, "unless": {"above": 0.8}}]), top)[-1] == "good"
    assert "bad" not in feed(state(bad=[{**TREND, "trend": "flat", "unless": {"above": 0.8}}]), top)


def test_the_state_goes_through_json_at_any_row():
    sides = {"good": [{"above": 0.1, "at": 70, "window": 5}], "bad": [{**TREND, "trend": ["flat"]}]}
    straight, values = state(**sides), noisy(0.0)
    expected = [verdict_at(straight, step, value) for step, value in values.items()]
    for cut in (1, 45, 69, 90):
        first, second = state(**sides), state(**sides)
        seen = [verdict_at(first, step, values[step]) for step in range(1, cut + 1)]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        seen += [verdict_at(second, step, values[step]) for step in range(cut + 1, 121)]
        assert seen == expected
