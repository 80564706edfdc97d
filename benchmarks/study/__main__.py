"""Makes the runs of the study that are missing, then its page.

Run: python -m benchmarks.study [PART...] [--seeds 1 2 3 4 5] [--parallel 1] [--list]
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.jobs import Job, ended
from benchmarks.study import page
from benchmarks.study.cells import PARTS, Cell, cells
from benchmarks.study.memory import Memory, kept_of
from recipes.archer.settings.configuration import ROOT

PROJECT = "Archer-study"
MEMORY = ROOT / "benchmarks" / "results" / "study.jsonl"


def job_of(cell: Cell, seed: int, output: Path) -> Job:
    """The run of a cell and a seed."""
    name = f"{cell.part}-{cell.name}-seed{seed}".replace(", ", "-").replace(" ", "_")
    return Job(PROJECT, name, cell.experiment, cell.overrides | {"seed": seed}, cell.steps, output)


def missing(parts: Sequence[str], seeds: Sequence[int], memory: Memory) -> list[tuple[Cell, int]]:
    """What is still to be made: seed by seed, so that what is there after an interruption compares."""
    wanted = [(cell, seed) for part in parts for seed in seeds for cell in cells(part)]
    return [(cell, seed) for cell, seed in wanted if memory.find(cell, seed) is None]


def main() -> None:
    """Runs, one after the other or some beside each other; then the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--parallel", type=int, default=1, help="runs beside each other, a core each")
    parser.add_argument("--output", type=Path, default=ROOT / "output", help="where the runs go")
    parser.add_argument("--list", action="store_true", help="say what is missing, make nothing")
    args = parser.parse_args()
    if unknown := sorted(set(args.parts) - set(PARTS)):
        parser.error(f"{unknown[0]} is no part; use {', '.join(PARTS)}")
    memory = Memory(MEMORY)
    todo = missing(args.parts or PARTS, args.seeds, memory)
    print(f"{len(todo)} runs are missing", flush=True)
    if args.list:
        return print("\n".join(f"{cell.part}: {cell.name}, seed {seed}" for cell, seed in todo))

    def make(one: tuple[Cell, int]) -> None:
        cell, seed = one
        memory.keep(kept_of(cell, seed, ended(job_of(cell, seed, args.output.resolve()), args.parallel)))
        print(f"made: {cell.part}: {cell.name}, seed {seed}", flush=True)

    with ThreadPoolExecutor(args.parallel) as pool:
        list(pool.map(make, todo))
    page.write(memory, args.seeds)


if __name__ == "__main__":
    main()
