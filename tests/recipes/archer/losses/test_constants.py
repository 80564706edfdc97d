"""Impossible constants are refused with the setting's dotted name and the remedy."""

import math
from dataclasses import fields, replace

import pytest
from omegaconf import OmegaConf

from recipes.archer.losses.constants import NULLABLE, POLICY_LOSSES, LossConfig, loss_config_from, setting_name
from recipes.archer.settings.configuration import compose

IMPOSSIBLE = [
    ("policy_loss", "ppo", "unknown; use one of vanilla"),
    ("token_class_from", "future", "unknown; use one of current, rollout"),
    ("loss_agg_mode", "mean", "unknown; use one of token-mean"),
    ("kl_loss_type", "full", "unknown; use one of low_var_kl"),
    ("clip_ratio_low", -0.1, "cannot be negative"),
    ("clip_ratio_high", -0.1, "cannot be negative"),
    ("clip_ratio_high", "0.2", "must be a number"),
    ("clip_ratio_low", math.nan, "cannot be negative"),
    ("clip_low_entropy", (-0.2, 0.2), "must be [lower, upper]"),
    ("clip_low_entropy", 0.2, "must be [lower, upper]"),
    ("clip_low_entropy", (math.nan, 0.2), "must be [lower, upper]"),
    ("clip_high_entropy", (0.2, 0.2, 0.2), "must be [lower, upper]"),
    ("clip_high_entropy", "ab", "must be [lower, upper]"),
    ("clip_high_entropy", (0.2, -0.2), "must be [lower, upper]"),
    ("clip_ratio_c", 1.0, "must exceed 1"),
    ("ratio_cap", 1.0, "must exceed 1"),
    ("ratio_cap", 0.5, "must exceed 1"),
    ("ratio_cap", True, "must be a number"),
    ("token_entropy_quantile", 0.0, "(0, 1]"),
    ("token_entropy_quantile", 1.1, "(0, 1]"),
    ("token_entropy_quantile", math.nan, "(0, 1]"),
    ("entropy_coeff", math.inf, "must be finite"),
    ("kl_loss_coef", -0.01, "0 or more"),
    ("kl_loss_high_entropy_scale", -1, "0 or more"),
    ("ppo_kl_coef", math.inf, "0 or more"),
    ("rollout_is_threshold", 0.5, "at least 1"),
    ("norm_length", 0, "1 or more"),
    ("norm_length", math.inf, "1 or more"),
    ("clip_cov_ratio", 0, "(0, 1]"),
    ("kl_cov_ratio", 2, "(0, 1]"),
    ("clip_cov_ub", 0.5, "must exceed clip_cov_lb=1.0"),
]


@pytest.mark.parametrize("field, value, remedy", IMPOSSIBLE)
def test_impossible_values_are_refused_by_name_with_a_remedy(field, value, remedy):
    with pytest.raises(ValueError) as error:
        LossConfig(**{field: value})
    message = str(error.value)
    assert message.startswith(setting_name(field) + " is ") and remedy in message and "\n" not in message


def test_setting_names_are_dotted():
    assert setting_name("ratio_cap") == "actor_rollout_ref.actor.ratio_cap"
    assert setting_name("policy_loss") == "actor_rollout_ref.actor.policy_loss.loss_mode"


def test_clip_higher_must_be_higher():
    with pytest.raises(ValueError, match="clip_ratio_high is 0.2: clip_higher needs it above clip_ratio_low=0.2"):
        LossConfig(policy_loss="clip_higher")
    assert LossConfig(policy_loss="clip_higher", clip_ratio_high=0.28).clip_ratio_high == 0.28


def test_possible_extremes_are_accepted():
    LossConfig(
        clip_low_entropy=(0, 0), ratio_cap=math.inf, clip_ratio_c=1.001, token_entropy_quantile=1, kl_loss_coef=0
    )


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_names_with_a_hyphen_are_the_same(name):
    assert LossConfig(policy_loss=name.replace("_", "-"), clip_ratio_high=0.28).policy_loss == name


def test_kl_coefficients_by_class():
    config = LossConfig(use_kl_loss=True, kl_loss_coef=0.05, kl_loss_high_entropy_scale=0.0)
    assert config.kl_coefs == (0.05, 0.0)
    assert LossConfig(kl_loss_coef=0.05).kl_coefs == (0.05, 0.05)


@pytest.mark.parametrize(
    "constants, uses",
    [
        ({}, False),
        ({"policy_loss": "aspo"}, True),
        ({"policy_loss": "archer"}, True),
        ({"use_kl_loss": True}, False),
        ({"use_kl_loss": True, "kl_loss_high_entropy_scale": 0.0}, True),
        ({"use_kl_loss": False, "kl_loss_high_entropy_scale": 0.0}, False),
    ],
)
def test_whether_the_loss_depends_on_token_classes(constants, uses):
    assert LossConfig(**constants).uses_token_classes is uses


def test_defaults_are_the_base_configurations():
    """Whoever builds a `LossConfig` by hand gets what a run gets."""
    needed = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    composed = loss_config_from(compose(needed).actor_rollout_ref.actor)
    assert replace(composed, use_kl_loss=False, norm_length=None) == LossConfig()


def test_read_from_the_actors_configuration():
    actor = {
        "clip_ratio": 0.3,
        "clip_ratio_low": None,
        "clip_ratio_high": 0.4,
        "clip_low_entropy": [0.1, 0.15],
        "policy_loss": {"loss_mode": "clip-cov", "clip_cov_lb": 2.0, "ppo_kl_coef": 0.1},
        "rollout_is_threshold": None,
        "ppo_epochs": 3,
    }
    expected = LossConfig(
        policy_loss="clip_cov",
        clip_ratio_low=0.3,
        clip_ratio_high=0.4,
        clip_low_entropy=(0.1, 0.15),
        clip_cov_lb=2.0,
        ppo_kl_coef=0.1,
    )
    assert loss_config_from(actor) == expected == loss_config_from(OmegaConf.create(actor))
    assert loss_config_from({}) == LossConfig()


def test_the_policy_loss_may_be_named_alone():
    for actor in ({"policy_loss": "aspo"}, OmegaConf.create({"policy_loss": "aspo", "ratio_cap": 3.0})):
        assert loss_config_from(actor) == LossConfig(policy_loss="aspo")
    with pytest.raises(ValueError, match="policy_loss.loss_mode is 'apso': unknown"):
        loss_config_from({"policy_loss": "apso"})


@pytest.mark.parametrize("value", [None, ["aspo"], 3])
def test_what_is_no_policy_loss_is_refused(value):
    with pytest.raises(ValueError, match="^actor_rollout_ref.actor.policy_loss is .*: must hold loss_mode$"):
        loss_config_from(OmegaConf.create({"policy_loss": value}))


@pytest.mark.parametrize("name", [field.name for field in fields(LossConfig) if field.name not in NULLABLE])
def test_null_is_not_the_default_in_disguise(name):
    node = None
    for key in reversed(setting_name(name).removeprefix("actor_rollout_ref.actor.").split(".")):
        node = {key: node}
    actor = {"clip_ratio": None, "clip_ratio_low": 0.2, "clip_ratio_high": 0.2} | node  # the first: upstream's for both
    for given in (actor, OmegaConf.create(actor)):
        with pytest.raises(ValueError, match=rf"^{setting_name(name)} is None: leave it out"):
            loss_config_from(given)


def test_pairs_are_read_from_a_configuration():
    with pytest.raises(ValueError, match="actor_rollout_ref.actor.clip_low_entropy"):
        loss_config_from(OmegaConf.create({"clip_low_entropy": [0.1, -0.15]}))
