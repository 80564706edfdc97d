"""Entry point: ``python -P -m recipes.archer.main experiment=v5_mended ...`` (Hydra over config/archer.yaml).

Checks everything it can, takes the run folder, starts Ray, trains, and leaves nothing behind.  The loop runs
in this process, so that a signal to it is a signal to the loop.
"""

import copy
import gc
import os
import sys
import traceback
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from recipes.archer.collector import loading
from recipes.archer.ending import DISK, FAILED, WRONG_CALL, Ending, UserError
from recipes.archer.files import is_full
from recipes.archer.printable import complain, guard_logs, printable, say
from recipes.archer.session.output import best_effort_output
from recipes.archer.session.signals import StopRequested, StopSignals
from recipes.archer.settings.command_line import exit_code_of

if TYPE_CHECKING:  # they take seconds to import
    from recipes.archer.prompts.dataset import PromptDataset
    from recipes.archer.runs.log import RunLog
    from recipes.archer.startup.progress import Progress
    from recipes.archer.workers.deadlines import Deadlines


@hydra.main(config_path="config", config_name="archer", version_base="1.3")
def main(config: DictConfig) -> None:
    """Trains; exits with the ending's code."""
    guard_logs()
    code = run(config)
    gc.freeze()  # nothing is left that must be closed, and the interpreter would look through all of it for seconds
    sys.exit(code)


def run(config: DictConfig) -> int:
    """Trains a composed configuration and returns the exit code."""
    written = copy.deepcopy(config)
    with best_effort_output(), StopSignals() as stop:
        try:
            with stop.nothing_to_save():
                log = _open(config)
        except UserError as error:
            complain(f"error: {error}")
            return error.exit_code
        except OSError as error:  # a file cannot be read, or the run folder not be made
            complain(f"error: {error}")
            return DISK if is_full(error) else WRONG_CALL
        except StopRequested:
            return stop.ending().exit_code
        stop.grace_s, stop.record = config.trainer.grace_s, log.ended
        ending = Ending("failed", "ended without a reason", FAILED)
        try:
            ending = _train(config, written, log, stop)
            _leave_model(config, ending)
        except UserError as error:
            ending = Ending("failed", str(error), WRONG_CALL)
            complain(f"error: {error}")
        except StopRequested:
            ending = stop.ending(" during set-up")
        except Exception as error:
            ending = _failure(error)
        finally:
            log.close(ending)
        return ending.exit_code


def _failure(error: Exception) -> Ending:
    """The end by an error that nobody expected here; of a full disk in one line, of others with their traceback."""
    if is_full(error):
        complain(f"error: {error}; make room, then start the same command again")
        return Ending("failed", str(error), DISK)
    print(printable(traceback.format_exc()), end="", file=sys.stderr)
    last_line = (str(error).strip().splitlines() or [""])[-1]
    return Ending("failed", f"{type(error).__name__}: {last_line}", FAILED)


def _open(config: DictConfig):
    """The run's log, in its folder; imports what checks only once there is something to check."""
    from recipes.archer.startup.opening import open_run

    return open_run(config)


def _judged(config: DictConfig) -> None:
    """What is said of a configuration that is only printed.

    Raises:
        UserError: something in it is wrong on every machine.
    """
    from recipes.archer.startup.preflight import check_anywhere

    check_anywhere(config)


def _train(config: DictConfig, written: DictConfig, log, stop: StopSignals) -> Ending:
    """Trains to the run's end, in as many Ray sessions as deaths of workers and turns of its course make necessary."""
    from recipes.archer.startup.libraries import libraries_loaded
    from recipes.archer.startup.progress import Progress

    progress = Progress()
    with ExitStack() as lasting:
        with stop.nothing_to_save():
            progress.tell("loading libraries")
            forks = lasting.enter_context(libraries_loaded(config))
        return _sessions(config, written, log, stop, progress, forks)


def _sessions(config: DictConfig, written: DictConfig, log, stop: StopSignals, progress, forks) -> Ending:
    """The Ray sessions of a run, one after the other."""
    from recipes.archer.control.going_back import settle
    from recipes.archer.session.secrets import wandb_environment
    from recipes.archer.startup.inputs import tokenizer_and_prompts
    from recipes.archer.startup.opening import on_course
    from recipes.archer.startup.restarts import Restarts
    from recipes.archer.startup.resuming import store_of
    from recipes.archer.startup.stop_tokens import settle_stop_tokens
    from recipes.archer.workers.deadlines import Deadlines, WorkerHungError
    from recipes.archer.workers.death import WorkerDiedError

    with stop.nothing_to_save(), loading():
        import recipes.archer.trainer  # noqa: F401 - now, where the collector waits

        os.environ.update(wandb_environment(config, os.environ))  # before Ray starts
        progress.tell("reading tokenizer and prompts")
        run = Lasting(log, stop, *tokenizer_and_prompts(config), Deadlines(config), progress, forks)
    restarts, again = Restarts(config.trainer.max_restarts, log), False
    while True:
        with stop.nothing_to_save():
            courses = settle(log.folder, store_of(config))
            course = on_course(written, courses)
            settle_stop_tokens(course[1], run.tokenizer)
        try:
            ending = _attempt(*course, courses, run, again)
            if ending is not None:
                return ending
        except (WorkerDiedError, WorkerHungError) as fault:
            ending = stop.ending(f", but {fault}") if stop.requested else restarts.after(fault)
            if ending is not None:
                complain(f"error: {ending.reason}")
                return ending
        gc.collect()  # what refers to the session that is over, before there is another
        again = True


