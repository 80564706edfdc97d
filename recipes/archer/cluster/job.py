"""What a job is, whatever starts it: an experiment, its resources, its script and its environment."""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from recipes.archer.cluster.settings import SecretKey, Settings
from recipes.archer.ending import DISK, EMPTY, GUARD, NOT_FINITE, WRONG_CALL, UserError
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import CONFIG_DIR, compose
from recipes.archer.settings.leaks import check_configuration, check_environment, check_overrides, masked

# Ends that the same command reaches again: a retry would only burn the node.
FINAL_CODES = (WRONG_CALL, GUARD, EMPTY, NOT_FINITE, DISK)
JOB_SCRIPT = "scripts/train/lib/job.sh"
GRACE_MARGIN_S = 30  # after the trainer's own grace: closing trackers, ending Ray
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # DNS-1035 label: Kubernetes' rule for a job's name


@dataclass(frozen=True)
class Launcher:
    """A launcher.

    Attributes:
        path: of its script.
        job_prefix: of its jobs' names.
        overrides: what it adds to the experiment's configuration.
        machine: keys that it always sets from the machine's facts, whatever the experiment says.
    """

    path: str
    job_prefix: str
    overrides: tuple[str, ...] = ()
    machine: tuple[str, ...] = ("data.train_files", "data.val_files", "trainer.output_dir")


MATH = Launcher("scripts/train/run_archer2.0_qwen3_0.6b_math.sh", "archer-qwen3-math-")
EVALUATION = Launcher("scripts/eval/run_eval_math500.sh", "archer-eval-", machine=())
TINY = Launcher(
    "scripts/train/run_archer2.0_qwen3_tiny_cpu.sh",
    "archer-qwen3-",
    overrides=("device=cpu",),
    machine=(*MATH.machine, "actor_rollout_ref.model.path"),
)


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: DNS label, at most 63 characters; also the stem of the log and the W&B run's id.
        nodes: number of nodes, at least 1.
        gpus: GPUs a node; 0 on CPU.
        script: what the login shell runs.
        environment: plain values.
        secrets: values that the cluster looks up.
        save_s: seconds that the trainer takes at most to save after SIGTERM.
        grace_s: seconds between SIGTERM and SIGKILL.
    """

    name: str
    nodes: int
    gpus: int
    script: str
    environment: Mapping[str, str]
    secrets: Mapping[str, SecretKey]
    save_s: int
    grace_s: int


def build_job(
    experiment: str,
    overrides: Sequence[str],
    settings: Settings,
    *,
    nodes: int | None = None,
    name: str | None = None,
    judge: Callable[..., None] = check_settings,
) -> Job:
    """The job of an experiment: its resources come from the resolved configuration.

    Args:
        judge: of that configuration, before the job has waited for its machine; called as `check_settings` is.

    Raises:
        UserError: unknown experiment, override that does not compose, bad name, or a secret as a plain value.
    """
    launcher = TINY if experiment.startswith("tiny") else MATH
    overrides = [*overrides, *([f"trainer.nnodes={nodes}"] if nodes is not None else [])]
    check_overrides(overrides, os.environ)
    config = _configuration(experiment, [*launcher.overrides, *overrides])
    environment = dict(settings.env)
    if settings.wandb_key_file:
        environment["WANDB_API_KEY_FILE"] = settings.wandb_key_file
    check_environment(environment, settings.source)
    try:
        judge(config, elsewhere=True)  # its environment is the container's
    except InterpolationKeyError as error:
        raise UserError(f"{experiment}: {' '.join(str(error).split())}") from None
    trainer = config.trainer
    gpus = 0 if trainer.device == "cpu" else trainer.n_gpus_per_node
    # what is requested is what the launcher uses, whatever its own default
    facts = [f"EXPERIMENT={experiment}", *([f"N_GPUS={gpus}"] if gpus else [])]
    name = check_name(name or launcher.job_prefix + experiment.lower().replace("_", "-"))
    return Job(
        name=name,
        nodes=trainer.nnodes,
        gpus=gpus,
        script=_script(name, settings.workdir, launcher.path, facts, overrides),
        environment=environment,
        secrets=settings.secrets,
        save_s=trainer.grace_s,
        grace_s=settings.grace_s or trainer.grace_s + GRACE_MARGIN_S,
    )


def build_evaluation(target: str, arguments: Sequence[str], settings: Settings, *, name: str | None = None) -> Job:
    """The job that evaluates a run or a model on one GPU; started again it goes on, as `archer evaluate` does.

    Args:
        target: as the container's checkout has it.
        arguments: further ones of `archer evaluate`.

    Raises:
        UserError: bad name, or a secret as a plain value.
    """
    environment = dict(settings.env)
    check_environment(environment, settings.source)
    stem = re.sub(r"[^a-z0-9]+", "-", target.rstrip("/").rpartition("/")[2].lower()).strip("-")
    name = check_name(name or EVALUATION.job_prefix + (stem or "model"))
    return Job(
        name=name,
        nodes=1,
        gpus=1,
        script=_script(name, settings.workdir, EVALUATION.path, ["DEVICE=cuda"], [target, *arguments]),
        environment=environment,
        secrets=settings.secrets,
        save_s=0,  # what is drawn is on the disk
        grace_s=settings.grace_s or GRACE_MARGIN_S,
    )


def shell_command(job: Job, settings: Settings) -> list[str]:
    """The container's command: the login shell, and the job's script as its last argument."""
    return [*shlex.split(settings.shell), job.script]


def _script(name: str, workdir: str | None, launcher: str, facts: Sequence[str], overrides: Sequence[str]) -> str:
    final = ",".join(str(code) for code in FINAL_CODES)
    command = ["env", *facts, "bash", JOB_SCRIPT, "--log", f"output/{name}.log", "--final", final]
    command += ["--", "bash", launcher, *overrides]
    enter = f"cd {shlex.quote(workdir)} && " if workdir else ""
    # exec: the cluster sends SIGTERM to the container's first process, which must be job.sh
    return f"{enter}exec {shlex.join(command)}"


def _configuration(experiment: str, overrides: Sequence[str]) -> DictConfig:
    known = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))
    if experiment not in known:
        raise UserError(f"unknown experiment {experiment!r}; known: {', '.join(known)}")
    try:
        config = compose([f"experiment={experiment}", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{experiment}: {masked(' '.join(str(error).split()))}") from None
    check_configuration(config, os.environ)
    return config


def check_name(name: str) -> str:
    """The name, if a job can have it; what is none could be an option to ``kubectl`` or ``runai``.

    Raises:
        UserError: it is no DNS label.
    """
    if not _NAME.fullmatch(name):
        shown = repr(name) if len(name) <= 80 else f"{name[:80]!r}…"
        raise UserError(f"job name {shown}: a letter, then lower-case letters, digits and '-', at most 63; give --name")
    return name
