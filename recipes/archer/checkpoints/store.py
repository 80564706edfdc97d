"""Checkpoints on disk: whole or not there.

A checkpoint is written beside its final place, listed in a manifest with sizes and hashes, flushed, renamed;
only then are the pointers replaced, and only then are old ones removed.  The rename decides: before it the
earlier checkpoints count, after it the new one does.
"""

import json
import math
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.checkpoints.manifest import flush, listed, problem_of, write_manifest
from recipes.archer.checkpoints.reading import STATE, Checkpoint, read, state_in
from recipes.archer.ending import UserError
from recipes.archer.files import write_atomically

POINTER = "latest_checkpointed_iteration.txt"  # verl's name for it
BEST_POINTER = "best_checkpoint.txt"
PREFIX = "global_step_"
NUM_SOUND = 2  # kept to go back to: what is bad from the very next step on began in the last one's own policy
# a checkpoint that one of an earlier step replaces: it counts until that step's folder is there
_ASIDE = re.compile(r"\.global_step_(\d+)\.behind_(\d+)")
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # of write_atomically, with its process


@dataclass(frozen=True)
class BestBy:
    """By which metric of ``metrics.jsonl`` a checkpoint is the best, and whether ``max`` or ``min`` of it is."""

    metric: str
    mode: str = "max"

    def value(self, state: dict[str, Any]) -> float | None:
        """The metric at the step of a checkpoint's state; None where it was not measured or is not finite."""
        value = (state.get("row") or {}).get(self.metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def best(self, values: dict[int, float]) -> int | None:
        """The step of the best value, of equal ones the first; None of none."""
        sign = 1 if self.mode == "max" else -1
        return max(sorted(values), key=lambda step: sign * values[step], default=None)


class CheckpointStore:
    """The checkpoints of one run folder; one process at a time writes to it.

    Args:
        folder: the run folder; checkpoints are ``global_step_<n>`` in it.
        keep_last: how many to keep, at least 1.
        best_by: besides those, the best by a metric is kept; None: no such one.
        trust_old: whether checkpoints of an earlier format, whose pickles run what is in them, may be continued.
        keep_sound: besides those, the newest ones that a run may have to go back to are kept.
    """

    def __init__(
        self,
        folder: Path,
        keep_last: int = 3,
        best_by: BestBy | None = None,
        trust_old: bool = False,
        keep_sound: bool = False,
    ):
        if keep_last < 1:
            raise ValueError(f"trainer.keep_last={keep_last}: keep at least 1 checkpoint")
        self.folder, self.keep_last, self.best_by, self.trust_old = Path(folder), keep_last, best_by, trust_old
        self.keep_sound = keep_sound

    def begin(self, step: int) -> Path:
        """An empty folder to write step ``step`` into; leftovers of an interrupted save are removed."""
        self._mend()
        partial = self.folder / f".{PREFIX}{step}.partial"
        partial.mkdir(parents=True)
        return partial

    def commit(self, partial: Path, step: int, state: dict[str, Any]) -> Path:
        """Makes the folder of :meth:`begin` the checkpoint of step ``step``.

        Those of this and of later steps are of an attempt that this run went back behind: they stop counting at
        the moment at which the new one is there, or a resume would jump to them.
        """
        (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
        write_manifest(partial)
        for other in sorted(self._finals()):  # ascending: once the first is aside, all that are count
            if other >= step:
                os.replace(self._final(other), self.folder / f".{PREFIX}{other}.behind_{step}")
        os.replace(partial, self._final(step))
        return self._final(step)

    def settle(self, step: int) -> Path | None:
        """After :meth:`commit`: flushes the new name, replaces the pointers, then removes what is no longer kept.

        Returns:
            The best checkpoint by ``best_by``; None where there is none.
        """
        flush(self.folder)
        whole = [s for s in sorted(self._finals()) if s == step or _looks_whole(self._final(s))]
        best = self._point_to(step, whole)
        # damaged ones do not count, and go when there are enough whole ones after them
        oldest = whole[-self.keep_last] if len(whole) >= self.keep_last else 0
        kept = {best, *(self._sound(whole)[:NUM_SOUND] if self.keep_sound else ())}
        for old in self._finals():
            if old < oldest and old not in kept:
                shutil.rmtree(self._final(old), ignore_errors=True)
        self._mend()
        return self._final(best) if best is not None else None

    def repair(self) -> None:
        """Does what an interrupted save had left to do, except for removing what is no longer kept.

        A run that goes on from a checkpoint may have nothing to save any more.
        """
        self._mend()
        if whole := [step for step in sorted(self._finals()) if _looks_whole(self._final(step))]:
            self._point_to(whole[-1], whole)

    def sound_before(self, step: int) -> Checkpoint | None:
        """The newest sound checkpoint whose policy generated a step before ``step``; None where there is none.

        That of step n holds the policy that generates step n + 1, where it shows for the first time.

        Raises:
            UserError: as :meth:`newest_whole`.
        """
        folders = self._counting()
        for number in self._sound([number for number in folders if number + 1 < step]):
            with suppress(ValueError):  # damaged
                return read(folders[number], self.trust_old)
        return None

    def go_back(self, step: int, branch: Path) -> None:
        """Takes away the checkpoints after a step; the best of all, where it is one of them, moves into ``branch``.

        A kill in here costs nothing that stays, and the same call brings it to its end.
        """
        self._mend()
        later = [number for number in sorted(self._finals(), reverse=True) if number > step]
        best = self.best() if not any(branch.glob(f"{PREFIX}*")) else None
        if best is not None and best in map(self._final, later):
            os.replace(best, branch / best.name)
            later = [number for number in later if self._final(number) != best]
        for number in later:
            os.replace(self._final(number), self.folder / f".{PREFIX}{number}.partial")
        self.repair()
        if not self._finals():
            for pointer in (POINTER, BEST_POINTER):
                (self.folder / pointer).unlink(missing_ok=True)

    def discard(self, partial: Path) -> None:
        """Removes a folder of :meth:`begin` that could not be written."""
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # the next save tries again
            self._mend()

    def newest_whole(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and one line for each newer one that does not.

        Raises:
            UserError: one of them is not ours to pass over; see ``reading.py``.
        """
        skipped: list[str] = []
        folders = self._counting()
        for step in sorted(folders, reverse=True):
            try:
                return read(folders[step], self.trust_old), skipped
            except ValueError as problem:
                skipped.append(f"skipped checkpoint {folders[step]}: {problem}")
        return None, skipped

    def at(self, step: int) -> Path | None:
        """The folder of the checkpoint of a step, whole or not; None where there is none."""
        return self._counting().get(step)

    def best(self) -> Path | None:
        """The folder of the best checkpoint by ``best_by`` among those that look whole; None where there is none."""
        folders = self._counting()
        step = self._best({step: path for step, path in folders.items() if _looks_whole(path)})
        return None if step is None else folders[step]

    def size(self) -> int | None:
        """Bytes of the newest checkpoint by its manifest; None where there is none."""
        folders = self._counting()
        sizes = (sum(listed(folders[step]).values()) for step in sorted(folders, reverse=True))
        return next(filter(None, sizes), None)

    def _sound(self, steps: list[int]) -> list[int]:
        """Those of some steps at which nothing spoke against the run, the newest first."""
        folders = self._counting()
        return [step for step in sorted(steps, reverse=True) if state_in(folders[step]).get("sound") is True]

    def _best(self, folders: dict[int, Path]) -> int | None:
        if self.best_by is None:
            return None
        values = {step: self.best_by.value(state_in(path)) for step, path in folders.items()}
        return self.best_by.best({step: value for step, value in values.items() if value is not None})

    def _point_to(self, newest: int, whole: list[int]) -> int | None:
        """Replaces the pointers; returns the step of the best."""
        best = self._best({step: self._final(step) for step in whole})
        write_atomically(self.folder / POINTER, str(newest))
        if best is not None:
            write_atomically(self.folder / BEST_POINTER, f"{PREFIX}{best}\n")
        else:
            (self.folder / BEST_POINTER).unlink(missing_ok=True)
        flush(self.folder)
        return best

    def _final(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step}"

    def _finals(self) -> list[int]:
        names = (p.name.removeprefix(PREFIX) for p in self.folder.glob(f"{PREFIX}*"))
        return [int(name) for name in names if re.fullmatch(r"0|[1-9]\d*", name, re.ASCII)]

    def _asides(self) -> list[tuple[Path, int, bool]]:
        """Folders that a commit put aside, their steps, and whether they still count: it was interrupted."""
        found = []
        for path in self.folder.glob(f".{PREFIX}*"):
            if match := _ASIDE.fullmatch(path.name):
                step, by = int(match[1]), int(match[2])
                counts = not self._final(by).exists() and not self._final(step).exists()
                found.append((path, step, counts))
        return found

    def _counting(self) -> dict[int, Path]:
        """The checkpoints there are, whole or not, by step."""
        aside = {step: path for path, step, counts in self._asides() if counts}
        return aside | {step: self._final(step) for step in self._finals()}

    def _mend(self) -> None:
        """Ends what an interrupted save left half done."""
        asides = self._asides()
        for path, step, counts in sorted(asides, key=lambda aside: -aside[1]):  # the mirror image of commit's order
            if counts:
                os.replace(path, self._final(step))
                continue
            # under a name that never counts: what cannot be removed would count again once its successor is gone
            with suppress(OSError):
                os.replace(path, path.with_name(f"{path.name}.partial"))
        for path in self.folder.glob(f".{PREFIX}*.partial"):
            _remove(path)
        for path in self.folder.glob(".*.tmp"):
            match = _TEMPORARY.fullmatch(path.name)
            if match and int(match[1]) != os.getpid():  # in this folder no other process is writing
                path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Removes a folder, a file or a link, as far as the file system lets it."""
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _looks_whole(path: Path) -> bool:
    """Whether every file is there in its size: what can be told without reading gigabytes."""
    try:
        return problem_of(path, hashes=False) is None and bool(state_in(path))
    except UserError:  # a later version's: not ours to judge
        return False
