"""What a search is to do, from options or from a YAML file that says the same, and as it is kept with the search."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recipes.archer.cluster.settings import BACKENDS
from recipes.archer.ending import UserError
from recipes.archer.reading.regular import DamagedError
from recipes.archer.reading.yaml import read_yaml

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
EXECUTORS = ("local", *BACKENDS)
CHANGEABLE = ("trials", "parallel", "hours", "confirm", "seeds")  # also once the search is under way
NEEDED = ("base", "set", "steps")
MOST_TRIALS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        name: of the search, its folder and the project of its runs.
        base: experiment that every trial changes.
        axes: (key, what it may be) as text: ``A,B,C`` or ``LOW..HIGH[:log]``.
        metric: what decides, a key of the rows; the best value that a run has had.
        mode: ``max`` or ``min``.
        trials: how many, without those that confirm.
        steps: of training, each.
        every: steps between validations; None: a third of the steps, and no more than the base has.
        sampler: ``tpe``, ``random`` or ``grid``.
        pruner: ``median``, ``hyperband`` or ``none``.
        parallel: trials at a time.
        executor: ``local``, ``runai`` or ``kubernetes``.
        confirm: how many of the best are run again with fresh seeds; 0: none.
        seeds: fresh seeds for each of these.
        seed: of what is proposed.
        hours: of runs' time after which no further trial begins; None: no limit.
        fork_from: run or checkpoint that every trial begins at; None: the model's own weights.
        cluster: site settings for a cluster; None: the default file.
        hypothesis: what is expected, in words.
        overrides: of every trial, Hydra's.
    """

    name: str
    base: str
    axes: tuple[tuple[str, str], ...]
    metric: str = "val/accuracy"
    mode: str = "max"
    trials: int = 0
    steps: int = 0
    every: int | None = None
    sampler: str = "tpe"
    pruner: str = "median"
    parallel: int = 1
    executor: str = "local"
    confirm: int = 0
    seeds: int = 1
    seed: int = 0
    hours: float | None = None
    fork_from: str | None = None
    cluster: str | None = None
    hypothesis: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.mode == "max" else -1

    def better(self, value: float, other: float) -> bool:
        """Whether a value of the metric is better than another one."""
        return self.sign * value > self.sign * other


Given = Mapping[str, Any]  # by the names of the options; ``set`` is a mapping of texts, ``overrides`` a list


def plan_of(name: str, given: Given) -> Plan:
    """The plan that options or a file give.

    Raises:
        UserError: one is missing or unknown, or has no such value; says which.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name a search: at most 40 letters, digits, _ and -, the first no sign")
    known = {field for field in Plan.__dataclass_fields__ if field not in ("name", "axes")} | {"set"}
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"{unknown[0]} is nothing that a search knows; use {', '.join(sorted(known))}")
    if missing := [f"--{key}" for key in NEEDED if not given.get(key)]:
        raise UserError(f"{', '.join(missing)} is missing: a search needs a base, what to change, and its steps")
    fields = {key: _READERS[key](key, value) for key, value in given.items() if value is not None}
    plan = Plan(name, axes=fields.pop("set"), **fields)
    if plan.trials == 0 and plan.sampler != "grid":
        raise UserError("--trials is missing: say how many trials the search has")
    return plan


def read_plan(path: Path, inside: Path | None = None) -> dict[str, Any]:
    """What a YAML file gives, its values as they are written.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    content = read_yaml(path, as_written=True, inside=inside)
    if not isinstance(content, dict):
        raise DamagedError(path, "not a mapping of a search's options")
    return {key: value for key, value in content.items() if value not in ("", "null", "~")}


def plan_text(plan: Plan) -> str:
    """The plan as YAML that :func:`read_plan` reads; what is as usual is left out."""
    usual = asdict(Plan("", "", ()))
    content = {key: value for key, value in asdict(plan).items() if value != usual[key] and key not in ("name", "axes")}
    content = {"base": content.pop("base"), "set": dict(plan.axes), "metric": plan.metric, **content}
    content = {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def going_on(kept: Plan, given: Given) -> Plan:
    """The plan of a search that is under way, with what may still be changed.

    Raises:
        UserError: something else differs.
    """
    asked = plan_of(kept.name, {**_as_given(kept), **{key: value for key, value in given.items() if value is not None}})
    for field in Plan.__dataclass_fields__:
        before, now = getattr(kept, field), getattr(asked, field)
        if before != now and field not in CHANGEABLE:
            option = "set" if field == "axes" else field.replace("_", "-")
            raise UserError(
                f"search {kept.name} is under way with another --{option}: leave it out to go on, or name a new search"
            )
    return replace(kept, **{field: getattr(asked, field) for field in CHANGEABLE})


def _as_given(plan: Plan) -> dict[str, Any]:
    content = {key: value for key, value in asdict(plan).items() if key not in ("name", "axes")}
    return {**content, "set": dict(plan.axes)}


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key}: write a text")
    if "${" in value:
        raise UserError(f"{key}: ${{…}} would be read as a reference; write it without its dollar")
    return value


def _whole(least: int, most: int = 1 << 31) -> Callable[[str, Any], int]:
    def read(key: str, value: Any) -> int:
        number = _number(key, value)
        if number % 1 or not least <= number <= most:
            raise UserError(f"{key}={value}: use a whole number from {least}" + (f" to {most}" * (most < 1 << 31)))
        return int(number)

    return read


def _hours(key: str, value: Any) -> float:
    number = _number(key, value)
    if number <= 0:
        raise UserError(f"{key}={value}: use a number of hours above 0")
    return number


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise UserError(f"{key}={value!r:.80}: use a number")
    return number


def _one_of(*names: str) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        if value not in names:
            raise UserError(f"{key}={value!r:.80}: use {', '.join(names)}")
        return str(value)

    return read


def _set(_: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise UserError("set: write a mapping of settings, KEY: A,B,C or KEY: LOW..HIGH")
    return tuple((key, _values(key, one)) for key, one in value.items())


def _values(key: str, value: Any) -> str:
    """A list is the same as its values with commas between."""
    if isinstance(value, list):
        if not all(isinstance(one, str | int | float) for one in value):
            raise UserError(f"set: {key} has a value that is no plain one; write it as text, with quotation marks")
        return ",".join(str(one) for one in value)
    return _text(f"set: {key}", value)


def _list(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{key}: write a list of key=value")
    for one in value:
        if not isinstance(one, str) or "=" not in one:
            raise UserError(f"override {one!r:.80}: write key=value")
    return tuple(value)


_READERS: dict[str, Any] = {
    "base": _text,
    "set": _set,
    "metric": _text,
    "mode": _one_of("max", "min"),
    "trials": _whole(0, MOST_TRIALS),
    "steps": _whole(1),
    "every": _whole(1),
    "sampler": _one_of(*SAMPLERS),
    "pruner": _one_of(*PRUNERS),
    "parallel": _whole(1, 1000),
    "executor": _one_of(*EXECUTORS),
    "confirm": _whole(0, 100),
    "seeds": _whole(1, 100),
    "seed": _whole(0),
    "hours": _hours,
    "fork_from": _text,
    "cluster": _text,
    "hypothesis": lambda key, value: _text(key, value) if value else "",
    "overrides": _list,
}
