"""Reads what a run leaves in its folder: run.json, config.yaml, metrics.jsonl and samples/.

The writer is recipes.archer.runs.log. A file that is not there (the run has not come so far, or it was not
copied along) reads as empty; one that is there and damaged is the user's to know about.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.reading.json import parse_json, read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError, line_blocks
from recipes.archer.runs.courses import Course, course_of
from recipes.archer.runs.metrics_reader import read_metrics
from recipes.archer.runs.names import BRANCHES, METRICS, RUN, SAMPLE_FILE, SAMPLES

OUTPUT = Path("output")
MOST_SAMPLES = 256 << 20  # bytes of a step's responses


@dataclass(frozen=True)
class Run:
    """What is in a run folder.

    Attributes:
        folder: where it is.
        facts: run.json; empty when there is none.
        config: config.yaml; empty when there is none.
        rows: metrics.jsonl, one dict a training step, in the order of the steps.
        notes: what of metrics.jsonl had to be left out, in words.
    """

    folder: Path
    facts: dict[str, Any]
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run's own name, else its folder's."""
        return str(self.facts.get("name") or self.folder.resolve().name)

    @property
    def experiment(self) -> str | None:
        """Which experiment it is a run of, None when it does not say."""
        record = self.config.get("record")
        recorded = record.get("name") if isinstance(record, dict) else None
        name = self.facts.get("experiment") or recorded
        return None if name is None else str(name)

    @property
    def forked_from(self) -> str | None:
        """The run and step that it began with; None where it began with a model's own weights."""
        origin = self.facts.get("forked_from")
        return f"{origin.get('run')}, step {origin.get('step')}" if isinstance(origin, dict) else None

    @property
    def courses(self) -> list[Course]:
        """How it went back, as run.json says, the first time first."""
        said = self.facts.get("courses")
        return [course for fact in (said if isinstance(said, list) else []) if (course := course_of(fact)) is not None]

    @property
    def rows_from_start(self) -> list[dict[str, Any]]:
        """The rows, with the validation of the untrained model before them as step 0 if there was one."""
        before = self.facts.get("val_before")
        later = not self.rows or self.rows[0]["step"] > 0
        return [{**before, "step": 0}, *self.rows] if isinstance(before, dict) and later else self.rows


def read_run(folder: Path) -> Run:
    """Reads a run folder, or the one that a metrics.jsonl lies in.

    Raises:
        UserError: it is no run folder, or one of its files cannot be read.
    """
    folder = Path(folder)
    if folder.name == METRICS:
        folder = folder.parent
    if not is_run(folder):
        raise UserError(f"{folder} is no run: give a folder with {METRICS} or {RUN} in it")
    facts = _read_facts(folder)
    if not os.path.lexists(folder / METRICS):  # it failed before it got so far
        return Run(folder, facts, {}, [])
    metrics = read_metrics(folder)
    return Run(folder, facts, metrics.config, metrics.rows, metrics.notes)


@dataclass(frozen=True)
class Branch:
    """What a run did before it went back, and does not count any more: its rows, joined to the step that it left."""

    course: Course
    rows: list[dict[str, Any]]


def read_branches(run: Run) -> list[Branch]:
    """The branches that a run left; one that was not copied along, or cannot be read, has no rows.

    Each begins with the row of the step that it forks at, where that is known, so that a curve begins at the run's.
    """
    branches, known = [], {row["step"]: row for row in run.rows_from_start}
    for course in run.courses:
        try:
            rows = read_metrics(run.folder / BRANCHES / str(course.number)).rows
        except UserError:
            rows = []
        fork = known.get(course.back_to)
        branches.append(Branch(course, [*([fork] if fork and rows else []), *rows]))
    return branches


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, also a damaged one's."""
    return os.path.lexists(folder / METRICS) or os.path.lexists(folder / RUN)


def find_runs(output: Path = OUTPUT) -> list[Path]:
    """Run folders at, directly under, or two levels under a folder; the one that changed last comes last.

    A folder that may not be looked into is among them: it may be a run's.

    Raises:
        UserError: there is no such folder.
    """
    output = Path(output)
    if not os.path.isdir(output):
        raise UserError(f"{output} is not a folder: name the one that holds the runs (trainer.output_dir)")
    candidates: Iterable[Path] = [output, *output.glob("*"), *output.glob("*/*")]
    found = (p for p in candidates if os.path.isdir(p) and (is_run(p) or not os.access(p, os.R_OK | os.X_OK)))
    return sorted(found, key=lambda p: (last_change(p), p.name))


def locate(name: str, output: Path = OUTPUT) -> Path:
    """The run folder that a user means: a path, or the name of a run under ``output``.

    Raises:
        UserError: no run, or more than one, has that name.
    """
    path = Path(name)
    if os.path.lexists(path):
        return path
    known = find_runs(output) if os.path.isdir(output) else []
    found = [p for p in known if name in (p.name, f"{p.parent.name}/{p.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name} names {len(found)} runs: say which, {' or '.join(str(p) for p in found)}")
    raise UserError(f"{name} is neither a path nor a run under {output}/: `archer runs` lists them")


def last_change(folder: Path) -> float:
    """When the run last wrote something, seconds since the epoch."""
    return max(map(_changed, (folder / METRICS, folder / RUN)))


def _changed(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:  # absent, or in a folder that may not be looked into
        return 0.0


def sample_steps(run: Run) -> list[int]:
    """Steps whose responses were kept, ascending."""
    names = (SAMPLE_FILE.fullmatch(p.name) for p in (run.folder / SAMPLES).glob("step_*.jsonl"))
    return sorted(int(match[1]) for match in names if match)


def read_samples(run: Run, step: int) -> list[dict[str, Any]]:
    """The responses kept of one step; a torn last line is left out.

    Raises:
        UserError: none were kept of that step, or the file cannot be read.
    """
    path = run.folder / SAMPLES / f"step_{step}.jsonl"
    try:
        lines = [line for block in line_blocks(path, MOST_SAMPLES, run.folder) for line in block]
    except UnreadableError as error:
        if not error.absent:
            raise
        steps = ", ".join(map(str, sample_steps(run))) or "of no step yet"
        raise UserError(f"{path} does not exist: responses were kept of steps {steps} (trainer.samples_freq)") from None
    if not _is_json(lines[-1]):  # without its line end: a copy that broke off
        del lines[-1]
    return [_sample(line, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line]


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line, "")
    except UnreadableError:
        return False
    return True


def _sample(line: bytes, where: str) -> dict[str, Any]:
    """A response as it was kept, whose texts are texts."""
    try:
        row = parse_json(line, where)
    except DamagedError as error:  # a copy that broke off, an edit by hand
        raise UserError(f"{where} is damaged ({error.reason}): remove that line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is damaged (not an object): remove that line")
    return row


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    try:
        facts: dict[str, Any] = read_json(path, inside=folder)
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error.reason}): mend it, or move it away") from None
    except UnreadableError as error:
        if error.absent:
            return {}
        raise
    return facts
