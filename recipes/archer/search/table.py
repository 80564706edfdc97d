"""How a search stands: a line a trial, the best so far, how much of the budget is spent; in no form yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipes.archer.reports.figures import formatted
from recipes.archer.reports.verdict import state_of as verdict_of
from recipes.archer.search.checks import axes_of
from recipes.archer.search.course import NEAR, Course, Measured, course_of
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.plan import Plan
from recipes.archer.search.space import Axis, Params, words
from recipes.archer.search.study import CONFIRM, Study, name_of, origin
from recipes.archer.search.winner import Confirmed, confirmed, finding

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HEADINGS = ("trial", "changes", "step", "now", "peak", "entropy", "valid", "verdict", "outcome")
WORDS = {"RUNNING": "running", "COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "WAITING": "waiting"}


@dataclass(frozen=True)
class Line:
    """One trial; its texts are as they were found, not safe to show.

    Attributes:
        number, seed: of the trial, or of the one that it confirms and its fresh seed.
        params: its settings; changes: what it changes, in words.
        course: its run, a pruned one's up to where it was pruned.
        now, peak: the metric's last and best value.
        state: running, finished, pruned or failed.
        reason: why it ended; empty while it goes on.
        verdict: the monitor's word.
    """

    number: int
    seed: int | None
    run: str
    params: Params
    changes: str
    course: Course
    now: Measured | None
    peak: Measured | None
    state: str
    reason: str
    verdict: str

    @property
    def cells(self) -> tuple[str, ...]:
        """One for each of ``HEADINGS``."""
        entropy, valid = self.course.figure("actor/entropy"), self.course.figure("batch/valid")
        now = formatted(self.now.value if self.now else None, ".3f")
        return (
            str(self.number) + (f" seed {self.seed}" if self.seed is not None else ""),
            self.changes,
            str(self.course.step),
            now,
            with_interval(self.peak),
            formatted(entropy, ".2f"),
            formatted(valid, ".0f"),
            self.verdict,
            self.outcome,
        )

    @property
    def summary(self) -> tuple[str, ...]:
        """One for each of :func:`summary_headings`."""
        valid = self.course.figure("batch/valid", self.peak.step) if self.peak else None
        return (
            self.run,
            self.changes,
            with_interval(self.peak) + (f" (step {self.peak.step})" if self.peak else ""),
            formatted(self.course.figure("actor/entropy", NEAR), ".2f"),
            formatted(valid, ".0f"),
            self.outcome,
        )

    @property
    def outcome(self) -> str:
        """How it stands, and why; of one that finished its figures say that."""
        said = self.reason and self.state not in ("finished", "running")
        return f"{self.state}: {self.reason}" if said else self.state


def line_of(folder: SearchFolder, plan: Plan, trial: "FrozenTrial") -> Line:
    """A trial as its run folder and the journal have it."""
    (number, seed), run = origin(trial), name_of(trial)
    pruned = trial.user_attrs.get("pruned")
    course = course_of(folder.run_folder(run)).until(pruned["step"] if isinstance(pruned, dict) else None)
    measured = list(course.measured(plan.metric))
    state = WORDS.get(trial.state.name, trial.state.name.lower())
    return Line(
        number=number,
        seed=seed,
        run=run,
        params=trial.params,
        changes=words(trial.params),
        course=course,
        now=measured[-1] if measured else None,
        peak=course.peak(plan.metric, plan.sign),
        state=state,
        reason=course.problem or str(trial.user_attrs.get("outcome") or ""),
        verdict=verdict_of(course.run) if course.run is not None and course.rows else "–",
    )


def summary_headings(plan: Plan) -> tuple[str, ...]:
    """Of the table by which V0 to V5 were compared; a search of fewer steps has its entropies at its end."""
    entropy = f"entropy near step {min(NEAR, plan.steps)}"
    return "version", "changed", "score at peak", entropy, "valid at peak", "outcome"


def lines_of(folder: SearchFolder, plan: Plan, study: Study) -> list[Line]:
    """A line for each trial of a study, in their order."""
    return [line_of(folder, plan, trial) for trial in study.trials]


def best_so_far(plan: Plan, lines: Sequence[Line]) -> str:
    """The best trial that has finished, in a sentence."""
    done = [line for line in lines if line.state == "finished" and line.peak is not None]
    if not done:
        return "no trial has finished yet" if lines else "no trial has begun yet"
    best = done[0]
    for line in done[1:]:
        if line.peak is not None and best.peak is not None and plan.better(line.peak.value, best.peak.value):
            best = line
    step = f" at step {best.peak.step}" if best.peak else ""
    return f"best so far: trial {best.number}, {plan.metric} {with_interval(best.peak)}{step} ({best.changes})"


def budget(plan: Plan, lines: Sequence[Line], confirming: Sequence[Line]) -> str:
    """What of trials, steps and hours is spent."""
    ended = sum(line.state not in ("running", "waiting") for line in lines)
    running = sum(line.state == "running" for line in (*lines, *confirming))
    steps = sum(line.course.step for line in lines)
    hours = hours_of(lines)
    limit = f" of {plan.hours:g}" if plan.hours is not None else ""
    told = f"budget: {ended} of {plan.trials} trials, {steps} of {plan.trials * plan.steps} steps, {hours:.2f}{limit} h"
    told += f"; {running} running" if running else ""
    if plan.confirm:
        done = sum(line.state not in ("running", "waiting") for line in confirming)
        told += f"; confirmed with fresh seeds: {done} of {plan.confirm * plan.seeds} runs"
    return told


def hours_of(lines: Sequence[Line]) -> float:
    """Of all runs together."""
    return sum(line.course.hours for line in lines)


def with_interval(measured: Measured | None) -> str:
    """A value, with its 95% interval where it has one; a dash where there is none."""
    return "–" if measured is None else str(measured)


@dataclass(frozen=True)
class Standing:
    """A search at this moment.

    Attributes:
        lines, again: its trials, and the runs that confirm the best of them.
        found: what these say, the best first.
    """

    plan: Plan
    axes: list[Axis]
    study: Study
    confirming: Study
    lines: list[Line]
    again: list[Line]
    found: list[Confirmed]

    @property
    def sentences(self) -> list[str]:
        """Budget, the best so far, what was confirmed."""
        told = [budget(self.plan, self.lines, self.again), best_so_far(self.plan, self.lines)]
        if not self.again:
            return told
        best = self.study.complete[0].number if self.study.complete else None
        return [*told, *map(str, self.found), str(finding(self.plan, self.found, best))]

    @property
    def over(self) -> bool:
        """Whether nothing of it runs, and nothing is left to begin."""
        confirming = min(self.plan.confirm, len(self.study.complete)) * self.plan.seeds
        begun = len(self.lines) >= self.plan.trials and len(self.again) >= confirming
        return begun and not self.study.running and not self.confirming.running


def standing(folder: SearchFolder) -> Standing:
    """How a search stands, read without disturbing it.

    Raises:
        UserError: there is no such search, or it cannot be read.
    """
    plan = folder.plan()
    axes = axes_of(plan)
    study = Study(folder.journal, plan, axes, write=False)
    confirming = Study(folder.journal, plan, axes, CONFIRM, write=False)
    return stands(folder, plan, axes, study, confirming)


def stands(folder: SearchFolder, plan: Plan, axes: list[Axis], study: Study, confirming: Study) -> Standing:
    """The same, of studies that are open."""
    lines, again = lines_of(folder, plan, study), lines_of(folder, plan, confirming)
    return Standing(plan, axes, study, confirming, lines, again, confirmed(folder, plan, confirming))
