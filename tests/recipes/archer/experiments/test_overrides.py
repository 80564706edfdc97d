"""Overrides of a configuration that is composed already."""

import pytest

from configurations import configuration
from recipes.archer.ending import UserError
from recipes.archer.experiments.overrides import absolute, is_bound, names_of, with_overrides

LR, KL = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.kl_loss_coef"


def test_the_copy_is_changed_and_what_follows_from_a_setting_follows_it():
    config = configuration()
    changed = with_overrides(
        config, [f"{LR}=1e-5", "data.max_response_length=200", "actor_rollout_ref.actor.policy_loss=aspo"]
    )
    assert changed.actor_rollout_ref.actor.optim.lr == 1e-5 and config.actor_rollout_ref.actor.optim.lr == 2e-4
    assert changed.actor_rollout_ref.rollout.response_length == 200
    assert changed.actor_rollout_ref.actor.policy_loss.loss_mode == "aspo"
    assert with_overrides(config, []) == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (f"{LR}*=0.5", f"{LR}=0.0001"),
        (f"{KL}*=2", f"{KL}=0.002"),
        ("actor_rollout_ref.rollout.n*=2", "actor_rollout_ref.rollout.n=16"),
        (f"{LR}=3", f"{LR}=3"),
    ],
)
def test_a_factor_is_worked_out(override, expected):
    assert absolute(configuration(), [override]) == (expected,)
    assert names_of([override]) == [expected.partition("=")[0]]


@pytest.mark.parametrize("override", [f"{LR}*=x", "trainer.export*=2", "nothing.here*=2", f"{LR}*=1e999"])
def test_a_factor_of_no_number_is_refused(override):
    with pytest.raises(UserError, match="is no number"):
        absolute(configuration(), [override])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("actor_rollout_ref.actor.lr=1", "actor_rollout_ref.actor.lr: there is no such setting; did you mean"),
        (f"{LR}=1,2", "give a value"),
        (f"~{LR}", "give a value"),
        (f"{LR}=${{oc.env:SECRET}}", "give a value"),
        (f"{LR}==", "is no override"),
        ("experiment=v5", "experiment stays as it is within a run"),
        ("actor_rollout_ref.model.path=other", "actor_rollout_ref.model.path stays as it is"),
        ("custom_reward_function.path=/tmp/evil.py", "custom_reward_function.path stays"),
        ("grading.data_sources={a: os:system}", "grading.data_sources.a stays"),
        ("trainer.default_local_dir=/tmp/elsewhere", "trainer.default_local_dir stays"),
        ("guard.action=off", "guard.action stays"),
        ("+data.custom_cls.path=evil.py", "data.custom_cls.path stays"),
        ("data={train_files: b}", "data.train_files stays"),
        ("actor_rollout_ref={model: {path: b}}", "actor_rollout_ref.model.path stays"),
        ("data/x=1", "is no override"),
        ("data[train_files]=1", "is no override"),
    ],
)
def test_what_is_no_change_of_a_run_is_refused(override, problem):
    with pytest.raises(UserError, match=problem):
        with_overrides(configuration(), [override])


def test_what_is_bound():
    assert is_bound("data.train_files") and not is_bound("data.train_batch_size") and not is_bound("database")
    assert is_bound("trainer.logger") and not is_bound("trainer.stop_after_best.patience")
