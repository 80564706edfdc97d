"""Entry point: ``python -m recipes.archer.main experiment=v5 ...`` (Hydra over config/archer.yaml).

Checks everything it can, takes the run folder, starts Ray, trains, and leaves nothing behind.  The loop runs
in this process, so that a signal to it is a signal to the loop.
"""

import errno
import gc
import os
import sys
import traceback
from contextlib import ExitStack, redirect_stdout

import hydra
from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import DISK, FAILED, WRONG_CALL, Ending, FolderInUseError, UserError
from recipes.archer.session.output import best_effort_output
from recipes.archer.session.signals import StopRequested, StopSignals
from recipes.archer.settings import configuration
from recipes.archer.settings.command_line import exit_code_of

# a run folder that cannot be had, now or later
LASTING = (errno.EACCES, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EROFS)


@hydra.main(config_path="config", config_name="archer", version_base="1.3")
def main(config: DictConfig) -> None:
    """Trains; exits with the ending's code."""
    code = run(config)
    gc.freeze()  # nothing is left that must be closed, and the interpreter would look through all of it for seconds
    sys.exit(code)


def run(config: DictConfig) -> int:
    """Trains a composed configuration and returns the exit code."""
    with best_effort_output(), StopSignals() as stop:
        try:
            with stop.nothing_to_save():
                log = _checked(config)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except OSError as error:  # a file cannot be read, or the run folder not be made
            print(f"error: {error}", file=sys.stderr)
            return DISK if _is_full(error) else WRONG_CALL
        except StopRequested:
            return stop.ending().exit_code
        stop.grace_s, stop.record = config.trainer.grace_s, log.ended
        ending = Ending("failed", "ended without a reason", FAILED)
        try:
            ending = _train(config, log, stop)
        except UserError as error:
            ending = Ending("failed", str(error), WRONG_CALL)
            print(f"error: {error}", file=sys.stderr)
        except StopRequested:
            ending = stop.ending(" during set-up")
        except Exception as error:
            ending = _failure(error)
        finally:
            log.close(ending)
        return ending.exit_code


def _failure(error: Exception) -> Ending:
    """The end by an error that nobody expected here; of a full disk in one line, of others with their traceback."""
    if _is_full(error):
        print(f"error: {error}; make room, then start the same command again", file=sys.stderr)
        return Ending("failed", str(error), DISK)
    traceback.print_exc()
    last_line = (str(error).strip().splitlines() or [""])[-1]
    return Ending("failed", f"{type(error).__name__}: {last_line}", FAILED)


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _checked(config: DictConfig):
    """The run folder's log, taken once nothing is known to be wrong.

    Raises:
        UserError: something is, or another run is using the folder (FolderInUseError).
    """
    from recipes.archer.settings.leaks import check_configuration
    from recipes.archer.settings.model_folder import model_folder
    from recipes.archer.startup.preflight import check, remarks

    configuration.spell_out(config)
    check_configuration(config, os.environ)  # first: a message may quote a setting
    check(config)
    OmegaConf.resolve(config)
    config.actor_rollout_ref.model.path = str(model_folder(config.actor_rollout_ref.model.path))
    for remark in remarks(config):
        print(f"warning: {remark}", file=sys.stderr)
    return _run_folder(config.trainer.default_local_dir)


def _run_folder(path: str):
    """The run folder, taken.

    Raises:
        FolderInUseError: another run holds it, or it is out of reach for now, as a volume that is away.
        OSError: there can be no such folder, or the disk is full.
    """
    from recipes.archer.runs.log import RunLog

    try:
        return RunLog(path)
    except OSError as error:
        if _is_full(error) or error.errno in LASTING:
            raise
        raise FolderInUseError(error) from None


def _train(config: DictConfig, log, stop: StopSignals) -> Ending:
    """Trains to the run's end, in as many Ray sessions as deaths of workers make necessary."""
    from recipes.archer.session.secrets import wandb_environment
    from recipes.archer.startup.inputs import tokenizer_and_prompts
    from recipes.archer.startup.restarts import Restarts
    from recipes.archer.workers.calls import RolloutHungError
    from recipes.archer.workers.death import WorkerDiedError

    with stop.nothing_to_save():
        os.environ.update(wandb_environment(config, os.environ))  # before Ray starts
        inputs = tokenizer_and_prompts(config)
    restarts, again = Restarts(config.trainer.max_restarts, log), False
    while True:
        try:
            return _attempt(config, log, stop, *inputs, again)
        except (WorkerDiedError, RolloutHungError) as fault:
            ending = stop.ending(f", but {fault}") if stop.requested else restarts.after(fault)
        if ending is not None:
            print(f"error: {ending.reason}", file=sys.stderr, flush=True)
            return ending
        gc.collect()  # what refers to the session that is over, before there is another
        again = True


