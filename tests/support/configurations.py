"""Composed configurations, each made once: composing takes a fifth of a second, a copy a hundredth."""

import copy
from functools import cache

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from recipes.archer.settings.configuration import compose

MACHINE = ("data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m")
GONE = object()  # in the place of a value: the setting is taken away


@cache
def _composed(experiment: str, device: str) -> DictConfig:
    return compose([f"experiment={experiment}", f"device={device}", *MACHINE])


def configuration(*settings: str, experiment: str = "tiny", device: str = "cpu") -> DictConfig:
    """An experiment on a device, with further settings as ``name=value``, the value in YAML."""
    config = copy.deepcopy(_composed(experiment, device))
    for name, _, value in (setting.partition("=") for setting in settings):
        change(config, name, yaml.safe_load(value))
    return config


def change(config: DictConfig, name: str, value) -> None:
    """Sets, adds or takes away one setting, in place."""
    section, _, leaf = name.rpartition(".")
    with open_dict(config):
        if value is GONE:
            del (OmegaConf.select(config, section) if section else config)[leaf]
        else:
            OmegaConf.update(config, name, value, merge=False, force_add=True)
