"""Optuna's study of a search, in the journal of its folder: proposals, what was measured, how each trial ended.

A proposal is a function of the search's seed, the trial's number and the trials before it; it is written down whole, in
one line of the journal. A process that is killed and started again therefore proposes the same.
"""

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError
from recipes.archer.files import refuse_link
from recipes.archer.reading.regular import TABLE, UnreadableError, opened
from recipes.archer.search.plan import Plan
from recipes.archer.search.records import run_name
from recipes.archer.search.space import Axis, Choices, Params, grid

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SEARCH, CONFIRM = "search", "confirm"  # the trials, and the runs that confirm the best of them
TRIES = 100  # proposals for a trial before one that was made already is given up for the next free one


class Study:
    """The trials of a search, or those that confirm it.

    Args:
        journal: the file.
        plan: of the search.
        axes: what it may change.
        part: ``search`` or ``confirm``.
        write: whether this process holds the search; without, nothing is written.

    Raises:
        UserError: the journal cannot be read.
    """

    def __init__(self, journal: Path, plan: Plan, axes: Sequence[Axis], part: str = SEARCH, write: bool = True):
        self.plan, self.axes = plan, axes
        self._study = _opened(journal, plan, part, write)

    @property
    def trials(self) -> "list[FrozenTrial]":
        """All of them, in their order; none where nothing was written yet."""
        return [] if self._study is None else self._study.get_trials(deepcopy=False)

    @property
    def running(self) -> "list[FrozenTrial]":
        """Those that have not ended."""
        return [trial for trial in self.trials if not trial.state.is_finished()]

    @property
    def complete(self) -> "list[FrozenTrial]":
        """Those that came to their end with a value, the best first, the earlier of equals."""
        from optuna.trial import TrialState

        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return sorted(done, key=lambda trial: -self.plan.sign * (trial.value or 0.0))

    def add(self, params: Params, **attributes: Any) -> "FrozenTrial":
        """A new trial that has not begun."""
        from optuna.trial import TrialState, create_trial

        distributions = {axis.key: axis.distribution for axis in self.axes}
        state = TrialState.RUNNING
        trial = create_trial(state=state, params=dict(params), distributions=distributions, user_attrs=attributes)
        self._own.add_trial(trial)
        return self.trials[-1]

    def note(self, number: int, **attributes: Any) -> None:
        """Facts of a trial that outlive this process."""
        for name, value in attributes.items():
            self._trial(number).set_user_attr(name, value)

    def report(self, number: int, step: int, value: float) -> bool:
        """Writes a validation down, once; whether the pruner gives the trial up at it, the same however often asked."""
        trial = self.trials[number]
        said = trial.user_attrs.get("said")
        if said is None or said["step"] != step:
            if step not in trial.intermediate_values:  # as after a kill between this and the verdict
                self._trial(number).report(value, step)
            prune, notes = self._judged(number)
            said = {"step": step, "prune": prune, "notes": notes}
            self.note(number, said=said)
        return bool(said["prune"])

    def end(self, number: int, state: str, value: float | None = None) -> None:
        """How a trial ended: ``complete`` with its value, ``pruned`` or ``fail``."""
        from optuna.trial import TrialState

        self._own.tell(number, value, TrialState[state.upper()])

    def propose(self, base: Params | None) -> dict[str, Any] | None:
        """The next trial's settings; None where all that there are have been proposed.

        Args:
            base: the base's own values, where the space holds them: they are the first proposal.
        """
        number, made = len(self.trials), [trial.params for trial in self.trials]
        if self.plan.sampler == "grid":
            points = grid(self.axes)
            return points[number] if number < len(points) else None
        if number == 0 and base is not None:
            return dict(base)
        for attempt in range(TRIES):
            params = self._drawn(number, attempt)
            if params not in made:
                return params
        if not all(isinstance(axis, Choices) for axis in self.axes):
            return params
        return next((point for point in grid(self.axes) if point not in made), None)

    def importances(self) -> dict[str, float]:
        """How much each setting decides whether a trial is in the better half, in all 1; none from fewer than three.

        PED-ANOVA. One that was pruned counts by the best that it reached: the bad ones say most of what matters.
        """
        import optuna
        from optuna.trial import TrialState, create_trial

        study = optuna.create_study(direction=self._own.direction) if self.trials else None
        for trial in self.trials:
            value = self._reached(trial)
            if study is not None and value is not None and trial.state.is_finished():
                params, distributions = trial.params, trial.distributions
                study.add_trial(
                    create_trial(state=TrialState.COMPLETE, value=value, params=params, distributions=distributions)
                )
        values = [trial.value for trial in study.trials] if study is not None else []
        if study is None or len(values) < 3 or len(set(values)) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))

    def _reached(self, trial: "FrozenTrial") -> float | None:
        """Its value; of one that was pruned the best that it had measured; None where there is none."""
        from optuna.trial import TrialState

        if trial.state == TrialState.COMPLETE:
            return trial.value
        return max(trial.intermediate_values.values(), key=lambda value: self.plan.sign * value, default=None)

    def _judged(self, number: int) -> tuple[bool, dict[str, Any]]:
        """Whether the pruner gives a trial up, and its notes on it.

        It takes them while it answers, and answers another time by them. It is therefore asked in a study that is
        thrown away, and the notes are kept with the answer, in one line of the journal.
        """
        import optuna

        own = self._own
        study = optuna.create_study(study_name=own.study_name, direction=own.direction, pruner=own.pruner)
        for trial in map(copy, self.trials):
            trial.system_attrs = trial.user_attrs.get("said", {}).get("notes", {})
            study.add_trial(trial)
        prune = optuna.trial.Trial(study, study.trials[number]._trial_id).should_prune()
        return bool(prune), study.trials[number].system_attrs

    def _drawn(self, number: int, attempt: int) -> dict[str, Any]:
        import numpy as np
        import optuna

        seed = int(np.random.SeedSequence([self.plan.seed, number, attempt]).generate_state(1)[0])
        if self.plan.sampler == "random":
            return self._asked(optuna.samplers.RandomSampler(seed))
        if number < startup(self.plan.trials):
            return self._spread(number + attempt * self.plan.trials)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, multivariate=len(self.axes) > 1, seed=seed)
        return self._asked(sampler)

    def _asked(self, sampler: "optuna.samplers.BaseSampler") -> dict[str, Any]:
        """What a sampler proposes after the trials so far, in a study that is thrown away."""
        import optuna

        study = optuna.create_study(direction=self._own.direction, sampler=sampler)
        study.add_trials(self.trials)
        drawn = study.ask({axis.key: axis.distribution for axis in self.axes}).params
        return {a.key: drawn[a.key] if isinstance(a, Choices) else a.fitted(drawn[a.key]) for a in self.axes}

    def _spread(self, index: int) -> dict[str, Any]:
        """A point of Halton's sequence: the first trials fill the space more evenly than chance does."""
        from scipy.stats import qmc  # type: ignore[import-untyped]

        sequence = qmc.Halton(len(self.axes), scramble=True, seed=self.plan.seed)
        if index:
            sequence.fast_forward(index)
        return {axis.key: axis.at(float(share)) for axis, share in zip(self.axes, sequence.random(1)[0], strict=True)}

    def _trial(self, number: int) -> "optuna.trial.Trial":
        import optuna

        return optuna.trial.Trial(self._own, self.trials[number]._trial_id)

    @property
    def _own(self) -> "optuna.Study":
        assert self._study is not None, "written to by the process that holds the search"
        return self._study


