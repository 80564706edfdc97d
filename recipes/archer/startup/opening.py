"""A run is opened: its configuration checked, its folder taken, what it is written down."""

import errno
import os
import sys

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import FolderInUseError
from recipes.archer.files import is_full
from recipes.archer.runs.log import RunLog
from recipes.archer.settings import configuration
from recipes.archer.settings.leaks import check_configuration
from recipes.archer.settings.model_folder import model_folder
from recipes.archer.startup.preflight import check
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
        print(f"warning: {remark}", file=sys.stderr)
    OmegaConf.resolve(config)
    config.actor_rollout_ref.model.path = str(model_folder(config.actor_rollout_ref.model.path))
    return take_folder(config.trainer.default_local_dir)


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


def run_facts(config: DictConfig) -> dict:
    """What run.json says of a run from its start."""
    from verl.utils.device import get_torch_device

    return {
        "experiment": config.record.name if config.get("record") else None,
        "project": config.trainer.project_name,
        "name": config.trainer.experiment_name,
        "seed": config.seed,
        "device": config.trainer.device,
        "device_name": get_torch_device().get_device_name(),
        "world_size": config.trainer.n_gpus_per_node * config.trainer.nnodes,
    }
