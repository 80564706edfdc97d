"""Trackers: where a run's metrics go besides its own file. Every one gets every metric that exists.

Each has a thread of its own (``tracker_feed``): one that is down or slow neither stops nor slows training.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recipes.archer.runs.names import of_course
from recipes.archer.runs.tracker_feed import Tracker, TrackerFeed
from recipes.archer.settings.running import LOGGERS

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

LOCAL = ("tensorboard",)  # writes beside the checkpoints, so a wait for it is a wait for the disk
LOCAL_S = 1.0
Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {"online": "online", "offline": "offline", "disabled": "disabled"}


class TensorBoard:
    """Scalars in ``<run folder>/tensorboard``; on resume, later steps of the earlier attempt are dropped.

    What a run does after it went back is a run of its own there, ``course_<k>`` below that folder.
    """

    def __init__(self, folder: Path, first_step: int, course: int, **_: Any):
        from torch.utils.tensorboard import SummaryWriter

        _silence_writers()
        target = folder / "tensorboard" / (f"course_{course}" if course else "")
        _date_back(target, int(time.time()))
        self._writer = SummaryWriter(str(target), purge_step=first_step)

    def log(self, row: dict[str, Any], step: int) -> None:
        for name, value in row.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, exit_code: int) -> None:
        self._writer.close()


def _silence_writers() -> None:
    """No traceback on the terminal when TensorBoard's own thread fails, on a full disk: ``log`` raises its error."""
    before = threading.excepthook
    if getattr(before, "passes_over_writers", False):
        return

    def hook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__name__ != "_AsyncWriterThread":
            before(failure)

    hook.passes_over_writers = True  # type: ignore[attr-defined]  # the mark that is looked for above
    threading.excepthook = hook


def _date_back(folder: Path, now: int) -> None:
    """Renames event files so that one of ``now`` comes last: TensorBoard reads them in the order of their names.

    Their order stays. A clock that was put back would hide the continuation behind what it replaces.
    """
    found = (re.fullmatch(r"(events\.out\.tfevents\.)(\d+)(\..*)", file.name) for file in folder.glob("events.*"))
    files = sorted(filter(None, found), key=lambda match: match.string)
    for left, match in zip(range(len(files), 0, -1), files, strict=True):
        if int(match[2]) > now - left:
            os.rename(folder / match.string, folder / f"{match[1]}{now - left:010d}{match[3]}")


class WeightsAndBiases:
    """A W&B run; the identity and the key come from the environment (``recipes.archer.session.secrets``).

    A service that cannot be reached, or refuses the key, at the start of a run makes the run an offline one.
    """

    def __init__(self, folder: Path, config: dict[str, Any], project: str, name: str, course: int, **_: Any):
        mode = MODES.get(os.environ.get("WANDB_MODE", ""))
        arguments = {"project": project, "name": name, "config": config, "dir": str(folder)}
        if goes_back(config):  # its courses are runs of one group
            arguments |= {"group": name, "name": of_course(name, course)}
        if course and (identity := os.environ.get("WANDB_RUN_ID")):
            arguments["id"] = of_course(identity, course)  # with one id, W&B takes a course for the run before it
        try:
            self._run = _wandb_run(mode, arguments)
        except Exception as error:  # of the service, of the network, of the key
            if mode in ("offline", "disabled"):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("W&B: %s; the run stays offline in %s, `wandb sync` uploads it", reason, folder / "wandb")
            self._run = _wandb_run("offline", arguments)

    def log(self, row: dict[str, Any], step: int) -> None:
        self._run.log(row, step=step)

    def finish(self, exit_code: int) -> None:
        import wandb

        self._run.finish(exit_code=exit_code)
        wandb.teardown(exit_code)  # its service belongs to the session, which is about to be cleared


def _wandb_run(mode: Mode | None, arguments: dict[str, Any]) -> "wandb.Run":
    import wandb

    if wandb.run is not None:  # of an attempt that failed; init would hand it out again
        with suppress(Exception):
            wandb.teardown(1)
    # without limits, a service that does not answer or a missing key would hold the thread, or ask the terminal
    settings = wandb.Settings(init_timeout=60, login_timeout=10, console="off")
    return wandb.init(**arguments, mode=mode, settings=settings)


def goes_back(config: dict[str, Any]) -> bool:
    """Whether a run with this configuration may have several courses."""
    return bool((config.get("guard") or {}).get("action") == "rollback")


def existing(row: dict[str, Any]) -> dict[str, Any]:
    """What a tracker gets of a row: not what is null, NaN or a list."""
    return {key: value for key, value in row.items() if isinstance(value, int | float | str) and value == value}


class Trackers:
    """All trackers that ``trainer.logger`` names; the console is the run log's own.

    Args:
        names: ``trainer.logger``.
        folder: the run folder.
        config: the resolved configuration, for trackers that show it.
        project, name: of the run.
        first_step: of this attempt; what a tracker has of it and later steps is replaced where it can be.
        course: how often the run has gone back; each course is a run of its own.

    Raises:
        ValueError: an unknown tracker.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        config: dict[str, Any],
        project: str,
        name: str,
        first_step: int,
        course: int = 0,
    ):
        unknown = [tracker for tracker in names if tracker not in LOGGERS]
        if unknown:
            raise ValueError(f"trainer.logger: {unknown[0]} is not known; use {', '.join(LOGGERS)}")
        classes: dict[str, Callable[..., Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}

        def opener(kind: Callable[..., Tracker]) -> Callable[[int], Tracker]:
            about = {"folder": folder, "config": config, "project": project, "name": name, "course": course}
            return lambda step: kind(first_step=step, **about)

        chosen = {tracker: classes[tracker] for tracker in names if tracker != "console"}
        self._feeds = [TrackerFeed(tracker, opener(kind), first_step) for tracker, kind in chosen.items()]

    def log(self, row: dict[str, Any], step: int) -> None:
        """Sends the values that exist, without waiting; null means there is no such value, not zero."""
        sent = existing(row)
        for feed in self._feeds:
            feed.put(step, sent)

    def settle(self) -> None:
        """Before a checkpoint: a local tracker takes the rows that a run going on from it will not send again."""
        for feed in self._feeds:
            if feed.name in LOCAL:
                feed.wait_until_delivered(LOCAL_S)

    def finish(self, exit_code: int, grace_s: float) -> None:
        """Waits up to ``grace_s`` seconds, in all, for what is still on its way; then says what is missing."""
        deadline = time.monotonic() + grace_s
        for feed in self._feeds:
            feed.close(exit_code)
        for feed in self._feeds:
            if (missing := feed.verdict(deadline)) is not None:
                logger.warning("%s; metrics.jsonl has every step", missing)
