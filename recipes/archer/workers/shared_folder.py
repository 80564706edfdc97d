"""Whether all machines write into one folder, by files that each of them leaves and the driver looks for."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from recipes.archer.checkpoints.manifest import REFERENCE
from recipes.archer.checkpoints.metadata import files_named
from recipes.archer.ending import UserError
from recipes.archer.session.ray_session import names_cluster
from recipes.archer.workers.deadlines import on_machine

SEEN_S = 60.0  # a network share may show another machine's file only after a while


def machines_of(actor, trainer) -> list[str]:
    """The machine of each worker, once each has been seen to write into the run folder; [] where all is on this one.

    Args:
        actor: the worker group.
        trainer: the configuration's section.

    Raises:
        UserError: a machine has another folder under that name, or none; names it.
    """
    if trainer.nnodes == 1 and not names_cluster():
        return []
    folder = Path(trainer.default_local_dir).absolute()
    marks = folder / f".machines-{uuid4().hex}"
    marks.mkdir()
    try:
        answers = actor.leave_mark(str(marks))
        for rank, (machine, problem) in enumerate(answers):
            if problem is None and not _appears(marks / f"rank_{rank}"):
                problem = "its files do not appear here"
            if problem is not None:
                raise UserError(
                    f"trainer.default_local_dir={folder} is not one folder for all machines: worker rank {rank} on "
                    f"{machine} does not write into it ({problem}); put it on a disk that all of them share"
                )
    finally:
        shutil.rmtree(marks, ignore_errors=True)
    return [machine for machine, _ in answers]


def missing_after_save(folder: Path, num_workers: int, machines: Sequence[str]) -> str | None:
    """What of a save is not here, in words that name its machine; None when every worker's files are.

    Args:
        folder: that all workers have written into.
        machines: of each worker; empty where there is only this one.
    """
    names = [(rank, f"host_{rank}.{kind}") for rank in range(num_workers) for kind in ("json", "safetensors")]
    try:
        names += [(_writer(name), name) for name in files_named(folder)]
        if (reference := folder / REFERENCE).is_dir():
            names += [(_writer(name), f"{REFERENCE}/{name}") for name in files_named(reference)]
    except FileNotFoundError:
        names.append((0, ".metadata"))
    for rank, name in sorted(names):
        if not _appears(folder / name, SEEN_S if machines else 0.0):
            where = on_machine(rank, machines)
            remedy = "; all machines must write into one folder, trainer.default_local_dir" if machines else ""
            return f"{name}, which worker rank {rank}{where} has written, is not in {folder}{remedy}"
    return None


def _writer(name: str) -> int:
    """The rank that torch has write a file, ``__<rank>_<number>.distcp``."""
    number = name.removeprefix("__").partition("_")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def _appears(file: Path, seconds: float = SEEN_S) -> bool:
    deadline = time.monotonic() + seconds
    while not file.is_file():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
