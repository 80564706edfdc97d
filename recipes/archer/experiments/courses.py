"""What a run may change when it goes back: the record's contingencies, else the courses of the configuration."""

from collections.abc import Callable
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import Cause, UserError
from recipes.archer.experiments.overrides import absolute, is_bound, names_of, with_overrides
from recipes.archer.experiments.records import Record, fits, record_in
from recipes.archer.settings.checks import IDLE, check_settings, rule_of
from recipes.archer.settings.rules import Read

SETTING = "guard.rollback.courses"


@dataclass(frozen=True)
class Change:
    """One thing to change.

    Attributes:
        source: where it is written, by which a run knows it again.
        what: in words.
        overrides: the settings; of one that was chosen, with every factor worked out.
    """

    source: str
    what: str
    overrides: tuple[str, ...]


def changes_for(config: DictConfig, metric: str, goes: str | None = None) -> list[Change]:
    """What to try, in this order, where a metric is the trouble; ``goes``: ``up`` or ``down``, as it has.

    These are the record's contingencies that name the metric, else those that name none; where it has neither, the
    configuration's courses.  A contingency that changes what a run is bound to, as another model, is another run's.
    """
    record = record_in(config)
    if record is None:
        return _courses(config)
    known = [(record.contingency[i], change) for i, change in _contingencies(record)]
    named = [change for c, change in known if metric in c.metrics and fits(c, goes)]
    return named or [change for c, change in known if not c.metrics and fits(c, goes)] or _courses(config)


def next_change(
    config: DictConfig, cause: Cause, used: set[str], problem: Callable[[str], None] = lambda text: None
) -> tuple[Change, DictConfig] | None:
    """The first change that was not used and makes a difference, and the configuration with it; None: there is none.

    Args:
        config: in force, not resolved.
        used: sources of those that were tried for the same cause.
        problem: told of a change that cannot be made any more.
    """
    for change in changes_for(config, cause.metric, cause.goes):
        if change.source in used:
            continue
        try:
            chosen, changed = _made(config, change)
        except UserError as error:
            problem(f"{change.source}: {error}")
            continue
        if chosen is not None:
            return chosen, changed
    return None


def check_courses(config: DictConfig, *, elsewhere: bool = False) -> None:
    """Makes every change that the run could come to, alone.

    Args:
        elsewhere: see ``check_settings``.

    Raises:
        UserError: one of them cannot be made; names it.
    """
    record = record_in(config)
    for change in [*([c for _, c in _contingencies(record)] if record else []), *_courses(config)]:
        try:
            _made(config, change, elsewhere=elsewhere)
        except UserError as error:
            raise UserError(f"{change.source}: {error}") from None


def foreign(record: Record) -> list[str]:
    """Contingencies that are no course of the same run, a sentence each."""
    known = {i for i, _ in _contingencies(record)}
    return [
        f"record.contingency[{i}] ({c.what}) is no course for going back: it changes "
        f"{', '.join(filter(is_bound, names_of(c.overrides)))}, to which the run is bound"
        for i, c in enumerate(record.contingency)
        if i not in known and c.overrides
    ]


def _made(config: DictConfig, change: Change, *, elsewhere: bool = False) -> tuple[Change | None, DictConfig]:
    """The change worked out, and the configuration with it; no change where it makes no difference."""
    overrides = absolute(config, change.overrides)
    changed = with_overrides(config, overrides)
    names = names_of(overrides)
    if not any(_makes_a_difference(config, changed, name) for name in names):
        return None, config
    check_settings(changed, elsewhere=elsewhere)
    return Change(change.source, change.what, overrides), changed


def _makes_a_difference(before: DictConfig, after: DictConfig, name: str) -> bool:
    if OmegaConf.select(before, name) == OmegaConf.select(after, name):
        return False
    rule = rule_of(name)
    needed = IDLE.get(name) or (rule.only_if if isinstance(rule, Read) else None)
    return needed is None or needed.holds(after)


def _contingencies(record: Record) -> list[tuple[int, Change]]:
    """Those that a run can follow, with their places."""
    return [
        (i, Change(f"record.contingency[{i}]", c.what, c.overrides))
        for i, c in enumerate(record.contingency)
        if c.overrides and not any(map(is_bound, names_of(c.overrides)))
    ]


def _courses(config: DictConfig) -> list[Change]:
    return [
        Change(f"{SETTING}[{i}]", " ".join(overrides), tuple(overrides))
        for i, overrides in enumerate(config.guard.rollback.courses)
    ]
