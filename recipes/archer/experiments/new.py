"""Starts the next experiment: a file with the delta, derived names, and the plan to fill in."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.experiments.records import TODO, parse_record
from recipes.archer.files import write_atomically
from recipes.archer.settings import configuration
from recipes.archer.settings.checks import check_settings

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Words:
    """What of a plan is known already; the rest says TODO.

    Attributes:
        why: key to the reason for its value.
    """

    title: str = f"{TODO}: one line"
    problem: str | None = None
    why: Mapping[str, str] = field(default_factory=dict)


def write_new(name: str, parent: str, overrides: list[str], hypothesis: str, words: Words | None = None) -> Path:
    """Writes ``config/experiment/<name>.yaml``.

    Args:
        name: of the new experiment; lower case.
        parent: the experiment that it changes; its criteria and contingency are where the plan starts from.
        overrides: ``key=value``, Hydra's syntax.
        hypothesis: what is expected.
        words: what else of the plan is known.

    Raises:
        UserError: a bad name, an experiment of that name, an unknown parent or key, or a value that changes nothing.
    """
    path = registry.folder() / f"{name}.yaml"
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name an experiment: use lower-case letters, digits and underscores")
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: choose another name")
    registry.load_record(parent)
    changed = _changed(parent, overrides)
    run = registry.composed(parent).trainer.experiment_name
    changed["trainer.experiment_name"] = derived_name(run, parent, name)
    text = experiment_text(name, parent, changed, hypothesis, words or Words())
    _check_text(text, name, parent)
    try:
        write_atomically(path, text)
    except OSError as error:  # a read-only checkout, a full disk, a name that is too long
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    registry.forget()
    return path


def derived_name(parent_name: str, parent: str, name: str) -> str:
    """A run's name for the child: the parent's, with its own stem at the end replaced, or appended."""
    if parent_name == parent:
        return name
    return f"{parent_name.removesuffix(f'-{parent}')}-{name}"


def _changed(parent: str, overrides: list[str]) -> dict[str, Any]:
    """Key and value of each override; each has to exist and to differ from the parent's."""
    before, launcher, changed = registry.composed(parent), registry.launcher(parent), {}
    if not overrides:
        raise UserError("nothing is changed: give --set key=value")
    fixed = [f"experiment={parent}", *registry.machine_overrides(parent)]
    for override in overrides:
        key = override.partition("=")[0]
        if "=" not in override or key[:1] in "+~" or key in ("experiment", "device"):
            raise UserError(f"--set {override}: write key=value with a key of the configuration")
        if key in launcher.machine:
            raise UserError(f"--set {override}: {launcher.path} decides {key} from the machine's facts, no experiment")
        if key == "trainer.experiment_name":
            raise UserError(f"--set {override}: the run is named for the experiment; leave it out")
        try:
            after = configuration.compose([*fixed, override])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"--set {override}: {str(error).splitlines()[0]}") from None
        value = registry.value_at(after, key)
        if value == registry.value_at(before, key):
            raise UserError(f"--set {override} repeats the value of {parent}; leave it out")
        changed[key] = value
    try:
        check_settings(configuration.compose([*fixed, *overrides]))
    except OmegaConfBaseException as error:
        raise UserError(f"--set does not resolve: {str(error).splitlines()[0]}") from None
    return changed


def _check_text(text: str, name: str, parent: str) -> None:
    """Reads the file's text back before there is a file: a broken one would stand in the way of every command.

    Raises:
        UserError: it does not say what a record has to, or does not compose with its parent.
    """
    data = registry.content_of(text, f"{name}.yaml")
    record = registry.record_of(name, data)
    own = {key: value for key, value in data.items() if key != "defaults"}
    try:
        merged = OmegaConf.merge(registry.composed(parent), OmegaConf.create(own))
        OmegaConf.to_container(merged, resolve=True)
        plan = OmegaConf.to_container(merged.record, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{name}.yaml would not resolve: {str(error).splitlines()[0]}") from None
    if parse_record(plan, f"{name}.yaml: record") != record:
        raise UserError(f"{name}.yaml: the record would change when it is resolved: write ${{…}} without its dollar")


def experiment_text(name: str, parent: str, changed: dict[str, Any], hypothesis: str, words: Words) -> str:
    """An experiment's file: its delta, key to value, and its record."""
    nested = OmegaConf.create({})
    for key, value in changed.items():
        OmegaConf.update(nested, key, value)
    parts = [{"defaults": [parent, "_self_"]}, OmegaConf.to_container(nested)]
    parts.append({"record": _record(name, parent, changed, hypothesis, words)})
    body = "\n".join(yaml.safe_dump(part, sort_keys=False, allow_unicode=True, width=120) for part in parts)
    return f"# @package _global_\n{body}"


def _record(name: str, parent: str, changed: dict[str, Any], hypothesis: str, words: Words) -> dict[str, Any]:
    """The plan: what is known is filled in, the rest says TODO; criteria and contingency are the parent's."""
    plan = registry.plan_as_written(parent)
    why = {"trainer.experiment_name": "Its own W&B run.", **words.why}
    return {
        "name": name,
        "title": words.title,
        "parent": parent,
        "date": None,
        "commit": None,
        "job": registry.launcher(name).job_prefix + name.replace("_", "-"),
        "problem": words.problem or f"{TODO}: what {parent} showed that makes this run necessary",
        "hypothesis": hypothesis,
        "changes": [{"key": key, "why": why.get(key, f"{TODO}: why this value")} for key in changed],
        **plan,
        "results": None,
    }
