"""Trackers: where a run's metrics go besides its own file. Every one gets every metric that exists.

A tracker that fails is reported once and left alone: it never stops training.
"""

import logging
import math
import os
from pathlib import Path

logger = logging.getLogger(__name__)

KNOWN = ("console", "tensorboard", "wandb")


class TensorBoard:
    """Scalars in ``<run folder>/tensorboard``; on resume, later steps of the earlier attempt are dropped."""

    def __init__(self, folder: Path, first_step: int, **_):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def log(self, row: dict, step: int) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, exit_code: int) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A W&B run; the identity and the key come from the environment (``recipes.archer.secrets``)."""

    def __init__(self, folder: Path, config: dict, project: str, name: str, **_):
        import wandb

        mode = os.environ.get("WANDB_MODE")
        self._run = wandb.init(
            project=project,
            name=name,
            config=config,
            dir=str(folder),
            settings=wandb.Settings(init_timeout=120, console="off"),
            mode=mode if mode in ("offline", "online", "disabled") else None,
        )

    def log(self, row: dict, step: int) -> None:
        self._run.log(row, step=step)

    def finish(self, exit_code: int) -> None:
        import wandb

        self._run.finish(exit_code=exit_code)
        wandb.teardown(exit_code)  # its service belongs to the session, which is about to be cleared


class Trackers:
    """All trackers that ``trainer.logger`` names; the console is the run log's own.

    Raises:
        ValueError: an unknown tracker.
    """

    def __init__(self, names, folder: Path, config: dict, project: str, name: str, first_step: int):
        unknown = [tracker for tracker in names if tracker not in KNOWN]
        if unknown:
            raise ValueError(f"trainer.logger: {unknown[0]} is not known; use {', '.join(KNOWN)}")
        classes = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
        self._trackers = {
            tracker: classes[tracker](folder=folder, config=config, project=project, name=name, first_step=first_step)
            for tracker in names
            if tracker != "console"
        }
        self._failed: set[str] = set()

    def log(self, row: dict, step: int) -> None:
        """Sends the values that exist; null means there is no such value, not zero."""
        existing = {k: v for k, v in row.items() if isinstance(v, int | float) and not math.isnan(v)}
        self._each(lambda tracker: tracker.log(existing, step))

    def finish(self, exit_code: int) -> None:
        self._each(lambda tracker: tracker.finish(exit_code))

    def _each(self, action) -> None:
        for name, tracker in self._trackers.items():
            try:
                action(tracker)
            except Exception as error:  # whatever a service or its client does, training goes on
                if name not in self._failed:
                    logger.warning("tracker %s failed and misses steps from here on: %s", name, error)
                self._failed.add(name)
