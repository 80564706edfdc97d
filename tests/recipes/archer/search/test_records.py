"""A trial is an experiment: its record reaches the run's configuration, and the winner's file composes."""

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.experiments.records import record_in, require_plan
from recipes.archer.search.plan import plan_of
from recipes.archer.search.records import adopt, base_overrides, changed, quoted, run_overrides
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.preflight import check_anywhere
from searching import KL, LR

GIVEN = {"base": "tiny", "set": {LR: "1e-4..1e-3:log", KL: "0,0.001"}, "trials": 6, "steps": 15}
PARAMS = {LR: 0.0003, KL: "0.001"}  # the second is the base's own


@pytest.mark.parametrize("hypothesis", ["", 'it\'s "so", {a: b} [c] at $5 `x` \\', "ü, 学 = 1 # no: comment"])
def test_the_record_in_the_run_is_the_trial_s(hypothesis):
    plan = plan_of("lr-kl", {**GIVEN, "hypothesis": hypothesis or None})
    config = compose([*base_overrides(plan), *run_overrides(plan, 3, PARAMS)])
    check_anywhere(config)
    record = record_in(OmegaConf.to_container(config, resolve=True))
    require_plan(record)
    assert (record.name, record.parent, record.results) == ("lr-kl-trial-003", "tiny", None)
    assert [change.key for change in record.changes] == [LR]
    assert record.criteria == registry.load_record("tiny").criteria
    assert config.actor_rollout_ref.actor.optim.lr == 0.0003
    assert (config.trainer.project_name, config.trainer.experiment_name) == ("lr-kl", "trial-003")
    assert (config.trainer.total_training_steps, config.trainer.test_freq, config.guard.action) == (15, 5, "stop")


@pytest.mark.parametrize("base", ["v5", "v5_mended", "tiny_collapse"])  # with results, a launcher of each kind
def test_an_experiment_can_be_a_base(base):
    plan = plan_of("s", {**GIVEN, "base": base, "set": {LR: "1e-7..1e-6:log"}, "steps": 100})
    config = compose([*base_overrides(plan), *run_overrides(plan, 0, {LR: 3e-7}, seed=8)])
    assert config.seed == 8 and config.trainer.save_freq == config.trainer.test_freq
    record_in(OmegaConf.to_container(config, resolve=True))


def test_what_is_the_base_s_own_is_no_change():
    assert changed(plan_of("s", GIVEN), PARAMS) == {LR: 0.0003}


@pytest.mark.parametrize("text", ["plain", "a 'b' c", 'a "b"', "ends in \\", "{a: [b]}", "ends in '\\'"])
def test_a_text_arrives_as_it_is(text):
    assert compose([f"trainer.fork_from={quoted(text)}"]).trainer.fork_from == text


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """A copy of the experiments, to write into."""
    import shutil

    shutil.copytree(registry.folder(), tmp_path / "experiment")
    monkeypatch.setattr(registry, "folder", lambda: tmp_path / "experiment")
    yield tmp_path / "experiment"
    registry.forget()


def test_the_winner_is_an_experiment_whose_rationale_is_the_evidence(experiments):
    plan = plan_of("lr-kl", GIVEN)
    path = adopt(plan, 3, PARAMS, ["val/accuracy 0.91 [0.88, 0.93].", 'Not "told apart".'], None)
    assert path == experiments / "tiny_lr_kl.yaml"
    record = registry.load_record("tiny_lr_kl")
    require_plan(record)  # nothing is left to be written
    assert record.parent == "tiny" and "0.91" in record.problem
    why = {change.key: change.why for change in record.changes}
    assert "val/accuracy 0.91" in why[LR] and set(why) == {LR, "trainer.experiment_name"}


@pytest.mark.parametrize(
    ("params", "name", "said"),
    [
        ({LR: 2e-4, KL: "0.001"}, None, "is tiny itself"),
        (PARAMS, "v9", "this one's is tiny"),
        (PARAMS, "tiny", "exists already"),
        (PARAMS, "tiny-x", "cannot name an experiment"),
    ],
)
def test_what_cannot_be_adopted(experiments, params, name, said):
    with pytest.raises(UserError, match=said):
        adopt(plan_of("lr-kl", GIVEN), 3, params, ["good"], name)
