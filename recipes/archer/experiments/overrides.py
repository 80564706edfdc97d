"""Overrides of a configuration that is composed already: what a run changes about itself when it goes back.

An override is Hydra's ``name=value``, or ``name*=factor`` of what is in force.  It gives a value, no reference, and it
leaves alone what a checkpoint, the run folder or the machine is bound to, and what would run code.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.settings.command_line import GROUPS, remedy
from recipes.archer.settings.configuration import spell_out

BOUND = (
    *GROUPS, "hydra", "seed", "data", "actor_rollout_ref.model", "actor_rollout_ref.seed", "trainer", "ray_init",
    "record", "grading", "custom_reward_function", "reward_model", "critic", "guard.action",
)  # fmt: skip
FREE = (  # of what stands below one of those
    "data.train_batch_size", "data.max_response_length", "data.max_val_response_length", "trainer.save_freq",
    "trainer.test_freq", "trainer.samples_freq", "trainer.max_empty_steps", "trainer.max_skipped_updates",
    "trainer.stop_after_best",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_TIMES = re.compile(r"([A-Za-z_][\w.]*)\*=(.+)")


def is_bound(name: str) -> bool:
    """Whether a setting stays as it is for as long as there is a run folder."""
    return _under(name, BOUND) and not _under(name, FREE)


def names_of(overrides: Iterable[str]) -> list[str]:
    """The settings that some overrides change; of a section that is given as a mapping, those in it.

    Raises:
        UserError: one of them is no override.
    """
    parsed = [_parsed(f"{times[1]}=0" if (times := _TIMES.fullmatch(o)) else o) for o in overrides]
    return [name for override in parsed for name in _leaves(override.key_or_group, override.value())]


def absolute(config: DictConfig, overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides with ``name*=factor`` worked out.

    Raises:
        UserError: such a setting or factor is no number.
    """
    return tuple(_worked_out(config, override) for override in overrides)


def with_overrides(config: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """A copy of a configuration, not yet resolved, with some settings changed; whether they make sense is not asked.

    Raises:
        UserError: there is no such setting, it is bound (:func:`is_bound`), or what is given is no value.
    """
    changed = copy.deepcopy(config)
    for text in overrides:
        override = _parsed(text)
        name, value = override.key_or_group, override.value()
        if override.is_delete() or override.is_sweep_override() or "${" in text:
            raise UserError(f"{text}: give a value, as in {name}=1")
        if bound := next(filter(is_bound, _leaves(name, value)), None):
            raise UserError(f"{bound} stays as it is within a run; leave it out")
        try:
            OmegaConf.update(changed, name, value, force_add=override.is_add() or override.is_force_add())
        except OmegaConfBaseException:
            raise UserError(f"{name}: there is no such setting; {remedy(name)}") from None
    spell_out(changed)
    return changed


def _parsed(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        override = None
    if override is None or not _NAME.fullmatch(override.key_or_group):
        raise UserError(f"{text} is no override; write name=value, or name*=factor")
    return override


def _leaves(name: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [name]
    return [leaf for key, below in value.items() for leaf in _leaves(f"{name}.{key}", below)]


def _worked_out(config: DictConfig, override: str) -> str:
    times = _TIMES.fullmatch(override)
    if times is None:
        return override
    name, factor = times[1], _number(times[2])
    value = _number(OmegaConf.select(config, name))
    if value is None or factor is None:
        what = f"{name} is no number" if factor is not None else f"{times[2]} is no number"
        raise UserError(f"{override}: {what}; write {name}=value")
    product = value * factor
    whole = isinstance(value, int) and product == int(product)
    return f"{name}={int(product) if whole else float(f'{product:.12g}')}"


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else None


def _under(name: str, roots: Sequence[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)
