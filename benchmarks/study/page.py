"""What the study writes of its results into docs/study.md."""

from collections.abc import Sequence

from benchmarks.page import marks, put_between
from benchmarks.study import pictures, tables
from benchmarks.study.cells import DISEASE_STEPS, SICK_JOBS, cells
from benchmarks.study.memory import Memory
from recipes.archer.settings.configuration import ROOT

PAGE = ROOT / "docs" / "study.md"
IMAGES = ROOT / "docs" / "images"


def write(memory: Memory, seeds: Sequence[int]) -> None:
    """The parts of the page of which there are runs, and their pictures."""
    disease = cells("disease")
    if any(memory.of(cell, seeds) for cell in disease):
        about = f"{DISEASE_STEPS} steps, {_seeds(memory, 'disease')}: mean (least–greatest) over the seeds."
        _put("disease", f"{about}\n\n{tables.of_disease(disease, memory, seeds)}")
    for name, job in SICK_JOBS.items():
        arms = cells(name)
        if not any(memory.of(cell, seeds) for cell in arms):
            continue
        pictures.draw(arms, memory, seeds, job.band, IMAGES / f"study-{name}.png")
        about = (
            f"`{job.experiment}`, {arms[0].steps} steps, {_seeds(memory, name)}, band {job.band[0]:g} to "
            f"{job.band[1]:g} nats: mean (least–greatest) over the seeds."
        )
        picture = f"![Entropy and held-out accuracy of each arm on {job.experiment}](images/study-{name}.png)"
        _put(name, f"{about}\n\n{tables.of_cure(job, arms, memory, seeds)}\n\n{picture}")
    print(f"written: {PAGE}")


def _seeds(memory: Memory, part: str) -> str:
    counts = {
        cell.name: len([run for run in memory.runs if (run.part, run.cell) == (part, cell.name)])
        for cell in cells(part)
    }
    least, most = min(counts.values()), max(counts.values())
    return f"{most} seeds a cell" if least == most else f"{least} to {most} seeds a cell, not complete"


def _put(part: str, text: str) -> None:
    begin, end = marks(f"study {part}", "benchmarks.study")
    put_between(PAGE, begin, end, text)
