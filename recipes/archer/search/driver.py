"""The search's loop: propose, begin, follow, end; started again after a kill, it goes on where it was.

All that it knows is in the folder: the journal, the trials' locks and their run folders.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import (
    EMPTY,
    FINISHED,
    FOLDER,
    GUARD,
    HUNG_UP,
    INTERRUPTED,
    NOT_FINITE,
    TERMINATED,
)
from recipes.archer.search.course import Course, course_of
from recipes.archer.search.executors import Executor
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.plan import Plan
from recipes.archer.search.records import record_text, run_overrides
from recipes.archer.search.space import words
from recipes.archer.search.study import State, Study, name_of, origin, state_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

EVERY_S = 2.0  # between looks
ILL = (GUARD, EMPTY, NOT_FINITE)  # ends by a rule on the run's health
TAKEN_AWAY = (HUNG_UP, INTERRUPTED, TERMINATED, FOLDER, 128 + 9)  # ends that say nothing of the run
ATTEMPTS = 2  # a run that was lost is begun once more

Tell = Callable[[str], None]


class Driver:
    """Runs the trials of a study to their ends.

    Args:
        folder: of the search, taken.
        plan: what it is to do.
        study: the trials.
        executor: who runs them.
        more: adds the next trial to the study, None where there is none (left).
        tell: is told what happens, a line each.
    """

    def __init__(
        self,
        folder: SearchFolder,
        plan: Plan,
        study: Study,
        executor: Executor,
        more: "Callable[[], FrozenTrial | None]",
        tell: Tell,
    ):
        self.folder, self.plan, self.study, self.executor = folder, plan, study, executor
        self.more, self.tell = more, tell

    def run(self) -> None:
        """Until every trial has ended and there is no further one."""
        for trial in self.study.running:
            self._take_up(trial)
        while True:
            for trial in self.study.running:
                self._follow(trial)
            self._fill()
            if not self.study.running:
                return
            time.sleep(EVERY_S)

    def stop(self, grace_s: float) -> None:
        """Ends what runs, so that it saves; the search started again goes on with it."""
        running = self.study.running
        if self.executor.outlives:
            self.tell(f"{len(running)} jobs go on; the same command follows them again")
            return
        for trial in running:
            self.study.note(trial.number, state=asdict(replace(state_of(trial), paused=True)))
        self.tell(f"waiting for {len(running)} trials to save; the same command goes on")
        deadline = time.monotonic() + grace_s
        while (alive := [r for r in map(name_of, running) if self.executor.alive(r)]) and time.monotonic() < deadline:
            for run in alive:
                self.executor.stop(run)
            time.sleep(min(EVERY_S, 0.5))

    def _fill(self) -> None:
        """Begins trials while there is a free slot and a next trial."""
        while len(self.study.running) < self.executor.slots:
            if (trial := self.more()) is None:
                return
            self._begin(trial, attempts=1)

    def _begin(self, trial: "FrozenTrial", attempts: int) -> None:
        (of, seed), run = origin(trial), name_of(trial)
        if seed is None:
            self.folder.keep_record(run, record_text(self.plan, of, trial.params))
        state = State(self._slot(trial), attempts, state_of(trial).starts + 1)
        self.study.note(trial.number, state=asdict(state))
        self.tell(f"{run} begins: {words(trial.params)}" + (f", seed {seed}" if seed is not None else ""))
        self.executor.begin(run, run_overrides(self.plan, of, trial.params, seed), state.slot, state.starts)

    def _take_up(self, trial: "FrozenTrial") -> None:
        """A trial that was running when the process before this one ended."""
        run, state = name_of(trial), state_of(trial)
        if not state.starts or not self.executor.begun(run, state.starts):
            self._begin(trial, max(1, state.attempts))
        elif self.executor.alive(run):
            self.tell(f"{run} is running still, and is followed again")

    def _follow(self, trial: "FrozenTrial") -> None:
        """Reports what is new of a running trial, prunes it, or ends it."""
        run = name_of(trial)
        alive = self.executor.alive(run)  # first: what has ended has written everything by now
        course = course_of(self.folder.run_folder(run))
        pruned = trial.user_attrs.get("pruned") or self._report(trial, course)
        if pruned and alive:
            self.executor.stop(run)
        elif pruned:
            self._end(trial, "pruned", str(pruned["reason"]))
        elif not alive:
            self._over(trial, course)

    def _report(self, trial: "FrozenTrial", course: Course) -> dict[str, Any] | None:
        """Tells the study every new validation, in their order; why and where the trial is pruned at one of them.

        A run that went on while nobody looked is judged as if somebody had.
        """
        judged = trial.user_attrs.get("judged", 0)
        for measured in course.measured(self.plan.metric):
            if measured.step <= judged:
                continue
            self.tell(f"{name_of(trial)}: {self.plan.metric} {measured.value:.4g} at step {measured.step}")
            prune = self.study.report(trial.number, measured.step, measured.value)
            if prune and measured.step < self.plan.steps and origin(trial)[1] is None:
                reason = f"{self.plan.pruner}: {measured.value:.4g} at step {measured.step} is behind the others"
                pruned = {"reason": reason, "step": measured.step}
                self.study.note(trial.number, pruned=pruned)
                return pruned
            self.study.note(trial.number, judged=measured.step)
        return None

    def _over(self, trial: "FrozenTrial", course: Course) -> None:
        """What becomes of a trial whose run has ended."""
        run, state, known = name_of(trial), state_of(trial), self.executor.code(name_of(trial))
        code = known if known is not None and known >= 0 else course.exit_code
        peak = course.peak(self.plan.metric, self.plan.sign)
        if code == FINISHED and peak is not None:
            self._end(trial, "complete", f"{peak.value:.4g} at step {peak.step}", peak.value)
        elif code == FINISHED:
            self._end(trial, "fail", course.problem or f"it has never measured {self.plan.metric}")
        elif code in ILL:
            self._end(trial, "pruned", course.reason or f"exit code {code}")
        elif state.paused:
            self._begin(trial, state.attempts)
        elif code is not None and code not in TAKEN_AWAY:
            reason = course.reason or self.folder.last_words(run).removeprefix("error: ")
            self._end(trial, "fail", reason or f"exit code {code}")
        elif (said := self.executor.failed(run)) is not None:
            self._end(trial, "fail", said)
        elif state.attempts < ATTEMPTS:
            self.tell(f"{run} is lost{_how(code)}: it is begun once more")
            self._begin(trial, state.attempts + 1)
        else:
            self._end(trial, "fail", f"lost {state.attempts} times{_how(code)}")

    def _end(self, trial: "FrozenTrial", state: str, reason: str, value: float | None = None) -> None:
        self.study.note(trial.number, outcome=reason)
        self.study.end(trial.number, state, value)
        self.tell(f"{name_of(trial)} {'failed' if state == 'fail' else state}: {reason}")

    def _slot(self, trial: "FrozenTrial") -> int:
        """The slot that it had, where that is still its own, else a free one."""
        taken = {state_of(other).slot for other in self.study.running if other.number != trial.number}
        free = [slot for slot in range(self.executor.slots) if slot not in taken]
        had = state_of(trial).slot
        return had if had in free else free[0] if free else 0


def _how(code: int | None) -> str:
    return "" if code is None else f" (exit code {code})"
