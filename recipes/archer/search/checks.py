"""What is wrong with a search, found before anything of it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.experiments.records import require_plan
from recipes.archer.metrics.names import metric_names
from recipes.archer.search.plan import Plan
from recipes.archer.search.records import base_overrides, settings_of
from recipes.archer.search.space import Axis, axis_of, grid, size
from recipes.archer.settings.command_line import explain
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.preflight import check_anywhere

# what the search itself decides for every trial
OWN = {
    "experiment": "--base",
    "device": "the launcher",
    "seed": "--confirm, with seeds of its own",
    "guard.action": "the search: a bad verdict ends the trial",
    "trainer.project_name": "the search: it is its name",
    "trainer.experiment_name": "the search: it is the trial's number",
    "trainer.total_training_steps": "--steps",
    "trainer.test_freq": "--every",
    "trainer.fork_from": "--fork-from",
    "record": "the search: it is the trial's",
}
NOT_SEARCHED = {
    "trainer.nnodes": "all trials have as many machines; give it behind the options, as an override",
}
SOURCES = "val/accuracy/"  # of one data source, which the prompt files name
MOST_GRID_CHECKS = 64  # combinations of a grid; more take longer than they tell


def check_plan(plan: Plan) -> tuple[Plan, list[Axis], dict[str, Any] | None]:
    """Everything that can be found wrong on this machine.

    Returns:
        The plan with its number of trials; what it may change; the base's own values, where the space holds them.

    Raises:
        UserError: in one line, with the remedy.
    """
    require_plan(registry.load_record(plan.base))
    for key, _ in plan.axes:
        if key.lstrip("+~") in NOT_SEARCHED:
            raise UserError(f"{key} cannot be searched: {NOT_SEARCHED[key.lstrip('+~')]}")
    for key in (*(key for key, _ in plan.axes), *(override.partition("=")[0] for override in plan.overrides)):
        _check_key(plan, key)
    if twice := {key for key, _ in plan.axes} & {override.partition("=")[0] for override in plan.overrides}:
        raise UserError(f"{sorted(twice)[0]} is searched and given as an override, too; leave one of them out")
    fixed = _checked(plan, {})
    axes = [axis_of(key, text, registry.value_at(fixed, key)) for key, text in plan.axes]
    seen = _check_values(plan, axes)
    plan = _with_trials(plan, axes)
    _check_metric(plan)
    base = {a.key: a.holding(registry.value_at(fixed, a.key), seen[a.key]) for a in axes}
    return plan, axes, base if all(value is not None for value in base.values()) else None


def axes_of(plan: Plan) -> list[Axis]:
    """What a plan that was checked before may change."""
    base = registry.composed(plan.base)
    return [axis_of(key, text, registry.value_at(base, key)) for key, text in plan.axes]


def _check_key(plan: Plan, key: str) -> None:
    launcher = registry.launcher(plan.base)
    if key[:1] in "+~" and key.lstrip("+~").partition(".")[0] != "guard":
        raise UserError(f"{key}: a search changes settings that there are; leave the sign out")
    name = key.lstrip("+~")
    for own, who in OWN.items():
        if name == own or name.startswith(f"{own}."):
            raise UserError(f"{key} cannot be set: it is decided by {who}")
    shared = plan.executor == "local" and plan.parallel > 1 and registry.composed(plan.base).trainer.device != "cpu"
    if name == "trainer.n_gpus_per_node" and shared:
        raise UserError(f"{key} cannot be set: it is decided by --parallel, which shares the GPUs out")
    if name in launcher.machine:
        raise UserError(f"{key} cannot be set: {launcher.path} decides it from the machine's facts")


def _check_values(plan: Plan, axes: Sequence[Axis]) -> dict[str, dict[str, Any]]:
    """Each value, or both ends of a range, by itself, and a grid's combinations.

    Returns:
        What each value is to the configuration, by key and text.
    """
    seen: dict[str, dict[str, Any]] = {axis.key: {} for axis in axes}
    for axis in axes:
        for text in axis.ends:
            config = _checked(plan, {axis.key: text})
            value = registry.value_at(config, axis.key)
            if any(value == other for other in seen[axis.key].values()):
                raise UserError(f"--set {axis.key}={axis}: {text} is there twice, written another way; leave one out")
            seen[axis.key][text] = value
    if plan.sampler == "grid" and len(axes) > 1:
        for point in grid(axes)[:MOST_GRID_CHECKS]:
            _checked(plan, point)
    return seen


def _checked(plan: Plan, params: Mapping[str, Any]) -> DictConfig:
    """The configuration of a trial, as far as it is the same on every machine.

    Raises:
        UserError: there is no such setting, or such a value cannot be meant.
    """
    try:
        config = compose([*base_overrides(plan), *settings_of(plan, params)])
        check_anywhere(config, elsewhere=plan.executor != "local")
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None
    return config


def _with_trials(plan: Plan, axes: Sequence[Axis]) -> Plan:
    number = size(axes)
    if plan.sampler == "grid":
        number = len(grid(axes))
        if plan.trials not in (0, number):
            raise UserError(f"--trials {plan.trials}: the grid has {number} points; leave it out")
        plan = replace(plan, trials=number)
    elif number is not None and plan.trials > number:
        raise UserError(f"--trials {plan.trials}: there are only {number} settings to try; lower it, or give more")
    if plan.trials < plan.parallel:
        raise UserError(f"--parallel {plan.parallel} is more than the {plan.trials} trials; lower it")
    if plan.confirm > plan.trials:
        raise UserError(f"--confirm {plan.confirm} is more than the {plan.trials} trials; lower it")
    if plan.every is not None and plan.every > plan.steps:
        raise UserError(f"--every {plan.every} is more than the {plan.steps} steps of a trial; lower it")
    if plan.sampler != "grid" and plan.trials < 2:
        raise UserError(f"--trials {plan.trials}: one run compares nothing; give at least 2")
    return plan


def _check_metric(plan: Plan) -> None:
    """A metric that no row has is found out now, not at the end of the first trial."""
    if plan.metric.startswith(SOURCES) and plan.metric not in metric_names([]):
        return  # the launcher's dry run knows the files
    check_among(plan.metric, metric_names([]))


def check_among(metric: str, known: frozenset[str] | set[str]) -> None:
    """Raises where a metric is none of those that rows have."""
    if metric not in known:
        last = metric.split("/")[-1]
        near = sorted(name for name in known if last in name.split("/")) or sorted(n for n in known if "val/" in n)
        raise UserError(f"--metric {metric}: no row has it; take one of docs/metrics.md, such as {', '.join(near[:3])}")


def check_sources(plan: Plan, val_files: Sequence[str]) -> None:
    """A metric of one data source needs held-out prompts of it.

    Raises:
        UserError: no file has one, or a file cannot be read.
    """
    from recipes.archer.prompts.file import read_prompt_file

    rows = [row for path in val_files for row in read_prompt_file(str(Path(path)), "prompt")]
    check_among(plan.metric, {f"{SOURCES}{row.get('data_source')}" for row in rows} | metric_names([]))
