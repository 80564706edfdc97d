"""Which checkpoint is meant: the best of a run, its newest, the one of a step, or a checkpoint by its own folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from recipes.archer.checkpoints.manifest import MANIFEST
from recipes.archer.checkpoints.reading import Checkpoint, read
from recipes.archer.checkpoints.store import PREFIX, BestBy, CheckpointStore
from recipes.archer.ending import UserError
from recipes.archer.runs.folder import Run, is_run, read_run

BEST, LAST = "best", "last"
HELD_OUT = BestBy("val/accuracy")
_STEP = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True)
class Chosen:
    """A whole checkpoint, and the run that it is of; None where it lies alone."""

    checkpoint: Checkpoint
    run: Run | None


def choose(target: Path, step: str | None = None) -> Chosen:
    """The checkpoint that a target means; its files are compared with its manifest.

    Args:
        target: folder of a run, or of a checkpoint.
        step: of a run, ``best`` by the metric that it keeps the best by, ``last``, or a number; None: the best where
            one is kept, else the last.

    Raises:
        UserError: there is no such checkpoint, or it is not whole.
    """
    if not target.is_dir():
        raise UserError(f"{target} is no folder: name a run, or a checkpoint, .../{PREFIX}N")
    if (target / MANIFEST).exists() or target.name.startswith(PREFIX):
        if step is not None:
            raise UserError(f"{target} is one checkpoint: leave out --step, or name its run")
        parent = target.absolute().parent
        return Chosen(_whole(target), read_run(parent) if is_run(parent) else None)
    run = read_run(target) if is_run(target) else None
    return Chosen(_of_run(target, run, step), run)


def _of_run(folder: Path, run: Run | None, step: str | None) -> Checkpoint:
    kept_by = _kept_by(run)
    # of an earlier format only what is not read here is a pickle
    store = CheckpointStore(folder, best_by=kept_by or HELD_OUT, trust_old=True)
    if step == BEST or (step is None and kept_by is not None):
        if (path := store.best()) is not None:
            return _whole(path)
        if step == BEST:
            metric = (kept_by or HELD_OUT).metric
            raise UserError(f"{folder} has no whole checkpoint with {metric}: use --step last, or --step N")
    if step in (None, LAST, BEST):
        checkpoint, skipped = store.newest_whole()
        if checkpoint is None:
            why = f" ({skipped[0]})" if skipped else ""
            raise UserError(f"{folder} holds no whole checkpoint{why}: trainer.save_freq says when a run saves")
        return checkpoint
    if not _STEP.fullmatch(step):
        raise UserError(f"--step {step!a}: use best, last, or the number of a step")
    if (path := store.at(int(step))) is None:
        raise UserError(f"{folder} holds no checkpoint of step {step}: trainer.keep_last says how many are kept")
    return _whole(path)


def _whole(path: Path) -> Checkpoint:
    if path.is_symlink():
        raise UserError(f"checkpoint {path} is a link: name the folder itself")
    try:
        return read(path, trust_old=True)
    except ValueError as problem:
        raise UserError(f"checkpoint {path}: {problem}") from None


def _kept_by(run: Run | None) -> BestBy | None:
    """By what the run keeps its best; None where it keeps none, or does not say."""
    trainer = run.config.get("trainer") if run is not None else None
    settings = trainer.get("keep_best") if isinstance(trainer, dict) else None
    if not isinstance(settings, dict) or not isinstance(settings.get("metric"), str):
        return None
    return BestBy(settings["metric"], "min" if settings.get("mode") == "min" else "max")
