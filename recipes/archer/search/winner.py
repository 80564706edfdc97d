"""Which trial is the best: those that look it run again with fresh seeds, compared question by question; and adopted.

The best value of many trials is high also by luck; what decides is measured anew.
"""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError
from recipes.archer.evaluation.comparison import BETTER, WORSE, compare
from recipes.archer.evaluation.plan import file_digest
from recipes.archer.evaluation.tables import Scores, evaluations_in
from recipes.archer.experiments import registry
from recipes.archer.runs.log import open_notes
from recipes.archer.search.course import Course, course_of
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
        scores: right responses by question, of all runs and all held-out files, as ``scores.json`` has them; None: a
            run was not evaluated on a file.
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


def evaluate(
    folder: SearchFolder, plan: Plan, runs: "Sequence[FrozenTrial]", archer: Sequence[str], tell: Tell
) -> None:
    """Evaluates the best checkpoints of runs that confirm on their held-out prompts, where that was not done."""
    for trial in runs:
        run = name_of(trial)
        path = folder.run_folder(run)
        course = course_of(path)
        step = _best_step(course, plan)
        files = _val_files(course.run.config) if course.run is not None else []
        if not files or step is None or evaluations_of(course, plan) is not None:
            continue
        tell(f"{run} is evaluated at step {step}")
        command = [*archer, "evaluate", str(path), "--data", *files, "--steps", str(step)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            with open_notes(folder.path / LOGS / f"{run}-evaluation.log") as log:
                log.write(done.stdout + done.stderr)
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            tell(f"{run} could not be evaluated: {lines[-1] if lines else f'exit code {done.returncode}'}")


def evaluations_of(course: Course, plan: Plan) -> list[Scores] | None:
    """The scores of a run's best checkpoint on each of its held-out files, drawn as the run validates.

    Others may lie beside them: of other steps, files and settings. None where one of these is missing.
    """
    from recipes.archer.startup.evaluating import Options, validation_of

    step = _best_step(course, plan)
    if course.run is None or step is None or not (files := _val_files(course.run.config)):
        return None
    try:
        own = validation_of(course.run, Options())
    except UserError:
        return None
    found = evaluations_in(course.run.folder)
    wanted = {"n": own.n, "temperature": own.temperature, "top_p": own.top_p, "seed": own.seed}
    chosen: list[Scores] = []
    for file in map(Path, files):
        digest = _digest(file)
        fitting = [
            scores
            for scores in found
            if scores.get("step") == step and _is_of(scores, file, digest) and _drawn(scores, wanted, own.max_tokens)
        ]
        if not fitting:
            return None
        chosen.append(max(fitting, key=lambda scores: int(scores["plan"]["sampling"]["max_tokens"])))
    return chosen


def _best_step(course: Course, plan: Plan) -> int | None:
    """The step whose checkpoint a run keeps as its best; its peak, where no checkpoint lies there any more."""
    from recipes.archer.checkpoints.store import BestBy, CheckpointStore

    peak = course.peak(plan.metric, plan.sign)
    if course.run is None or peak is None:
        return None
    best = CheckpointStore(course.run.folder, best_by=BestBy(plan.metric, plan.mode)).best()
    number = re.search(r"\d+", best.name) if best is not None else None
    return peak.step if number is None else int(number[0])


def _is_of(scores: Scores, file: Path, digest: str | None) -> bool:
    """Whether they are of a file: by its content where it can be read here, else by its name."""
    return bool(scores.get("data") == file.name if digest is None else scores["plan"].get("data") == digest)


def _drawn(scores: Scores, wanted: dict[str, Any], most_tokens: int) -> bool:
    """Whether responses were drawn as is wanted; a run's folder may be anyone's."""
    plan = scores.get("plan")
    sampling = plan.get("sampling") if isinstance(plan, dict) else None
    if not isinstance(sampling, dict) or any(sampling.get(name) != value for name, value in wanted.items()):
        return False
    cap, lowered = sampling.get("max_tokens"), scores.get("capped_by_context") is True
    # by the context it is lowered for the run as well, by whoever evaluates it is not
    fits = type(cap) is int and (cap == most_tokens or (lowered and 0 < cap < most_tokens))
    return fits and scores["n"] == wanted["n"]


def confirmed(folder: SearchFolder, plan: Plan, confirming: Study) -> list[Confirmed]:
    """What the runs with fresh seeds say of each trial, the best first."""
    of: dict[int, list[FrozenTrial]] = {}
    for trial in confirming.trials:
        of.setdefault(origin(trial)[0], []).append(trial)
    found = []
    for number, trials in of.items():
        done = [trial for trial in trials if trial.value is not None and trial.state.name == "COMPLETE"]
        values = tuple(float(trial.value or 0) for trial in done)
        found.append(Confirmed(number, values, _pooled(folder, plan, trials)))
    by_share = plan.metric == "val/accuracy" and all(one.share is not None for one in found)
    return sorted(found, key=lambda one: _order(plan, one, by_share), reverse=True)


@dataclass(frozen=True)
class Finding:
    """What comes of the runs with fresh seeds.

    Attributes:
        winner: the trial that they show to be better than the next one; None: they do not.
        said: that, and how surely.
    """

    winner: int | None
    said: str

    def __str__(self) -> str:
        return self.said if self.winner is not None else f"not confirmed: {self.said}"


def finding(plan: Plan, found: Sequence[Confirmed], best: int | None = None) -> Finding:
    """Which is better, and how surely.

    Args:
        best: the search's own best trial.
    """
    if len(found) < 2:
        return Finding(None, "there is no second trial to compare with" if found else "no run has begun")
    first, second = found[0], found[1]
    if first.scores is None or second.scores is None:
        told = "not all of their runs were evaluated on all held-out files at their best checkpoints"
        return Finding(None, f"trials {first.number} and {second.number} are not compared: {told}")
    try:
        result = compare(first.scores, second.scores, f"trial {second.number}")
    except UserError as problem:
        return Finding(None, f"not compared: {problem}")
    if result.verdict == WORSE:  # the metric of the search says otherwise
        return Finding(None, f"trial {first.number} by {plan.metric}, but it is {result.sentence}")
    said = f"trial {first.number} is {result.sentence}"
    if result.verdict != BETTER:
        return Finding(None, said)
    other = best is not None and best != first.number
    return Finding(first.number, said + (f"; trial {best}, the best of the search, is not confirmed" if other else ""))


def _order(plan: Plan, one: Confirmed, by_share: bool) -> tuple[float, float]:
    mean = sum(one.values) / len(one.values) if one.values else -plan.sign * float("inf")
    by_metric = plan.sign * mean
    share = one.share if one.share is not None else -1.0
    return (share, by_metric) if by_share else (by_metric, share)


def _pooled(folder: SearchFolder, plan: Plan, trials: "Sequence[FrozenTrial]") -> dict[str, Any] | None:
    """The evaluations of several runs on all files as one with all their responses; None where one is missing."""
    counts: dict[str, int] = {}
    n = 0
    for trial in trials:
        found = evaluations_of(course_of(folder.run_folder(name_of(trial))), plan)
        if found is None:
            return None
        n += int(found[0]["n"])
        for scores in found:
            for question in scores["questions"]:
                key = f"{scores['plan'].get('data')} {question['question']}"  # which two files may both have
                counts[key] = counts.get(key, 0) + question["num_correct"]
    questions = [{"question": key, "num_correct": number} for key, number in counts.items()]
    return {"n": n, "questions": questions} if questions else None


def _val_files(config: dict[str, Any]) -> list[str]:
    """A run's held-out files, of those with one content the first; a run's folder may be anyone's."""
    data = config.get("data")
    said = data.get("val_files") if isinstance(data, dict) else None
    named = [said] if isinstance(said, str) else said
    if not isinstance(named, list) or not all(isinstance(file, str) and _can_be(file) for file in named):
        return []
    first: dict[str, str] = {}
    for file in named:
        first.setdefault(_digest(Path(file)) or file, file)
    return list(first.values())


def _digest(file: Path) -> str | None:
    """Of a file's content; None where it cannot be read here."""
    try:
        return file_digest(file)
    except OSError:
        return None


def _can_be(file: str) -> bool:
    """Whether a file can have that name."""
    try:
        return file != "" and b"\0" not in os.fsencode(file)
    except UnicodeEncodeError:
        return False


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
    if found:
        came = finding(plan, found, study.complete[0].number if study.complete else None)
        told.append(f"{'C' if came.winner == number else 'Not c'}onfirmed with fresh seeds: {came.said}.")
    return told


def chosen(name: str, study: Study, found: Sequence[Confirmed], number: int | None) -> int:
    """The trial that is meant: the one named, else the best with fresh seeds, else the best.

    Raises:
        UserError: there is none.
    """
    if number is None:
        if not study.complete:
            raise UserError(f"search {name} has no trial that has finished: `archer search show {name}` shows it")
        return found[0].number if found and found[0].values else study.complete[0].number
    if not 0 <= number < len(study.trials):
        raise UserError(f"search {name} has no trial {number}: `archer search show {name}` lists them")
    return number


def _peak(folder: SearchFolder, plan: Plan, study: Study, number: int) -> str:
    return str(course_of(folder.run_folder(name_of(study.trials[number]))).peak(plan.metric, plan.sign) or "unknown")
