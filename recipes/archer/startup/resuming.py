"""Which checkpoint a run goes on from, and whether it may; all of it before Ray starts."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from recipes.archer.checkpoints.disk_space import first_size, shortage
from recipes.archer.checkpoints.identity import check_identity, identity
from recipes.archer.checkpoints.reading import STATE, Checkpoint, read
from recipes.archer.checkpoints.saver import CheckpointSaver
from recipes.archer.checkpoints.store import BestBy, CheckpointStore
from recipes.archer.control.entropy import EntropyControl
from recipes.archer.control.rules import Rules
from recipes.archer.ending import UserError
from recipes.archer.losses.constants import uses_reference
from recipes.archer.metrics.names import metric_names
from recipes.archer.monitoring.guard import Guard
from recipes.archer.printable import complain
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.runs.courses import Courses
from recipes.archer.settings.model_folder import model_folder


def store_of(config) -> CheckpointStore:
    """The run folder's checkpoints, with the rules of the configuration.

    Raises:
        UserError: ``trainer.keep_best`` is wrong.
    """
    trainer, goes_back = config.trainer, config.guard.action == "rollback"
    best_by = _best_by(trainer.keep_best)
    return CheckpointStore(
        trainer.default_local_dir, trainer.keep_last, best_by, trainer.trust_old_checkpoints, goes_back
    )


def _best_by(settings) -> BestBy | None:
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        raise UserError(f"trainer.keep_best={settings}: write trainer.keep_best.metric=val/accuracy")
    if settings["mode"] not in ("max", "min"):
        raise UserError(f"trainer.keep_best.mode={settings['mode']} is not known; use max or min")
    return None if settings["metric"] is None else BestBy(str(settings["metric"]), settings["mode"])


def check_best_by(store: CheckpointStore, val_sources: Iterable[str]) -> None:
    """Refuses a metric that no row will have.

    Raises:
        UserError: names the setting, and metrics that exist.
    """
    if store.best_by is not None:
        check_metric("trainer.keep_best.metric", store.best_by.metric, val_sources)


def check_metric(setting: str, metric: str, val_sources: Iterable[str]) -> None:
    """Refuses a metric that no row will have.

    Raises:
        UserError: names the setting, and metrics that exist.
    """
    known = metric_names(val_sources)
    if metric not in known:
        last = metric.split("/")[-1]
        near = sorted(name for name in known if last in name.split("/")) or sorted(n for n in known if "val/" in n)
        raise UserError(
            f"{setting}={metric} is no metric of this run; take one of docs/metrics.md, such as {', '.join(near[:3])}"
        )


def size_of_first(config) -> int:
    """Bytes that this configuration's first checkpoint is expected to take."""
    model = config.actor_rollout_ref.model
    dtype = config.actor_rollout_ref.actor.fsdp_config.get("model_dtype") or "fp32"
    path, bytes_each = model_folder(model.path), 4 if "32" in str(dtype) else 2
    size = first_size(path, bytes_each)
    return size + (first_size(path, _bytes_of_reference(config), 1) if _is_refreshed(config) else 0)


def _is_refreshed(config) -> bool:
    """Whether a checkpoint holds the reference, too."""
    return config.actor_rollout_ref.ref.refresh.every is not None


def _bytes_of_reference(config) -> int:
    return 4 if "32" in str(config.actor_rollout_ref.ref.fsdp_config.get("model_dtype")) else 2


def _least_size(config) -> int:
    """Bytes that the next checkpoint takes at least; the newest may be of a time at which nothing was refreshed."""
    return size_of_first(config) if _is_refreshed(config) else 0


