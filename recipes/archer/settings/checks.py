"""What is wrong with a configuration whatever the machine, the model and the data: each setting, then all together.

Every setting is in a table: who reads it and which values make sense, or that nothing does and it keeps its value.
A new one gets its line there (``learning.py``, ``engine.py``, ``running.py``; ``unread.py``).
"""

import math
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError

from recipes.archer.ending import UserError
from recipes.archer.settings import engine, learning, running, unread
from recipes.archer.settings.configuration import compose, plain
from recipes.archer.settings.names import check_names
from recipes.archer.settings.relations import check_relations
from recipes.archer.settings.rules import Kept, Read

TABLE: dict[str, Read | Kept] = learning.TABLE | engine.TABLE | running.TABLE | unread.TABLE
IDLE = learning.IDLE | running.IDLE
MISSING = "???"
LONGEST_SHOWN = 200  # characters of a value in a message


def check_settings(config: DictConfig, *, elsewhere: bool = False) -> None:
    """Raises on the first setting that cannot be meant; takes neither a machine nor a file to know.

    Args:
        config: composed, its interpolations not yet resolved.
        elsewhere: it is for another machine, whose environment a setting may name; what depends on that is passed over.

    Raises:
        UserError: with the setting and the remedy.
    """
    given, device = leaves(config), OmegaConf.select(config, "trainer.device")
    _check_group(given, device)
    kept = _as_composed("cpu" if device == "cpu" else "cuda")
    gone = [name for name in kept if name not in given and not _has_section_of(name, given)]
    if gone:
        raise UserError(f"{gone[0]} is taken away; leave out the ~ and set it")
    for name, written in given.items():
        try:
            _check(config, name, written, kept)
        except InterpolationResolutionError as error:
            if not elsewhere or isinstance(error, InterpolationKeyError):
                raise
    try:
        check_names(config)
        check_relations(config)
    except InterpolationResolutionError as error:
        if not elsewhere or isinstance(error, InterpolationKeyError):
            raise


def idle_settings(config: DictConfig) -> list[str]:
    """Settings that have no effect in this run and may all the same be meant, a sentence each."""
    given, kept = leaves(config), _as_composed("cpu" if config.trainer.device == "cpu" else "cuda")
    return [
        f"{name}={_shown(_plain(config, name))} has no effect in this run: {condition.how}"
        for name, condition in IDLE.items()
        if given[name] != kept[name] and not condition.holds(config)
    ]


def rule_of(name: str) -> Read | Kept | None:
    """What the table says of a setting, or of a section of upstream's that it is in; None where it says nothing."""
    if (rule := TABLE.get(name)) is not None:
        return rule
    section = name
    while section := section.rpartition(".")[0]:
        if isinstance(rule := TABLE.get(section), Kept):
            return rule
    return None


def leaves(config: DictConfig) -> dict[str, Any]:
    """Every setting by its dotted name, as it is written: interpolations are not resolved."""
    return dict(_flat(plain(config, resolve=False), ""))


def _flat(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        name = f"{prefix}{key}"
        rule = TABLE.get(name)
        if isinstance(value, dict) and value and not (isinstance(rule, Read) and rule.section):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _has_section_of(name: str, given: dict[str, Any]) -> bool:
    """Whether a section of this setting is there as one value, or the setting as a section."""
    return any(name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in given)


@cache
def _as_composed(device: str) -> dict[str, Any]:
    """Every setting of the configuration without an experiment and without overrides."""
    return leaves(compose([f"device={device}"]))


def _check_group(given: dict[str, Any], device: Any) -> None:
    """``trainer.device`` alone is not enough: the group ``device`` brings what goes with it."""
    if device not in ("cuda", "cpu"):
        raise UserError(f"trainer.device={device}: use cuda or cpu")
    here = {name: value for name, value in _as_composed(device).items() if isinstance(rule_of(name), Kept)}
    if all(given.get(name) == value for name, value in here.items()):
        return
    there = _as_composed("cpu" if device == "cuda" else "cuda")
    if all(given.get(name) == there.get(name) for name, value in here.items() if value != there.get(name)):
        raise UserError(f"trainer.device={device} alone is half of it; write device={device}, without trainer.")


def _check(config: DictConfig, name: str, written: Any, kept: dict[str, Any]) -> None:
    rule = rule_of(name)
    if rule is None:
        near = get_close_matches(name, TABLE, 1, 0.6)
        raise UserError(f"{name}: nothing reads this setting; leave it out{f' (or is it {near[0]}?)' if near else ''}")
    changed = name not in kept or _distinct(written) != _distinct(kept[name])  # to Python, true is 1
    if not changed or written == MISSING:
        return
    value = _plain(config, name)
    shown = _shown(value)
    if isinstance(rule, Kept):
        raise UserError(f"{name}={shown} has no effect here; leave it out ({rule.remedy})")
    if not rule.fits(value):
        raise UserError(f"{name}={shown}: use {rule.use}")
    if rule.cpu is not None and config.trainer.device == "cpu":
        raise UserError(f"{name}={shown} cannot be had with device=cpu; leave it out ({rule.cpu})")
    if rule.only_if is not None and not rule.only_if.holds(config) and value != kept.get(name):
        raise UserError(f"{name}={shown} has no effect here; leave it out ({rule.only_if.how})")


_LONGEST_WHOLE_BITS = 100  # some 30 digits
_WORDS = {"None": "null", "True": "true", "False": "false"}  # Python's for YAML's; as text they are neither


def _distinct(value: Any) -> str:
    """The same for no two values; a whole number may have more digits than Python writes out."""
    return repr(value) if isinstance(value, bool) or not isinstance(value, int) else hex(value)


def _shown(value: Any) -> str:
    """As it is written in YAML, so far as that is one word; printable, and not endless."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_WHOLE_BITS:
        return f"a number of some {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = value if isinstance(value, str) and value.isprintable() and value not in _WORDS else repr(value)
    text = text if isinstance(value, str) else _WORDS.get(text, text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _plain(config: DictConfig, name: str) -> Any:
    value = OmegaConf.select(config, name, throw_on_missing=False)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
