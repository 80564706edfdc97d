"""A run is opened: its configuration checked, its folder taken, what it is written down."""

import copy
import errno
import os

from omegaconf import DictConfig, OmegaConf

from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.ending import FolderInUseError, UserError
from recipes.archer.experiments.overrides import with_overrides
from recipes.archer.files import is_full
from recipes.archer.printable import complain
from recipes.archer.runs.courses import COURSES, Courses
from recipes.archer.runs.log import RunLog
from recipes.archer.settings import configuration
from recipes.archer.settings.leaks import check_configuration
from recipes.archer.settings.model_folder import model_folder
from recipes.archer.startup.preflight import check, check_anywhere
from recipes.archer.startup.remarks import remarks

# a run folder that cannot be had, now or later
LASTING = (errno.EACCES, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EROFS)


def open_run(config: DictConfig) -> RunLog:
    """The run folder's log, taken once nothing is known to be wrong; ``config`` is spelt out and resolved on the way.

    Raises:
        UserError: something is, or another run is using the folder (FolderInUseError).
    """
    configuration.spell_out(config)
    check_configuration(config, os.environ)  # first: a message may quote a setting
    check(config)
    for remark in remarks(config):
        complain(f"warning: {remark}")
    _resolve(config)
    return take_folder(config.trainer.default_local_dir)


def on_course(written: DictConfig, courses: Courses) -> tuple[DictConfig, DictConfig]:
    """The configuration of the present course, and the same resolved.

    Args:
        written: the command's, composed and not resolved.

    Raises:
        UserError: a course does not go with it.
    """
    try:
        config = with_overrides(written, courses.overrides)
        check_configuration(config, os.environ)
        check_anywhere(config)
    except UserError as error:
        where = f"{written.trainer.default_local_dir}/{COURSES}: " if courses.turns else ""
        raise UserError(f"{where}{error}") from None
    resolved = copy.deepcopy(config)
    _resolve(resolved)
    return config, resolved


def _resolve(config: DictConfig) -> None:
    OmegaConf.resolve(config)
    config.actor_rollout_ref.model.path = str(model_folder(config.actor_rollout_ref.model.path))


def take_folder(path: str) -> RunLog:
    """The run folder, taken.

    Raises:
        FolderInUseError: another run holds it, or it is out of reach for now, as a volume that is away.
        OSError: there can be no such folder, or the disk is full.
    """
    try:
        return RunLog(path)
    except OSError as error:
        if is_full(error) or error.errno in LASTING:
            raise
        raise FolderInUseError(error) from None


def run_facts(config: DictConfig, courses: Courses, first: int, store: CheckpointStore) -> dict:
    """What run.json says of a run from its start, or from the checkpoint of the step ``first``."""
    from verl.utils.device import get_torch_device

    turned = {}
    if courses.turns and courses.turns[-1].back_to == first:  # what was last and best so far is another branch's
        best = store.best()
        turned = {"last_checkpoint": first or None, "best_checkpoint": best.name if best else None}
    return {
        **({"courses": courses.facts()} if courses.turns else {}),
        **turned,
        "experiment": config.record.name if config.get("record") else None,
        "project": config.trainer.project_name,
        "name": config.trainer.experiment_name,
        "seed": config.seed,
        "device": config.trainer.device,
        "device_name": get_torch_device().get_device_name(),
        "world_size": config.trainer.n_gpus_per_node * config.trainer.nnodes,
    }
