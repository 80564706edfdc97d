"""Where the configuration comes from: Hydra over verl's ppo_trainer, without importing verl.

Importing this module makes ``config/archer.yaml`` composable: it registers the resolvers and says where
verl's own configuration lies.
"""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from recipes.archer.settings.names import NAMES, quoted_names

ROOT = Path(__file__).resolve().parents[3]
CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"

os.environ.setdefault("ARCHER_VERL_CONFIG", str(ROOT / "verl" / "trainer" / "config"))
OmegaConf.register_new_resolver("archer.sum", lambda *terms: sum(int(t) for t in terms), replace=True)
OmegaConf.register_new_resolver("archer.product", lambda *terms: math.prod(int(t) for t in terms), replace=True)
OmegaConf.register_new_resolver("archer.max", lambda *terms: max(int(t) for t in terms if t is not None), replace=True)


def compose(overrides: list[str] | None = None) -> DictConfig:
    """The configuration that the trainer would get for these Hydra overrides.

    Raises:
        hydra.errors.HydraException: an override names what does not exist.
    """
    with _hydra():
        config = hydra_compose("archer", overrides=quoted_names(overrides or []))
    spell_out(config)
    return config


def plain(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain mappings, lists and scalars."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))  # of a mapping, it is one


def _hydra() -> AbstractContextManager[Any]:
    """Hydra, ready to compose; in the entry point it is."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(CONFIG_DIR), version_base="1.3")


def spell_out(config: DictConfig) -> None:
    """Gives settings that can be written in several ways the form that everything else reads.

    ``policy_loss=aspo`` names the loss alone; a name in a file that YAML takes for a number is a text.
    """
    actor = config.actor_rollout_ref.actor
    if isinstance(actor.policy_loss, str):
        actor.policy_loss = {"loss_mode": actor.policy_loss}
    for name in NAMES:
        if isinstance(value := OmegaConf.select(config, name), int | float):
            OmegaConf.update(config, name, str(value))
