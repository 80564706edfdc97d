"""Runs of the embedded job that a benchmark compares: made once, gone on with where they were cut short."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recipes.archer.ending import EMPTY, FINISHED, GUARD, NOT_FINITE
from recipes.archer.runs.folder import Run, is_run, read_run
from recipes.archer.settings.configuration import ROOT

RULES = (GUARD, EMPTY, NOT_FINITE)
LAUNCHER = ROOT / "scripts" / "train" / "run_archer2.0_qwen3_tiny_cpu.sh"


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        project, name: of the run; its folder is ``output/project/name``.
        experiment: which one it is.
        settings: overrides that matter; a run that was made with others is refused.
        steps: of the whole run.
    """

    project: str
    name: str
    experiment: str
    settings: dict = field(hash=False)
    steps: int
    output: Path

    @property
    def folder(self) -> Path:
        return self.output / self.project / self.name

    @property
    def overrides(self) -> dict:
        return self.settings | {"trainer.total_training_steps": self.steps}

    def command(self, beside: int = 1) -> list[str]:
        """The launcher's; how the run is called, what it logs to and who works, besides the settings that matter."""
        names = {"trainer.project_name": self.project, "trainer.experiment_name": self.name}
        workers = {} if beside == 1 else {"trainer.n_gpus_per_node": 1}
        given = workers | self.overrides | names | {"trainer.logger": "[console]"}
        return [
            "bash",
            str(LAUNCHER),
            *(f"{name}={'null' if value is None else value}" for name, value in given.items()),
        ]

    def environment(self, beside: int = 1) -> dict[str, str]:
        """The launcher's; ``beside``: runs at a time, each of which then has one worker of one thread."""
        own = {"EXPERIMENT": self.experiment, "OUTPUT_DIR": str(self.output), "VENV": sys.prefix}
        if beside > 1:
            own["OMP_NUM_THREADS"] = "1"
        return os.environ | own


def whole(job: Job) -> Run | None:
    """The finished run of a job, None when it is still to be made.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    run = _found(job)
    finished = run and run.facts.get("status") == "finished" and run.rows and run.rows[-1]["step"] == job.steps
    return run if finished else None


def over(job: Job) -> Run | None:
    """The run of a job that has come to an end, its own or a rule's; None when it is still to be made, or to go on.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    run = _found(job)
    return run if run and run.facts.get("exit_code") in (FINISHED, *RULES) else None


def _found(job: Job) -> Run | None:
    if not is_run(job.folder):
        return None
    run = read_run(job.folder)
    if run.config and not run.facts.get("courses"):  # a run that went back has changed its own settings
        for name, wanted in job.overrides.items():
            found = run.config
            for key in name.split("."):
                found = found.get(key) if isinstance(found, dict) else None
            if found != wanted:
                raise SystemExit(f"{job.folder} was made with {name}={found}, not {wanted}; move it away, or --output")
    return run


def made(job: Job) -> Run:
    """The finished run of a job; it is made, or gone on with, if need be.

    Raises:
        SystemExit: the launcher failed.
    """
    return whole(job) or _made(job, whole)


def ended(job: Job, beside: int = 1) -> Run:
    """The run of a job that has ended, also one that a rule ended; it is made, or gone on with, if need be.

    Raises:
        SystemExit: the launcher failed otherwise.
    """
    return over(job) or _made(job, over, beside)


def _made(job: Job, wanted: Callable[[Job], Run | None], beside: int = 1) -> Run:
    print(f"== {job.folder.name}", flush=True)
    code = subprocess.run(job.command(beside), env=job.environment(beside), cwd=ROOT).returncode
    run = wanted(job)
    if run is None or code != (run.facts.get("exit_code") or 0):
        raise SystemExit(f"{job.folder.name} ended with {code}; its folder says why: {job.folder}")
    return run