def _attempt(config: DictConfig, log, stop: StopSignals, tokenizer, datasets, again: bool) -> Ending:
    """Trains in one Ray session; ``again`` after another one of this process.

    Raises:
        WorkerDiedError, RolloutHungError: the session is lost, the run is not.
        StopRequested: a signal came before there was anything to save.
    """
    from recipes.archer.runs.log import open_notes
    from recipes.archer.session.ray_session import ray_session
    from recipes.archer.startup.inputs import check_ground_truths, grading_pool
    from recipes.archer.workers.calls import RolloutHungError
    from recipes.archer.workers.death import Roster

    with ExitStack() as session:
        with stop.nothing_to_save():
            saver, checkpoint = _checkpoint(config, datasets, again)
            # what verl, Ray and the workers' start have to say is for when something goes wrong
            notes = session.enter_context(open_notes(log.folder / "setup.log"))
            if not config.ray_init.log_to_driver:
                session.enter_context(redirect_stdout(notes))
            pool = session.enter_context(grading_pool(config))
            check_ground_truths(config, pool)
            folder = session.enter_context(ray_session(config))
            roles = "actor, rollout" + ", reference" * config.actor_rollout_ref.actor.use_kl_loss
            roster = Roster(roles, folder, log.folder / "setup.log")
            trainer = _build(config, log, pool, stop, tokenizer, datasets, saver, checkpoint, roster)
        try:
            with stop.nothing_to_save():
                trainer.init_workers()
                if checkpoint:
                    trainer.resume(checkpoint)
            ending = trainer.fit()
        except (UserError, StopRequested, RolloutHungError):
            trainer.report.broke_off()
            raise
        except Exception as error:
            death = roster.death_behind(error)
            trainer.report.broke_off()
            if death is None:
                raise
            raise death from None
        stop.disarm()
        trainer.report.end(ending)
        return ending


def _build(config: DictConfig, log, pool, stop, tokenizer, datasets, saver, checkpoint, roster):
    """The trainer, before its workers start; the run folder is written to from here on."""
    import ray

    from recipes.archer.monitoring.guard import Guard
    from recipes.archer.reports.live import Report
    from recipes.archer.reward.manager import ArcherRewardManager
    from recipes.archer.runs.trackers import Trackers
    from recipes.archer.trainer import ArcherTrainer
    from recipes.archer.workers.resources import HostResourcePoolManager
    from recipes.archer.workers.worker import ArcherWorker
    from verl.trainer.ppo.ray_trainer import Role
    from verl.utils.device import get_torch_device

    roles = {Role.ActorRollout: ray.remote(ArcherWorker)}
    if config.actor_rollout_ref.actor.use_kl_loss:
        roles[Role.RefPolicy] = ray.remote(ArcherWorker)
    pools = HostResourcePoolManager.for_roles(roles, config.trainer)
    reward = ArcherRewardManager(tokenizer, pool, config.reward, config.data.max_response_length)
    trainer = ArcherTrainer(
        config,
        tokenizer=tokenizer,
        role_worker_mapping=roles,
        resource_pool_manager=pools,
        ray_worker_group_cls=roster.group,
        train_dataset=datasets[0],
        val_dataset=datasets[1],
        reward=reward,
        report=None,
        guard=Guard.from_config(config),
        stop=stop,
        saver=saver,
    )
    first, row = (checkpoint.step, checkpoint.state.get("row")) if checkpoint else (0, None)
    facts = {
        "experiment": config.record.name if config.get("record") else None,
        "project": config.trainer.project_name,
        "name": config.trainer.experiment_name,
        "seed": config.seed,
        "device": config.trainer.device,
        "device_name": get_torch_device().get_device_name(),
        "world_size": config.trainer.n_gpus_per_node * config.trainer.nnodes,
    }
    log.open(config, facts, first, row)
    plain = OmegaConf.to_container(config, resolve=True)
    names = config.trainer
    trackers = Trackers(names.logger, log.folder, plain, names.project_name, names.experiment_name, first + 1)
    trainer.report = Report(log, trackers, config.trainer, trainer.total_training_steps)
    return trainer


def _checkpoint(config: DictConfig, datasets, again: bool):
    """What saves checkpoints, and the one to go on from, None for a new run.

    Raises:
        UserError: there is one that this run cannot go on from, or ``trainer.keep_best`` names no metric.
    """
    from recipes.archer.checkpoints.identity import identity
    from recipes.archer.checkpoints.saver import CheckpointSaver
    from recipes.archer.startup.resuming import check_best_by, checkpoint_to_continue, size_of_first, store_of

    train, val = datasets
    if again and config.trainer.resume_mode == "disable":  # the checkpoints that are there are this very run's
        config = OmegaConf.merge(config, {"trainer": {"resume_mode": "auto"}})
    store = store_of(config.trainer)
    check_best_by(store, {val.source(i) for i in range(len(val))})
    this_run = identity(config, train.dataframe)
    checkpoint, warnings = checkpoint_to_continue(config, store, this_run)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    saver = CheckpointSaver(store, this_run, size_of_first(config), config.trainer.max_failed_saves)
    return saver, checkpoint


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
