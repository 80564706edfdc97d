"""A trial as an experiment: its record, the overrides that carry it into the run, and the winner's own file."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.experiments.new import Words, experiment_text, write_new
from recipes.archer.search.plan import Plan
from recipes.archer.search.space import Params, text_of, words
from recipes.archer.settings.configuration import compose

_BACKSLASHES = re.compile(r"(\\*)('|$)")  # in front of a quotation mark Hydra reads two as one
_UNSPOKEN = re.compile(r"[\\`$]")  # what no shell, no Hydra and no cluster has to carry in a sentence


def run_name(number: int, seed: int | None = None) -> str:
    """Of a trial's run; of one that confirms it, with the seed."""
    return f"trial-{number:03d}" + (f"-seed-{seed}" if seed is not None else "")


def run_overrides(plan: Plan, number: int, params: Params, seed: int | None = None) -> list[str]:
    """Everything that a trial's run adds to the base.

    Args:
        number: of the trial.
        seed: fresh, of a run that confirms; None: the base's.
    """
    return [*settings_of(plan, params, seed), *_names(plan, number, seed), *_record(plan, number, params)]


def settings_of(plan: Plan, params: Params, seed: int | None = None) -> list[str]:
    """The part of them that decides how it trains."""
    every = plan.every or validations(plan)
    fixed = [
        f"trainer.total_training_steps={plan.steps}",
        f"trainer.test_freq={every}",
        "trainer.keep_last=1",
        f"trainer.keep_best.metric={quoted(plan.metric)}",
        f"trainer.keep_best.mode={plan.mode}",
        "trainer.export=null",
        *([f"trainer.fork_from={quoted(plan.fork_from)}"] if plan.fork_from else []),
    ]
    own = [f"{key}={text_of(value)}" for key, value in params.items()]
    # the guard's stop is what prunes a trial that goes wrong; what confirms is evaluated at its peak
    fresh = [f"seed={seed}", f"trainer.save_freq={every}"] if seed is not None else []
    return [*fixed, *own, *plan.overrides, "guard.action=stop", *fresh]


def validations(plan: Plan) -> int:
    """Steps between validations: a third of the steps, and no more than the base has."""
    third, own = -(-plan.steps // 3), int(registry.composed(plan.base).trainer.test_freq)
    return min(third, own) if own > 0 else third


def changed(plan: Plan, params: Params) -> dict[str, Any]:
    """Of the settings, those that are not the base's own, as the configuration has them."""
    before = registry.composed(plan.base)
    values = {key: _value(plan.base, key, text_of(value)) for key, value in params.items()}
    return {key: value for key, value in values.items() if value != registry.value_at(before, key)}


@cache
def _value(base: str, key: str, text: str) -> Any:
    """What an override makes of a setting."""
    composed = compose([f"experiment={base}", *registry.machine_overrides(base), f"{key}={text}"])
    return registry.value_at(composed, key)


def base_overrides(plan: Plan) -> list[str]:
    """The base, with placeholders for what a machine decides."""
    return [f"experiment={plan.base}", *registry.machine_overrides(plan.base)]


def record_text(plan: Plan, number: int, params: Params) -> str:
    """The trial as an experiment's file, which is kept with the search."""
    name = f"{plan.name}-{run_name(number)}"
    delta = changed(plan, params)
    plain = Words(_title(plan, number, params), _problem(plan), dict.fromkeys(delta, _why(plan, number)))
    return experiment_text(name, plan.base, delta, _hypothesis(plan), plain)


def adopt(plan: Plan, number: int, params: Params, evidence: list[str], name: str | None) -> Path:
    """Writes a trial's settings as an experiment, with what the search found as its rationale.

    Args:
        evidence: sentences.
        name: of the experiment; None: the base's and the search's.

    Raises:
        UserError: it changes nothing, or the experiment cannot have that name.
    """
    delta = changed(plan, params)
    if not delta:
        raise UserError(f"trial {number} is {plan.base} itself, which is an experiment already; name another trial")
    name = name or f"{plan.base}_{plan.name.lower().replace('-', '_')}"
    if registry.launcher(name) != registry.launcher(plan.base):
        start = "tiny" if registry.launcher(plan.base) == registry.launcher("tiny") else "anything but tiny"
        raise UserError(f"--as {name}: a launcher goes by the name's beginning, so that this one's is {start}")
    told = _spoken(" ".join(evidence))
    found = Words(
        title=f"{words(params)}, from search {plan.name}",
        problem=f"{_problem(plan)} {told}",
        why={key: f"Trial {number} of search {plan.name}: {told}" for key in delta},
    )
    overrides = [f"{key}={text_of(params[key])}" for key in delta]
    hypothesis = f"What was best within {plan.steps} steps is better than {plan.base} in a whole run, too."
    return write_new(name, plan.base, overrides, hypothesis, found)


def quoted(text: str) -> str:
    """A text as a value of an override, whatever its characters."""
    return "'" + _BACKSLASHES.sub(lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text) + "'"


def _names(plan: Plan, number: int, seed: int | None) -> list[str]:
    return [f"trainer.project_name={plan.name}", f"trainer.experiment_name={run_name(number, seed)}"]


def _record(plan: Plan, number: int, params: Params) -> list[str]:
    why = _why(plan, number)
    texts = {
        "name": f"{plan.name}-{run_name(number)}",
        "title": _title(plan, number, params),
        "parent": plan.base,
        "problem": _problem(plan),
        "hypothesis": _hypothesis(plan),
    }
    items = ", ".join(f"{{key: {quoted(key)}, why: {quoted(why)}}}" for key in changed(plan, params))
    none = [f"record.{name}=null" for name in ("date", "commit", "job", "results")]
    said = [f"record.{name}={quoted(_spoken(text))}" for name, text in texts.items()]
    return [*said, f"record.changes=[{items}]", *none]


def _title(plan: Plan, number: int, params: Params) -> str:
    return f"Trial {number} of search {plan.name}: {_spoken(words(params))}"


def _problem(plan: Plan) -> str:
    keys = ", ".join(key for key, _ in plan.axes)
    most = "highest" if plan.sign > 0 else "lowest"
    return f"Search {plan.name}: which {keys} gives the {most} {plan.metric} in {plan.steps} steps of {plan.base}?"


def _hypothesis(plan: Plan) -> str:
    return _spoken(plan.hypothesis) or f"One of the {plan.trials} settings of the search is better than {plan.base}."


def _why(plan: Plan, number: int) -> str:
    return f"Trial {number} of search {plan.name}, proposed by its sampler, {plan.sampler}."


def _spoken(text: str) -> str:
    """A sentence on one line, without the characters that a shell or Hydra would act on."""
    return " ".join(_UNSPOKEN.sub("", text).replace("'", "’").replace('"', "”").split())
