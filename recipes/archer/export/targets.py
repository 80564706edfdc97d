"""Which models are meant, and a folder that an engine loads of each: runs, checkpoints, model folders, hub names."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.checkpoints.manifest import MANIFEST
from recipes.archer.checkpoints.store import PREFIX
from recipes.archer.ending import UserError
from recipes.archer.evaluation.plan import model_digest
from recipes.archer.evaluation.tables import EVALUATIONS
from recipes.archer.export.choosing import Chosen, choose
from recipes.archer.export.placing import unwritable
from recipes.archer.reading.regular import read_bytes
from recipes.archer.runs.folder import OUTPUT, Run, is_run, locate, read_run
from recipes.archer.session.temporary import remove_leftovers, temporary_folder
from recipes.archer.settings.model_folder import model_folder, model_settings

ALL = "all"
PREFIX_OF_MODELS = "archer-model-"  # of exports that last as long as an engine


@dataclass(frozen=True)
class Target:
    """A model.

    Attributes:
        name: for tables.
        home: folder that the results of evaluating it are kept in.
        folder: of its settings and its tokenizer; of a model folder, also of its weights.
        digest: of its content.
        step: of a checkpoint; None of a model folder.
        run: that it is of, if any.
        checkpoint: its folder; None of a model folder.
    """

    name: str
    home: Path
    folder: Path
    digest: str
    step: int | None = None
    run: Run | None = None
    checkpoint: Path | None = None

    @contextmanager
    def weights(self, shared: bool = False) -> Iterator[Path]:
        """A model folder that engines load; of a checkpoint, exported for as long as it is needed.

        Args:
            shared: other nodes must see it: beside the results, and not in ``TMPDIR``.

        Raises:
            UserError: it cannot be written (DiskFullError: no room).
        """
        if self.checkpoint is None:
            yield self.folder
            return
        from recipes.archer.export.folder import export_model

        prefix = _prefix_beside_results() if shared else PREFIX_OF_MODELS
        place = self.home if shared else Path(tempfile.gettempdir())
        with ExitStack() as stack:
            try:
                place.mkdir(parents=True, exist_ok=True)
                temporary = stack.enter_context(temporary_folder(prefix, place))
            except OSError as error:
                raise unwritable(place, error) from None
            yield export_model(self.checkpoint, temporary / "model").folder

    def remove_leftovers(self) -> None:
        """Removes the exports beside the results that killed processes of this node have left."""
        remove_leftovers(_prefix_beside_results(), self.home)


def _prefix_beside_results() -> str:
    """A disk that is shared has leftovers of other nodes, whose processes are not known here."""
    return f"{PREFIX_OF_MODELS}{os.uname().nodename}-"


def find_targets(names: list[str], steps: str | None, out: Path | None) -> list[Target]:
    """The models that names mean, each once of a run, in their order.

    Args:
        names: runs (folders, or names under output/), checkpoints, model folders, owner/name on the hub.
        steps: of runs: best, last, all, or numbers with commas between; None: the best where one is kept, else the
            last.
        out: where results go; None: the run's folder, or ``evaluations`` under the output folder.

    Raises:
        UserError: a name means none of these, or a run has no such whole checkpoint.
    """
    found = [target for name in names for target in _of_name(name, steps, out)]
    once: dict[Any, Target] = {}
    for target in found:
        once.setdefault(_identity(target), target)
    return list(once.values())


def _identity(target: Target) -> tuple[str, Path, Path | None]:
    """Its content, where its results go, and whose they are: two runs may have a checkpoint in common."""
    return target.digest, target.home.resolve(), target.run.folder.resolve() if target.run is not None else None


def _of_name(name: str, steps: str | None, out: Path | None) -> list[Target]:
    folder = _folder(name)
    if (folder / "config.json").is_file() and not is_run(folder):
        return [_of_model(folder, name, out)]
    if steps != ALL and (steps is None or "," not in steps):
        return [_of_checkpoint(choose(folder, steps), out)]
    if is_run(folder):
        return [_of_checkpoint(chosen, out) for chosen in _several(folder, steps)]
    raise UserError(f"{folder} is no run, so that it has no several steps: leave out --steps")


def _folder(name: str) -> Path:
    """The folder that a name means: of a run, a checkpoint or a model."""
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return path
    try:
        return locate(name)
    except UserError as no_run:
        try:
            return model_folder(name)
        except UserError as no_model:
            raise (no_model if "/" in name and not path.is_absolute() else no_run) from None


def _several(folder: Path, steps: str) -> Iterator[Chosen]:
    """Every whole checkpoint, or those of the steps that are named."""
    if steps != ALL:
        yield from (choose(folder, step.strip()) for step in steps.split(","))
        return
    names = (path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*"))
    there = sorted({int(name) for name in names if name.isascii() and name.isdecimal()})
    whole, problem = [], None
    for step in there:
        try:
            whole.append(choose(folder, str(step)))
        except UserError as found:
            problem = found
    if not whole:
        raise problem or UserError(f"{folder} holds no whole checkpoint: trainer.save_freq says when a run saves")
    yield from whole


def _of_checkpoint(chosen: Chosen, out: Path | None) -> Target:
    path, step = chosen.checkpoint.path, chosen.checkpoint.step
    digest = hashlib.sha256(read_bytes(path / MANIFEST)).hexdigest()  # which lists every file's hash
    settings = path / "model_config"
    if not (settings / "config.json").is_file():
        raise UserError(f"checkpoint {path} holds no settings of a model: it is of another program")
    name = chosen.run.folder.resolve().name if chosen.run is not None else path.absolute().parent.name
    if out is not None or chosen.run is None:
        home = (out or _elsewhere()) / f"{name}-step_{step}"
    else:
        home = chosen.run.folder / EVALUATIONS / f"step_{step}"
    return Target(f"{name} step {step}", home, settings, digest, step, chosen.run, path)


def _of_model(folder: Path, name: str, out: Path | None) -> Target:
    model_settings(folder)  # it is whole
    parent = folder.resolve().parent
    run = read_run(parent) if is_run(parent) else None
    own = folder.resolve().name if Path(name).is_dir() or run is not None else name.rpartition("/")[2]
    shown = f"{run.folder.name} {own}" if run is not None else own
    home = run.folder / EVALUATIONS / own if run is not None and out is None else (out or _elsewhere()) / own
    try:
        return Target(shown, home, folder, model_digest(folder), run=run)
    except OSError as error:
        raise UserError(f"model folder {folder} cannot be read ({error.strerror}): check its permissions") from None


def _elsewhere() -> Path:
    """For results of what is of no run."""
    return Path(os.environ.get("OUTPUT_DIR") or OUTPUT) / EVALUATIONS
