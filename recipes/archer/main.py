"""Entry point: ``python -m recipes.archer.main experiment=v5 ...`` (Hydra over config/archer.yaml).

Checks everything it can, takes the run folder, starts Ray, trains, and leaves nothing behind.  The loop runs
in this process, so that a signal to it is a signal to the loop.
"""

import os
import sys
import traceback
from contextlib import redirect_stdout

import hydra
from omegaconf import DictConfig, OmegaConf

from recipes.archer import configuration  # noqa: F401  (makes the configuration composable)
from recipes.archer.ending import FAILED, WRONG_CALL, Ending, UserError

DATA_FILES = ("train_files", "val_files")


@hydra.main(config_path="config", config_name="archer", version_base="1.3")
def main(config: DictConfig) -> None:
    """Trains; exits with the ending's code."""
    sys.exit(run(config))


def run(config: DictConfig) -> int:
    """Trains a composed configuration and returns the exit code."""
    from recipes.archer.preflight import check
    from recipes.archer.run_log import RunLog

    try:
        check(config)
        OmegaConf.resolve(config)
        config.actor_rollout_ref.model.path = os.path.expanduser(config.actor_rollout_ref.model.path)
        log = RunLog(config.trainer.default_local_dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_CALL
    ending = Ending("failed", "ended without a reason", FAILED)
    try:
        _prepare_trackers(config)
        ending = _train(config, log)
    except UserError as error:
        ending = Ending("failed", str(error), WRONG_CALL)
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        last_line = (str(error).strip().splitlines() or [""])[-1]
        ending = Ending("failed", f"{type(error).__name__}: {last_line}", FAILED)
        traceback.print_exc()
    finally:
        log.close(ending)
    return ending.exit_code


def _train(config: DictConfig, log) -> Ending:
    from recipes.archer.ray_session import ray_session
    from recipes.archer.signals import StopSignals

    tokenizer, datasets = _data(config)
    with StopSignals(config.trainer.grace_s) as stop, ray_session(config) as _, _pool(config) as pool:
        _check_ground_truths(config, pool)
        # what verl and its workers' start have to say is for when something goes wrong
        with open(log.folder / "setup.log", "a", encoding="utf-8") as setup_log, redirect_stdout(setup_log):
            trainer = _build(config, log, pool, stop, tokenizer, datasets)
        ending = trainer.fit()
        trainer.report.end(ending)
    return ending


def _prepare_trackers(config: DictConfig) -> None:
    """W&B's key, mode and run identity into the environment, before Ray starts."""
    from recipes.archer.secrets import wandb_environment

    os.environ.update(wandb_environment(config, os.environ))


def _pool(config: DictConfig):
    """The grading processes, which live as long as the run; a user's reward function runs inside them."""
    from recipes.archer.grading import GradingPool

    settings, custom = config.grading, config.custom_reward_function
    workers = settings.workers or min(16, max(1, (os.cpu_count() or 2) // 2))
    return GradingPool(
        workers,
        settings.timeout_s,
        answer_format=settings.answer_format,
        memory_mb=settings.memory_mb,
        score_fn=(custom.path, custom.name) if custom.path else None,
        score_fn_kwargs=custom.get("reward_kwargs"),
        data_sources=OmegaConf.to_container(settings.data_sources),
    )


def _check_ground_truths(config: DictConfig, pool) -> None:
    """Every ground truth of the data can be graded against; remembered by the files' hashes.

    Raises:
        UserError: names file, row and field.
    """
    from recipes.archer.grading import GroundTruthError
    from recipes.archer.ground_truth_check import check_file

    if config.custom_reward_function.path:
        return  # what such a function takes for a ground truth is its own affair
    for files in (config.data[name] for name in DATA_FILES):
        for path in [files] if isinstance(files, str) else files:
            try:
                check_file(path, pool=pool)
            except GroundTruthError as error:
                raise UserError(str(error)) from None


def _data(config: DictConfig):
    """Tokenizer, and the prompts to train on and to hold out.

    Raises:
        UserError: no prompt of a file can be used.
    """
    from recipes.archer.prompt_file import PromptFileError
    from recipes.archer.prompts import PromptDataset
    from verl.utils import hf_tokenizer

    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    try:
        return tokenizer, [PromptDataset(config.data[name], tokenizer, config.data) for name in DATA_FILES]
    except PromptFileError as error:
        raise UserError(str(error)) from None


def _build(config: DictConfig, log, pool, stop, tokenizer, datasets):
    """Workers, and the newest whole checkpoint if the run is to go on."""
    import ray

    from recipes.archer.guard import Guard
    from recipes.archer.report import Report
    from recipes.archer.resources import HostResourcePoolManager
    from recipes.archer.reward_manager import ArcherRewardManager
    from recipes.archer.trackers import Trackers
    from recipes.archer.trainer import ArcherTrainer
    from recipes.archer.workers import ArcherWorker
    from verl.single_controller.ray import RayWorkerGroup
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
        ray_worker_group_cls=RayWorkerGroup,
        train_dataset=datasets[0],
        val_dataset=datasets[1],
        reward=reward,
        report=None,
        guard=Guard.from_config(config),
        stop=stop,
    )
    checkpoint = _checkpoint(config, trainer.store)
    first = checkpoint.step if checkpoint else 0
    facts = {
        "experiment": config.record.name if config.get("record") else None,
        "project": config.trainer.project_name,
        "name": config.trainer.experiment_name,
        "seed": config.seed,
        "device": config.trainer.device,
        "device_name": get_torch_device().get_device_name(),
        "world_size": config.trainer.n_gpus_per_node * config.trainer.nnodes,
    }
    log.open(config, facts, first)
    plain = OmegaConf.to_container(config, resolve=True)
    names = config.trainer
    trackers = Trackers(names.logger, log.folder, plain, names.project_name, names.experiment_name, first + 1)
    trainer.report = Report(log, trackers, config.trainer, trainer.total_training_steps)
    trainer.init_workers()
    if checkpoint:
        trainer.resume(checkpoint)
        trainer.report.continuing(checkpoint)
    return trainer


def _checkpoint(config: DictConfig, store):
    """The checkpoint to go on from, or None for a new run.

    Raises:
        UserError: ``trainer.resume_mode=resume_path`` and there is no whole checkpoint at the path.
    """
    from pathlib import Path

    from recipes.archer.checkpoint_store import read

    mode = config.trainer.resume_mode
    if mode == "disable":
        if store.newest_whole()[0] is not None:
            raise UserError(
                f"trainer.resume_mode=disable, but {store.folder} holds checkpoints of an earlier run; "
                "remove the folder, or set trainer.experiment_name to another name"
            )
        return None
    if mode == "resume_path":
        path = Path(str(config.trainer.resume_from_path))
        try:
            return read(path)
        except ValueError as error:
            raise UserError(f"trainer.resume_from_path={path}: {error}") from None
    checkpoint, skipped = store.newest_whole()
    for line in skipped:
        print(f"warning: {line}", file=sys.stderr)
    return checkpoint


if __name__ == "__main__":
    main()
