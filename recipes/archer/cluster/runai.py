"""The `runai` command line in its two generations.

v1 is `runai submit --name NAME`, v2 is `runai training standard submit NAME` (Run:ai 2.18 and later). Only
flags that the references of both generations document are used; `flags` in the settings renames one for a
site that spells it differently.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence

from recipes.archer.cluster.job import Job, shell_command
from recipes.archer.cluster.settings import Settings
from recipes.archer.ending import UserError

V1_GRACE_S = 30  # Kubernetes' default; v1 has no flag for it
PROBE_TIMEOUT_S = 30

# What to ask a binary, what its answer must contain, and what that makes it. A v2 binary knows `submit`, too.
_PROBES = (
    (("training", "standard", "submit", "--help"), r"--gpu-devices-request\b", "v2"),
    (("submit", "--help"), r"--gpu\b", "v1"),
    (("--help",), r"^\s*training\b", "v2"),
    (("--help",), r"^\s*submit\b", "v1"),
)

_LOOK = {
    "v1": {
        "status": ("describe", "job", "{name}"),
        "logs": ("logs", "{name}", "-f"),
        "stop": ("delete", "job", "{name}"),
    },
    "v2": {
        "status": ("training", "standard", "describe", "{name}"),
        "logs": ("training", "standard", "logs", "{name}", "-f"),
        "stop": ("training", "standard", "delete", "{name}"),
    },
}


def find_generation(settings: Settings, override: str | None = None) -> str:
    """``v1`` or ``v2``: the option, else the setting, else what the binary says about itself.

    Raises:
        UserError: no binary, or one that answers like neither generation.
    """
    if override or settings.cli:
        return override or settings.cli
    require_binary(settings.runai, "runai", settings)
    for arguments, pattern, generation in _PROBES:
        if re.search(pattern, _answer([settings.runai, *arguments]), re.MULTILINE):
            return generation
    raise UserError(
        f"{settings.runai} answers like neither generation: give --cli v1|v2, or set cli in {settings.source}"
    )


def require_binary(binary: str, setting: str, settings: Settings) -> None:
    """Raises UserError where the binary is not on PATH."""
    if shutil.which(binary) is None:
        raise UserError(f'no {binary} on PATH: install it, or set {setting} = "/path/to/it" in {settings.source}')


def submit_command(job: Job, settings: Settings, generation: str) -> list[str]:
    """The argv that submits the job, which has one node.

    Raises:
        UserError: no image or project, or a text that would not reach the container unchanged.
    """
    _refuse_expansion(job, settings)
    v1 = generation == "v1"
    verb = ["submit", "--name", job.name] if v1 else ["training", "standard", "submit", job.name]
    image, project = settings.need("image", "--image"), settings.need("project", "--project")
    flags = ["-i", image, "-p", project, *_resources(job, settings, v1), *_environment(job, v1)]
    flags += ["--backoff-limit", str(settings.retries)]
    if not v1:
        flags += _scheduling(job, settings)
    renamed = [settings.flags.get(token, token) for token in flags]
    return [settings.runai, *verb, *renamed, "--command", "--", *shell_command(job, settings)]


def look_command(verb: str, name: str, settings: Settings, generation: str) -> list[str]:
    """The argv of ``status``, ``logs`` or ``stop`` for a job.

    Raises:
        UserError: no project.
    """
    words = [word.format(name=name) for word in _LOOK[generation][verb]]
    return [settings.runai, *words, "-p", settings.need("project", "--project")]


def remarks(job: Job, settings: Settings, generation: str) -> list[str]:
    """What the settings ask for and this command line cannot pass on, a sentence each."""
    if generation == "v2":
        return []
    said = []
    if settings.priority is not None or settings.preemptible is False:
        said.append("runai v1 has no flag for priority or preemptibility: trainings are preemptible there")
    if job.save_s >= V1_GRACE_S:
        said.append(
            f"runai v1 has no flag for the grace period: a preempted job has {V1_GRACE_S} s, and the trainer "
            f"takes up to {job.save_s} s to save; trainer.grace_s=20 makes it give up in time"
        )
    return said


def _refuse_expansion(job: Job, settings: Settings) -> None:
    """The kubelet reads ``$$`` and ``$(NAME)`` in what runai makes a container of; how runai writes them is its own."""
    texts = {f"env.{name} in {settings.source}": value for name, value in job.environment.items()}
    for where, value in {"the job's command": " ".join(shell_command(job, settings)), **texts}.items():
        if found := re.search(r"\$[$(]", value):
            raise UserError(
                f"{found[0]} in {where} would be read again on the cluster, where $(NAME) is a variable's value: put "
                "the value into an experiment file, or use --backend kubernetes"
            )


def _resources(job: Job, settings: Settings, v1: bool) -> list[str]:
    # v1 takes one list of pools, v2 one flag for each
    pools = [" ".join(settings.node_pools)] if v1 and settings.node_pools else settings.node_pools
    flags = [token for pool in pools for token in ("--node-pools", pool)]
    if job.gpus:
        flags += ["-g", str(job.gpus)]
    for volume in settings.pvc:
        flags += ["--existing-pvc", f"claimname={volume.claim},path={volume.path}"]
    return flags + (["--large-shm"] if settings.large_shm else [])


def _environment(job: Job, v1: bool) -> list[str]:
    flags = [token for name, value in job.environment.items() for token in ("-e", f"{name}={value}")]
    for name, secret in job.secrets.items():
        if v1:
            flags += ["-e", f"{name}=SECRET:{secret.name},{secret.key}"]
        else:
            flags += ["--env-secret", f"{name}={secret.name},key={secret.key}"]
    return flags


def _scheduling(job: Job, settings: Settings) -> list[str]:
    flags = ["--termination-grace-period", f"{job.grace_s}s"]
    if settings.preemptible is not None:
        flags += ["--preemptibility", "preemptible" if settings.preemptible else "non-preemptible"]
    if settings.priority is not None:
        flags += ["--priority", settings.priority]
    return flags


def _answer(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        # a binary that cannot start, or that waits for a login: it has not said what it is
        return ""
    return done.stdout + done.stderr
