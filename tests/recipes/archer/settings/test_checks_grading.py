"""The settings of grading that are wrong whatever the machine."""

import pytest

from recipes.archer.ending import UserError
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import compose

NEEDED = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]


@pytest.fixture(scope="module")
def config():
    return compose(NEEDED)


def test_what_the_recipe_has_is_right(config):
    check_settings(config)
    assert config.grading.budget_s == 60.0 and config.grading.reject_restated is True


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("budget_s", 0, "above 0 or null"),
        ("budget_s", "long", "above 0 or null"),
        ("reject_restated", "no", "true or"),
    ],
)
def test_a_setting_out_of_its_range_is_named(config, monkeypatch, name, value, remedy):
    monkeypatch.setitem(config.grading, name, value)
    with pytest.raises(UserError, match=f"grading.{name}={value}: use .*{remedy}"):
        check_settings(config)


@pytest.mark.parametrize("name", ["timeout_s", "budget_s", "memory_mb", "workers"])
@pytest.mark.parametrize("value", [10**400, -(10**400), 10**6000], ids=["long", "negative", "longer"])
def test_a_number_of_hundreds_of_digits_is_refused_and_not_shown(config, monkeypatch, name, value):
    monkeypatch.setitem(config.grading, name, value)
    with pytest.raises(UserError, match=f"grading.{name}=a number of some [0-9]+ digits: use ") as error:
        check_settings(config)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("value", [86_401, float("inf"), float("nan"), 0])
def test_a_check_takes_a_day_at_most(config, monkeypatch, value):
    monkeypatch.setitem(config.grading, "timeout_s", value)
    with pytest.raises(UserError, match="grading.timeout_s=.*: use a finite number, above 0, at most 86400"):
        check_settings(config)


def test_a_budget_may_be_none(config, monkeypatch):
    monkeypatch.setitem(config.grading, "budget_s", None)
    check_settings(config)
