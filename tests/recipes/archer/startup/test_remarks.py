"""What works but is seldom meant is said, and nothing else is."""

from pathlib import Path

import pytest

from recipes.archer.experiments import registry
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.remarks import MENDED, remarks

MACHINE = ["device=cpu", "data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]


@pytest.fixture
def make_config():
    return lambda *settings: compose(["experiment=tiny", *MACHINE, *settings])


def test_an_engine_that_samples_otherwise_than_the_trainer_computes_is_remarked_upon(make_config):
    assert remarks(make_config()) == []
    (remark,) = remarks(make_config("actor_rollout_ref.rollout.repetition_penalty=1.2"))
    assert "repetition_penalty=1.2" in remark and "rollout/log_ratio" in remark
    corrected = ["actor_rollout_ref.rollout.top_p=0.9", "actor_rollout_ref.actor.rollout_is_threshold=2.0"]
    assert remarks(make_config(*corrected)) == [] and remarks(make_config(corrected[0])) != []


def test_a_group_filter_by_the_shaped_reward_is_warned_about(make_config):
    (remark,) = remarks(make_config("algorithm.group_filter.metric=reward"))
    assert remark.startswith(f"tiny differs from {MENDED}") and "rewarded for being wrong" in remark
    off = ["algorithm.group_filter.metric=reward", "algorithm.group_filter.enable=false"]
    assert remarks(make_config(*off)) == []


def test_a_constant_of_another_loss_is_remarked_upon(make_config):
    """An experiment may have it for its children, so it is not refused."""
    actor = "actor_rollout_ref.actor"
    (remark,) = remarks(make_config(f"{actor}.ratio_cap=4.0"))
    assert remark == f"{actor}.ratio_cap=4.0 has no effect in this run: it counts with the loss aspo"
    assert remarks(make_config(f"{actor}.ratio_cap=4.0", f"{actor}.policy_loss.loss_mode=aspo")) == []
    (remark,) = remarks(make_config(f"{actor}.use_kl_loss=false", f"{actor}.kl_loss_coef=0.5"))
    assert remark.endswith(f"it counts with {actor}.use_kl_loss=true")


@pytest.mark.parametrize("name", ["v0", "v1", "v2", "v3", "v4", "v5"])
def test_the_search_says_what_it_does_otherwise_in_one_line(name):
    (remark,) = remarks(registry.composed(name))
    assert remark.startswith(f"{name} differs from v5_mended, which does neither: ") and "\n" not in remark
    assert "stop_at_turn_end=false" in remark and "group_filter.metric=reward" in remark


@pytest.mark.parametrize("name", [MENDED, "archer", "aspo", "tiny"])
def test_of_what_is_mended_nothing_is_said(name):
    assert remarks(registry.composed(name)) == []


def test_the_launchers_run_what_is_mended_when_nothing_else_is_named():
    root = Path(__file__).resolve().parents[4]
    assert f"${{EXPERIMENT:-{MENDED}}}" in (root / "scripts/train/lib/launch.sh").read_text()


@pytest.mark.parametrize(
    ("setting", "actuator", "counts_with"),
    [
        ("band=[0.2, 0.4]", "null", "bonus or advantage"),
        ("advantage.slew=0.2", "bonus", "advantage"),
        ("bonus.max=0.01", "advantage", "bonus"),
    ],
)
def test_a_constant_of_an_entropy_control_that_does_not_act_is_told(make_config, setting, actuator, counts_with):
    name = "control.entropy"
    (remark,) = remarks(make_config(f"{name}.{setting}", f"{name}.actuator={actuator}"))
    assert remark == f"{name}.{setting} has no effect in this run: it counts with {name}.actuator={counts_with}"