def saver_and_checkpoint(
    config, datasets, again: bool, courses: Courses | None = None
) -> tuple[CheckpointSaver, Checkpoint | None]:
    """What saves checkpoints, and the one to go on from, None for a new run; what to warn of is said.

    Args:
        config: the whole configuration.
        datasets: of the training and of the held-out prompts.
        again: after another Ray session of this process.
        courses: that the run has gone back to so far; None: it has not.

    Raises:
        UserError: there is one that this run cannot go on from, or ``trainer.keep_best`` or
            ``trainer.stop_after_best`` names no metric.
    """
    train, val = datasets
    courses = courses or Courses()
    ours = again and config.trainer.resume_mode == "disable"
    if ours or _went_back_since(courses, config.trainer):  # the checkpoints that are there are this very run's
        config = OmegaConf.merge(config, {"trainer": {"resume_mode": "auto"}})
    store = store_of(config)
    val_sources = {val.source(i) for i in range(len(val))}
    check_best_by(store, val_sources)
    if config.trainer.stop_after_best.patience is not None:
        check_metric("trainer.stop_after_best.metric", config.trainer.stop_after_best.metric, val_sources)
    this_run = identity(config, train.dataframe) | {"course": courses.number}
    checkpoint, warnings = checkpoint_to_continue(config, store, this_run)
    for line in warnings:
        complain(f"warning: {line}")
    sizes = size_of_first(config), _least_size(config)
    saver = CheckpointSaver(store, this_run, *sizes, config.trainer.max_failed_saves)
    if checkpoint is not None and config.guard.rollback.reset_optimizer and _course_in(checkpoint) < courses.number:
        checkpoint = replace(checkpoint, fresh_optimizer=True)
    return saver, checkpoint


def _went_back_since(courses: Courses, trainer) -> bool:
    """Whether the run went back by itself after this very command had let it go on from ``resume_from_path``."""
    path = str(trainer.resume_from_path) if trainer.resume_mode == "resume_path" else None
    return path is not None and any(course.resume_from_path == path for course in courses.turns)


def _course_in(checkpoint: Checkpoint) -> int:
    """On which course it was saved."""
    course = (checkpoint.state.get("identity") or {}).get("course")
    return course if type(course) is int else 0


def checkpoint_to_continue(config, store: CheckpointStore, this_run: dict) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint that the run goes on from, None for a new run; and what to warn of, a line each.

    Args:
        config: the whole configuration.
        this_run: its identity.

    Raises:
        UserError: the one to go on from is not whole or belongs to something else, or there must be none and is.
    """
    checkpoint, warnings = _chosen(config.trainer, store)
    if checkpoint is not None:
        warnings += check_identity(checkpoint, this_run, uses_reference(config.actor_rollout_ref.actor))
        check_state(checkpoint, config, this_run["data"]["prompts"])
    if lack := shortage(store.folder, max(store.size() or size_of_first(config), _least_size(config))):
        warnings.append(f"there is no room for a checkpoint: {lack}")
    return checkpoint, warnings


def check_state(checkpoint: Checkpoint, config, num_prompts: int) -> None:
    """Lets what the driver is made of take up the checkpoint's state, before anything starts.

    Raises:
        UserError: it cannot; the message says what is wrong.
    """
    state = checkpoint.state
    try:
        PromptStream(num_prompts, config.data.seed, config.data.shuffle).load_state_dict(state["stream"])
        EntropyControl(config.control.entropy).load_state_dict(state.get("entropy_control"))
        rules = Rules(config.trainer, Guard.from_config(config))
        rules.load_state_dict(state)
        rules.guard.summary()  # judges by what it has just taken up
        rules.broken()
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:  # whatever JSON may hold
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise UserError(
            f"checkpoint {checkpoint.path}: {STATE} does not hold what a run saves ({reason}); set "
            "trainer.experiment_name to another name for a new run"
        ) from None


def _chosen(trainer, store: CheckpointStore) -> tuple[Checkpoint | None, list[str]]:
    if trainer.resume_mode == "resume_path":
        path = Path(str(trainer.resume_from_path))
        own, skipped = store.newest_whole()
        went_back_to = (own.state.get("identity") or {}).get("resume_from_path") if own is not None else None
        if isinstance(went_back_to, str) and Path(went_back_to) == path:
            return own, skipped  # written after this very command had gone back to the path, then was interrupted
        if not path.is_dir():
            raise UserError(f"trainer.resume_from_path={path} is no folder; name a checkpoint, .../global_step_<n>")
        try:
            return read(path, trainer.trust_old_checkpoints), []
        except ValueError as error:
            raise UserError(f"trainer.resume_from_path={path}: {error}") from None
    checkpoint, skipped = store.newest_whole()
    if trainer.resume_mode != "disable":
        again = ["no checkpoint is whole: training starts from the first step"] if skipped and not checkpoint else []
        return checkpoint, skipped + again
    if checkpoint is not None:
        raise UserError(
            f"trainer.resume_mode=disable, but {store.folder} holds checkpoints of an earlier run; "
            "remove the folder, or set trainer.experiment_name to another name"
        )
    return None, []