def _leave_model(config: DictConfig, ending: Ending) -> None:
    """The model for others, and the lines that load it, which are the last that a run prints."""
    from recipes.archer.export.making import leave_model

    lines, problem = leave_model(config.trainer, ending)
    if problem is not None:
        complain(f"warning: {problem}")
    for line in lines:
        say(line, flush=True)


@dataclass(frozen=True)
class Lasting:
    """What a run has over all of its sessions."""

    log: "RunLog"
    stop: StopSignals
    tokenizer: Any
    datasets: "tuple[PromptDataset, PromptDataset]"
    deadlines: "Deadlines"
    progress: "Progress"
    forks: Path | None


def _attempt(written: DictConfig, config: DictConfig, courses, run: Lasting, again: bool) -> Ending | None:
    """Trains in one Ray session; ``again`` after another one of this process.

    Args:
        written, config: of the present course, not resolved and resolved.

    Returns:
        The run's end; None where it goes back and on.

    Raises:
        WorkerDiedError, WorkerHungError: the session is lost, the run is not.
        StopRequested: a signal came before there was anything to save.
    """
    from recipes.archer.control.going_back import GoingBack
    from recipes.archer.losses.constants import uses_reference
    from recipes.archer.runs.log import open_notes
    from recipes.archer.session.ray_session import ray_session
    from recipes.archer.startup.forking import fork_of
    from recipes.archer.startup.inputs import check_ground_truths, grading_pool
    from recipes.archer.startup.resuming import saver_and_checkpoint
    from recipes.archer.workers.deadlines import WorkerHungError
    from recipes.archer.workers.death import Roster

    with ExitStack() as session:
        with run.stop.nothing_to_save():
            saver, checkpoint = saver_and_checkpoint(config, run.datasets, again, courses)
            fork = fork_of(config, saver.identity) if checkpoint is None else None
            # what verl, Ray and the workers' start have to say is for when something goes wrong
            notes = session.enter_context(open_notes(run.log.folder / "setup.log"))
            if not config.ray_init.log_to_driver:
                session.enter_context(redirect_stdout(notes))
            pool = session.enter_context(grading_pool(config))
            check_ground_truths(config, pool)
            run.progress.tell("starting Ray")
            folder = session.enter_context(ray_session(config, notes, run.forks))
            roles = "actor, rollout" + ", reference" * uses_reference(config.actor_rollout_ref.actor)
            roster = Roster(roles, folder, run.log.folder / "setup.log", run.deadlines)
            trainer = _build(config, courses, run, pool, saver, checkpoint, roster)
        try:
            with run.stop.nothing_to_save():
                run.progress.tell("loading model and engine in the workers")
                trainer.init_workers()
                if checkpoint:
                    trainer.resume(checkpoint)
                elif fork:
                    run.log.note(**fork.lineage)
                    trainer.fork(fork)
            before = config.trainer.val_before_train and trainer.step == 0
            run.progress.tell("validating the untrained model" if before else f"step {trainer.step + 1}")
            reached = trainer.fit()
            ending = GoingBack(written, run.log).after(reached, saver.store)
        except (UserError, StopRequested, WorkerHungError):
            trainer.report.broke_off()
            raise
        except Exception as error:
            death = roster.death_behind(error)
            trainer.report.broke_off()
            if death is None:
                raise
            raise death from None
        run.stop.disarm()
        if ending is None:
            trainer.report.broke_off(reached.exit_code)
        else:
            trainer.report.end(ending)
        return ending


def _build(config: DictConfig, courses, run: Lasting, pool, saver, checkpoint, roster):
    """The trainer, before its workers start; the run folder is written to from here on."""
    from recipes.archer.monitoring.guard import Guard
    from recipes.archer.reports.live import Report
    from recipes.archer.reward.manager import ArcherRewardManager
    from recipes.archer.runs.trackers import Trackers
    from recipes.archer.startup.inputs import planned_steps
    from recipes.archer.startup.opening import run_facts
    from recipes.archer.trainer import ArcherTrainer
    from recipes.archer.workers.groups import roles_of
    from recipes.archer.workers.resources import HostResourcePoolManager

    roles = roles_of(config.actor_rollout_ref.actor)
    total_steps = planned_steps(config, len(run.datasets[0]))
    reward = ArcherRewardManager(run.tokenizer, pool, config.reward, config.data.max_response_length)
    trainer = ArcherTrainer(
        config,
        tokenizer=run.tokenizer,
        role_worker_mapping=roles,
        resource_pool_manager=HostResourcePoolManager.for_roles(
            roles, config.trainer, lambda: roster.deadlines.of("set_up")
        ),
        ray_worker_group_cls=roster.group,
        train_dataset=run.datasets[0],
        val_dataset=run.datasets[1],
        reward=reward,
        report=None,
        guard=Guard.from_config(config),
        total_steps=total_steps,
        stop=run.stop,
        saver=saver,
    )
    first, row = (checkpoint.step, checkpoint.state.get("row")) if checkpoint else (0, None)
    run.log.open(config, run_facts(config, courses, first, saver.store), first, row)
    plain = OmegaConf.to_container(config, resolve=True)
    names = config.trainer
    trackers = Trackers(
        names.logger, run.log.folder, plain, names.project_name, names.experiment_name, first + 1, courses.number
    )
    trainer.report = Report(run.log, trackers, config.trainer, total_steps)
    return trainer


if __name__ == "__main__":
    sys.exit(exit_code_of(main, _judged))
