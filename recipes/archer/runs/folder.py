"""Reads what a run leaves in its folder: run.json, config.yaml, metrics.jsonl and samples/.

The writer is recipes.archer.runs.log. A file that is not there (the run has not come so far, or it was not
copied along) reads as empty; one that is there and damaged is the user's to know about.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.runs.metrics_reader import read_metrics
from recipes.archer.runs.names import METRICS, RUN, SAMPLE_FILE, SAMPLES

OUTPUT = Path("output")


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
        return self.facts.get("experiment") or recorded

    @property
    def forked_from(self) -> str | None:
        """The run and step that it began with; None where it began with a model's own weights."""
        origin = self.facts.get("forked_from")
        return f"{origin.get('run')}, step {origin.get('step')}" if isinstance(origin, dict) else None

    @property
    def rows_from_start(self) -> list[dict[str, Any]]:
        """The rows, with the validation of the untrained model before them as step 0 if there was one."""
        before = self.facts.get("val_before")
        return [{"step": 0, **before}, *self.rows] if isinstance(before, dict) else self.rows


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
    facts = _read_facts(folder / RUN)
    if not (folder / METRICS).is_file():  # it failed before it got so far
        return Run(folder, facts, {}, [])
    metrics = read_metrics(folder / METRICS)
    return Run(folder, facts, metrics.config, metrics.rows, metrics.notes)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / METRICS).is_file() or (folder / RUN).is_file()


def find_runs(output: Path = OUTPUT) -> list[Path]:
    """Run folders at, directly under, or two levels under a folder; the one that changed last comes last.

    Raises:
        UserError: there is no such folder.
    """
    output = Path(output)
    if not output.is_dir():
        raise UserError(f"{output} is not a folder: name the one that holds the runs (trainer.output_dir)")
    candidates: Iterable[Path] = [output, *output.glob("*"), *output.glob("*/*")]
    return sorted((p for p in candidates if p.is_dir() and is_run(p)), key=lambda p: (last_change(p), p.name))


def locate(name: str, output: Path = OUTPUT) -> Path:
    """The run folder that a user means: a path, or the name of a run under ``output``.

    Raises:
        UserError: no run, or more than one, has that name.
    """
    path = Path(name)
    if path.exists():
        return path
    known = find_runs(output) if Path(output).is_dir() else []
    found = [p for p in known if name in (p.name, f"{p.parent.name}/{p.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name} names {len(found)} runs: say which, {' or '.join(str(p) for p in found)}")
    raise UserError(f"{name} is neither a path nor a run under {output}/: `archer runs` lists them")


def last_change(folder: Path) -> float:
    """When the run last wrote something, seconds since the epoch."""
    return max((p.stat().st_mtime for p in (folder / METRICS, folder / RUN) if p.exists()), default=0.0)


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
    if not path.is_file():
        steps = ", ".join(map(str, sample_steps(run))) or "of no step yet"
        raise UserError(f"{path} does not exist: responses were kept of steps {steps} (trainer.samples_freq)")
    lines = _read(path).split(b"\n")
    if not _is_json(lines[-1]):  # without its line end: a copy that broke off
        del lines[-1]
    return [_sample(line, path, number) for number, line in enumerate(lines, start=1) if line]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _sample(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
    except ValueError as problem:  # also UnicodeDecodeError: a copy that broke off, an edit by hand
        reason = _first_line(problem)
        raise UserError(f"{path} line {number} is damaged ({reason}): remove that line") from None
    return row


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = json.loads(_read(path))
    except ValueError as problem:
        raise UserError(f"{path} is damaged ({_first_line(problem)}): mend it, or move it away") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} is not an object: mend it, or move it away")
    return facts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:  # permissions, a share that went away
        raise UserError(f"{path} cannot be read ({problem.strerror}): check permissions and disk") from None


def _first_line(problem: Exception) -> str:
    return str(problem).splitlines()[0]
