"""A search from what was asked for to its end: checked, taken, run, confirmed."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.search.checks import SOURCES, check_plan, check_sources
from recipes.archer.search.driver import Driver
from recipes.archer.search.executors import Executor, LocalExecutor, gpu_groups
from recipes.archer.search.folder import SearchFolder, home
from recipes.archer.search.jobs import JobExecutor
from recipes.archer.search.plan import Plan, going_on, plan_of
from recipes.archer.search.records import adopt, base_overrides, run_overrides, settings_of
from recipes.archer.search.study import CONFIRM, Study, origin
from recipes.archer.search.table import hours_of, lines_of, standing, stands
from recipes.archer.search.winner import chosen, evaluate, evidence, wanted
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.gpus import num_gpus

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

GRACE_S = 120.0  # for trials to save when the search is told to stop

Tell = Callable[[str], None]


class Search:
    """One process's work on a search.

    Args:
        name: of the search.
        given: options by name, those that were given.
        archer: argv of the ``archer`` command.
        tell: is told what happens, a line each.

    Raises:
        UserError: something is wrong with it; nothing has been run.
        FolderInUseError: another process works on it.
    """

    def __init__(self, name: str, given: Mapping[str, Any], archer: Sequence[str], tell: Tell):
        self.folder, self.archer, self.tell = SearchFolder(name), archer, tell
        plan = going_on(self.folder.plan(), given) if self.folder.exists else plan_of(name, given)
        self.plan, self.axes, self.base = check_plan(plan)
        self.executor = executor_for(self.folder, self.plan, archer, tell)
        _check_machine(self.plan, self.executor, self.base or {axis.key: axis.at(0.0) for axis in self.axes})
        self.folder.take()
        self.folder.keep(self.plan)
        self.study = Study(self.folder.journal, self.plan, self.axes)
        self.confirming = Study(self.folder.journal, self.plan, self.axes, CONFIRM)
        self._driver: Driver | None = None

    def run(self) -> None:
        """The trials, then the runs that confirm the best of them."""
        self._drive(self.study, self._next)
        if self.plan.confirm:
            self._drive(self.confirming, self._next_to_confirm)
            if self.plan.executor == "local":
                evaluate(self.folder, self.plan, self.confirming.complete, self.archer, self.tell)
        for told in stands(self.folder, self.plan, self.axes, self.study, self.confirming).sentences:
            self.tell(told)

    def stop(self) -> None:
        """Ends what runs; the same search goes on when it is started again."""
        if self._driver is not None:
            self._driver.stop(GRACE_S)

    def _drive(self, study: Study, more: "Callable[[], FrozenTrial | None]") -> None:
        self._driver = Driver(self.folder, self.plan, study, self.executor, more, self.tell)
        self._driver.run()

    def _next(self) -> "FrozenTrial | None":
        if len(self.study.trials) >= self.plan.trials:
            return None
        if self.plan.hours is not None and hours_of(lines_of(self.folder, self.plan, self.study)) >= self.plan.hours:
            return None
        params = self.study.propose(self.base)
        return None if params is None else self.study.add(params)

    def _next_to_confirm(self) -> "FrozenTrial | None":
        known = {origin(trial) for trial in self.confirming.trials}
        for of, seed in wanted(self.plan, self.study):
            if (of, seed) not in known:
                return self.confirming.add(self.study.trials[of].params, of=of, seed=seed)
        return None


def adopt_trial(name: str, number: int | None, experiment: str | None) -> Path:
    """Writes a trial's settings as an experiment.

    Args:
        name: of the search.
        number: of the trial; None: the one that was confirmed as the best, else the best.
        experiment: the experiment's name; None: the base's and the search's.

    Raises:
        UserError: there is no such search or trial, or the experiment cannot be written.
    """
    folder = SearchFolder(name)
    now = standing(folder)
    number = chosen(name, now.study, now.found, number)
    told = evidence(folder, now.plan, now.study, now.found, number)
    return adopt(now.plan, number, now.study.trials[number].params, told, experiment)


def executor_for(folder: SearchFolder, plan: Plan, archer: Sequence[str], tell: Tell) -> Executor:
    """Who runs the trials.

    Args:
        tell: is told what a cluster says, a line each.

    Raises:
        UserError: the GPUs cannot be shared out.
    """
    if plan.executor != "local":
        nodes = int(compose([*base_overrides(plan), *settings_of(plan, {})]).trainer.nnodes)
        return JobExecutor(folder, archer, plan.base, plan.executor, plan.parallel, plan.cluster, nodes, tell)
    on_gpus = registry.composed(plan.base).trainer.device != "cpu" and os.environ.get("DEVICE") != "cpu"
    groups = gpu_groups(plan.parallel, os.environ, num_gpus()) if on_gpus and plan.parallel > 1 else []
    return LocalExecutor(folder, registry.launcher(plan.base).path, plan.base, plan.parallel, groups)


def _check_machine(plan: Plan, executor: Executor, params: Mapping[str, Any]) -> None:
    """What only the machine that runs the trials knows: its dry run of one of them.

    Raises:
        UserError: what it says.
    """
    if plan.fork_from is not None and plan.executor == "local":
        from recipes.archer.export.choosing import choose
        from recipes.archer.runs.folder import locate

        try:
            choose(locate(plan.fork_from, home()))
        except UserError as problem:
            raise UserError(f"--fork-from: {problem}") from None
    config = executor.rehearse(run_overrides(plan, 0, params))
    if plan.metric.startswith(SOURCES) and config:
        files = config["data"]["val_files"]
        check_sources(plan, [files] if isinstance(files, str) else files)
