"""A run ends after its peak: only when the peak is old enough, and what came after it is worse by more than noise."""

import json
import math

import pytest

from recipes.archer.control.peak import Peak


def rows(values, width: float = 0.1, metric: str = "val/accuracy") -> list[dict]:
    """A row a step; every second one was not validated."""
    found = []
    for number, value in enumerate(values, start=1):
        found.append({"step": 2 * number - 1, metric: None})
        bounds = {} if value is None else {f"{metric}/low": value - width, f"{metric}/high": value + width}
        found.append({"step": 2 * number, metric: value} | bounds)
    return found


def end_of(rows, patience=2, metric="val/accuracy", mode="max"):
    """The step at which the run ends, and the reason; checked also as if it had been resumed before each row."""
    settings = {"patience": patience, "metric": metric, "mode": mode}
    peak = Peak(settings)
    for row in rows:
        again = Peak(settings)
        again.load_state_dict(json.loads(json.dumps(peak.state_dict())))
        peak = again
        peak.check(row)
        if ending := peak.ending():
            assert ending.exit_code == 0 and ending.status == "stopped"
            return row["step"], ending.reason
    return None


def test_it_ends_when_the_peak_is_old_and_the_decline_outside_its_interval():
    step, reason = end_of(rows([0.3, 0.6, 0.55, 0.45, 0.4]))
    assert step == 8
    assert "best at step 4, 0.6" in reason and "2 validations later it is 0.45" in reason


@pytest.mark.parametrize(
    "values",
    [
        [0.3, 0.6, 0.4],  # the peak is not old enough
        [0.3, 0.6, 0.55, 0.52, 0.51],  # the decline is inside the interval
        [0.3, 0.6, 0.4, 0.7, 0.65],  # there was a better one
        [0.3, 0.6, 0.4, 0.55, 0.58],  # it came back
        [None, None, math.nan],
        [],
    ],
)
def test_otherwise_it_goes_on(values):
    assert end_of(rows(values)) is None


def test_off_it_never_ends_a_run():
    assert end_of(rows([0.9, 0.1, 0.1, 0.1]), patience=None) is None


def test_of_a_metric_that_should_be_small_the_least_is_the_best():
    falling = rows([500, 300, 350, 450], width=100, metric="val/length")
    step, reason = end_of(falling, metric="val/length", mode="min")
    assert step == 8 and "best at step 4, 300" in reason


def test_of_a_metric_without_an_interval_any_decline_counts():
    plain = [{"step": i, "critic/score/mean": value} for i, value in enumerate([0.1, 0.5, 0.5, 0.49])]
    assert end_of(plain, metric="critic/score/mean")[0] == 3


@pytest.mark.parametrize("now", [{"metric": "reward/accuracy/mean"}, {"mode": "min"}])
def test_the_best_of_another_metric_is_not_compared_with(now):
    before = {"patience": 1, "metric": "val/accuracy", "mode": "max"}
    first = Peak(before)
    for row in rows([0.6, 0.62]):
        first.check(row)
    after = Peak(before | now)
    after.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert after.best is None and after.since == 0 and after.last is None
