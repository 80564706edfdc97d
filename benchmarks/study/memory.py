"""What is kept of a run, and where: a line a run in a file that is committed."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.study.cells import Cell
from recipes.archer.runs.folder import Run

SERIES = (
    "actor/entropy", "reward/accuracy/mean", "val/accuracy", "actor/kl_loss", "batch/valid", "response_length/pos/mean",
    "response/ended/mean", "timing_s/step", "control/entropy/low", "control/entropy/high", "control/entropy/alpha",
    "control/entropy/coefficient",
)  # fmt: skip
DIGITS = 4  # significant


@dataclass(frozen=True)
class Kept:
    """One run.

    Attributes:
        part, cell, seed: which one.
        experiment, settings, steps: how it was made.
        exit_code, reason: how it ended, and why.
        series: metric -> [[step, value], ...] where there is a value; step 0 is before training.
    """

    part: str
    cell: str
    seed: int
    experiment: str
    settings: dict
    steps: int
    exit_code: int
    reason: str
    series: dict

    @property
    def lost(self) -> bool:
        """Whether a rule ended it."""
        return self.exit_code != 0

    def values(self, key: str) -> dict[int, float]:
        """A metric by step."""
        return {step: value for step, value in self.series.get(key, [])}


def kept_of(cell: Cell, seed: int, run: Run) -> Kept:
    """What is worth keeping of a run that is over."""
    rows = run.rows_from_start
    series = {
        key: [[row["step"], float(f"{row[key]:.{DIGITS}g}")] for row in rows if row.get(key) is not None]
        for key in SERIES
    }
    known = {key: found for key, found in series.items() if found}
    ending = (run.facts["exit_code"], str(run.facts["reason"]))
    return Kept(cell.part, cell.name, seed, cell.experiment, cell.overrides, cell.steps, *ending, known)


class Memory:
    """The file of kept runs."""

    def __init__(self, file: Path):
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self.runs = [Kept(**json.loads(line)) for line in lines if line.endswith("}")]

    def find(self, cell: Cell, seed: int) -> Kept | None:
        """The run of a cell and a seed, None where it is still to be made.

        Raises:
            SystemExit: it was made in another way.
        """
        for run in self.runs:
            if (run.part, run.cell, run.seed) == (cell.part, cell.name, seed):
                if (run.experiment, run.settings, run.steps) != (cell.experiment, cell.overrides, cell.steps):
                    raise SystemExit(
                        f"{self.file}: {cell.part}, {cell.name}, seed {seed} was made otherwise; remove its line"
                    )
                return run
        return None

    def of(self, cell: Cell, seeds: Iterable[int]) -> list[Kept]:
        """The runs that are there, in the order of the seeds."""
        return [run for seed in seeds if (run := self.find(cell, seed))]

    def keep(self, run: Kept) -> None:
        """Adds a run, at once on disk."""
        self.runs.append(run)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torn = self.file.is_file() and not self.file.read_bytes().endswith(b"\n") and self.file.stat().st_size > 0
        with self.file.open("a", encoding="utf-8") as out:
            out.write(("\n" if torn else "") + json.dumps(asdict(run)) + "\n")
