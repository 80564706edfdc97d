"""Which trial is the best: those that look it run again with fresh seeds, compared question by question; and adopted.

The best value of many trials is high also by luck; what decides is measured anew.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError
from recipes.archer.evaluation.comparison import WORSE, compare
from recipes.archer.evaluation.tables import evaluations_in
from recipes.archer.experiments import registry
from recipes.archer.search.course import course_of
from recipes.archer.search.folder import LOGS, SearchFolder
from recipes.archer.search.plan import Plan
from recipes.archer.search.space import words
from recipes.archer.search.study import Study, name_of, origin

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Confirmed:
    """One of the best, by its runs with fresh seeds.

    Attributes:
        number: of the trial.
        values: the metric at each run's peak.
        scores: right responses by question, all runs together, as ``scores.json`` has them; None: not evaluated.
    """

    number: int
    values: tuple[float, ...]
    scores: dict[str, Any] | None

    @property
    def share(self) -> float | None:
        """Of right responses."""
        if self.scores is None:
            return None
        right = sum(question["num_correct"] for question in self.scores["questions"])
        return float(right / (self.scores["n"] * len(self.scores["questions"])))

    def __str__(self) -> str:
        values = ", ".join(f"{value:.4g}" for value in self.values)
        right = f", {self.share:.3f} of its responses right when evaluated" if self.share is not None else ""
        return f"trial {self.number} with fresh seeds: {values or 'no run came to its end'}{right}"


def wanted(plan: Plan, study: Study) -> list[tuple[int, int]]:
    """(trial, fresh seed) of every run that confirms: the best trials, each with the same seeds."""
    seed = int(registry.composed(plan.base).seed)
    best = study.complete[: plan.confirm]
    return [(trial.number, seed + 1 + i) for i in range(plan.seeds) for trial in best]


def evaluate(folder: SearchFolder, runs: "Sequence[FrozenTrial]", archer: Sequence[str], tell: Tell) -> None:
    """Evaluates runs that confirm on their held-out prompts, those that are not yet, one after the other."""
    for trial in runs:
        run = name_of(trial)
        path = folder.run_folder(run)
        course = course_of(path)
        if course.run is None or evaluations_in(path):
            continue
        tell(f"{run} is evaluated")
        command = [*archer, "evaluate", str(path), "--data", *_val_files(course.run.config)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            with open(folder.path / LOGS / f"{run}-evaluation.log", "w") as log:
                log.write(done.stdout + done.stderr)
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            tell(f"{run} could not be evaluated: {lines[-1] if lines else f'exit code {done.returncode}'}")


def confirmed(folder: SearchFolder, plan: Plan, confirming: Study) -> list[Confirmed]:
    """What the runs with fresh seeds say of each trial, the best first."""
    of: dict[int, list[FrozenTrial]] = {}
    for trial in confirming.trials:
        of.setdefault(origin(trial)[0], []).append(trial)
    found = []
    for number, trials in of.items():
        done = [trial for trial in trials if trial.value is not None and trial.state.name == "COMPLETE"]
        values = tuple(float(trial.value or 0) for trial in done)
        found.append(Confirmed(number, values, _pooled(folder, trials)))
    return sorted(found, key=lambda one: _order(plan, one), reverse=True)


def sentence(plan: Plan, found: Sequence[Confirmed]) -> str:
    """Which is better, and how surely."""
    if len(found) < 2:
        return str(found[0]) if found else "nothing was confirmed"
    first, second = found[0], found[1]
    if first.scores is None or second.scores is None:
        return f"trials {first.number} and {second.number} are not compared: not all of their runs were evaluated"
    try:
        result = compare(first.scores, second.scores, f"trial {second.number}")
    except UserError as problem:
        return f"not compared: {problem}"
    if result.verdict == WORSE:  # the metric of the search says otherwise
        return f"trial {first.number} by {plan.metric}, but it is {result.sentence}"
    return f"trial {first.number} is {result.sentence}"


def _order(plan: Plan, one: Confirmed) -> tuple[float, float]:
    mean = sum(one.values) / len(one.values) if one.values else -plan.sign * float("inf")
    by_metric = plan.sign * mean
    share = one.share if one.share is not None else -1.0
    return (share, by_metric) if plan.metric == "val/accuracy" else (by_metric, share)


def _pooled(folder: SearchFolder, trials: "Sequence[FrozenTrial]") -> dict[str, Any] | None:
    """The evaluations of several runs as one with all their responses; None where one is missing."""
    scores = [next(iter(evaluations_in(folder.run_folder(name_of(trial)))), None) for trial in trials]
    if not scores or any(one is None for one in scores):
        return None
    found = [one for one in scores if one is not None]
    counts: dict[str, int] = {}
    for one in found:
        for question in one["questions"]:
            counts[question["question"]] = counts.get(question["question"], 0) + question["num_correct"]
    questions = [{"question": key, "num_correct": number} for key, number in counts.items()]
    return {"n": sum(int(one["n"]) for one in found), "questions": questions} if questions else None


def _val_files(config: dict[str, Any]) -> list[str]:
    files = (config.get("data") or {}).get("val_files") or []
    return [files] if isinstance(files, str) else [str(file) for file in files]


def evidence(folder: SearchFolder, plan: Plan, study: Study, found: Sequence[Confirmed], number: int) -> list[str]:
    """What speaks for a trial, in sentences."""
    told = [f"{plan.metric} {_peak(folder, plan, study, number)} at its peak within {plan.steps} steps."]
    if number:
        first = words(study.trials[0].params)
        told.append(f"Trial 0 ({first}): {_peak(folder, plan, study, 0)}.")
    if study.complete:
        told.append(
            f"Of {len(study.trials)} trials {len(study.complete)} finished, trial {study.complete[0].number} best."
        )
    return told + ([f"Confirmed with fresh seeds: {sentence(plan, found)}."] if found else [])


def chosen(name: str, study: Study, found: Sequence[Confirmed], number: int | None) -> int:
    """The trial that is meant: the one named, else the one that was confirmed as the best, else the best.

    Raises:
        UserError: there is none.
    """
    if number is None:
        if not study.complete:
            raise UserError(f"search {name} has no trial that has finished: `archer search show {name}` shows it")
        return found[0].number if found else study.complete[0].number
    if not 0 <= number < len(study.trials):
        raise UserError(f"search {name} has no trial {number}: `archer search show {name}` lists them")
    return number


def _peak(folder: SearchFolder, plan: Plan, study: Study, number: int) -> str:
    return str(course_of(folder.run_folder(name_of(study.trials[number]))).peak(plan.metric, plan.sign) or "unknown")