@dataclass(frozen=True)
class State:
    """Where a running trial is.

    Attributes:
        slot: of the executor; -1: none yet.
        attempts: how often it was begun because it was new, or lost.
        starts: how often it was begun at all.
        paused: whether the search told it to end when the search itself was told to.
    """

    slot: int = -1
    attempts: int = 0
    starts: int = 0
    paused: bool = False


def state_of(trial: "FrozenTrial") -> State:
    """As the journal has it."""
    return State(**trial.user_attrs.get("state", {}))


def origin(trial: "FrozenTrial") -> tuple[int, int | None]:
    """Which trial's settings it has, and its fresh seed; of a trial of the search its own number, and None."""
    attributes = trial.user_attrs
    return (attributes["of"], attributes["seed"]) if "of" in attributes else (trial.number, None)


def name_of(trial: "FrozenTrial") -> str:
    """Its run's name."""
    return run_name(*origin(trial))


def startup(trials: int) -> int:
    """How many of the first trials fill the space, before the sampler has something to go by."""
    return min(10, max(3, -(-trials // 3)))


def _opened(journal: Path, plan: Plan, part: str, write: bool) -> "optuna.Study | None":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if write:
        _mend(journal)
    elif not os.path.lexists(journal):
        return None
    try:
        with opened(journal, TABLE, journal.parent):  # what Optuna then reads is a file of ours, and not endless
            storage = JournalStorage(JournalFileBackend(str(journal)))
        study, sampler, pruner = f"{plan.name}/{part}", optuna.samplers.RandomSampler(0), _pruner(plan)
        known = study in {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
        if not known and not write:
            return None
        if not known:
            optuna.create_study(
                study_name=study, storage=storage, direction="maximize" if plan.sign > 0 else "minimize"
            )
        return optuna.load_study(study_name=study, storage=storage, sampler=sampler, pruner=pruner)
    except UnreadableError:
        raise
    except Exception as error:  # whatever the journal may hold
        raise UserError(
            f"{journal} is damaged ({type(error).__name__}: {error}): restore it, or move it away"
        ) from None


def _mend(journal: Path) -> None:
    """Makes the journal one that can be gone on with: a kill may have left half a line, and Optuna's own lock."""
    refuse_link(journal)
    lock = journal.with_name(f"{journal.name}.lock")  # a link of Optuna's; this process holds the search's own
    if os.path.islink(lock):
        lock.unlink()
    with open(journal, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size and not (content := file.read()).endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _pruner(plan: Plan) -> "optuna.pruners.BasePruner":
    """No trial is given up before half of its steps by the median; by hyperband at its rungs."""
    import optuna

    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=plan.steps // 2)
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, plan.steps // 9), max_resource=plan.steps)
    return optuna.pruners.NopPruner()
