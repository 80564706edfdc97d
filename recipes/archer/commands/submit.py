"""`archer submit`: builds an experiment's job and starts it on a cluster."""

import dataclasses
import os
import shlex
import subprocess
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recipes.archer.ending import UserError
from recipes.archer.printable import complain, say


class Backend(StrEnum):
    """What starts the job."""

    runai = "runai"
    kubernetes = "kubernetes"


class Generation(StrEnum):
    """Generation of the runai command line."""

    v1 = "v1"
    v2 = "v2"


ClusterFile = Annotated[Path | None, typer.Option(help="Site settings; default ~/.config/archer/cluster.toml.")]
Cli = Annotated[Generation | None, typer.Option(help="Generation of runai; default: asked of the binary.")]
Project = Annotated[str | None, typer.Option(help="RunAI project, instead of the settings'.")]


def submit(
    experiment: Annotated[str, typer.Argument(help="Which experiment, for example v3; with --evaluate, which run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, passed on to the launcher; with --evaluate, after --, its options."),
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Evaluate a run or a model on MATH-500.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the command or manifest and start nothing.")] = False,
    backend: Annotated[Backend | None, typer.Option(help="Default: runai; kubernetes for several nodes.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes, instead of the experiment's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job, instead of the experiment's.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image, instead of the settings'.")] = None,
    project: Project = None,
    cli: Cli = None,
    cluster: ClusterFile = None,
) -> None:
    """Submit an experiment as a cluster job, or the evaluation of a run; GPUs and nodes come from its configuration."""
    from recipes.archer.cluster.job import build_evaluation, build_job
    from recipes.archer.cluster.runai import require_binary
    from recipes.archer.settings.leaks import check_text
    from recipes.archer.startup.preflight import check_anywhere

    settings = site(cluster, project=project, image=image)
    if evaluate:
        if nodes not in (None, 1):
            raise UserError(f"--nodes {nodes}: an evaluation takes one node; leave it out")
        job, overrides = build_evaluation(experiment, overrides or [], settings, name=name), None
    else:
        _require_plan(experiment, dry_run)
        job = build_job(experiment, overrides or [], settings, nodes=nodes, name=name, judge=check_anywhere)
    chosen = backend or (Backend.kubernetes if job.nodes > 1 else Backend.runai)
    plan = _by_runai(job, settings, cli) if chosen is Backend.runai else _by_kubernetes(job, settings, dry_run)
    check_text(plan.text, os.environ)
    for remark in [*plan.remarks, *_remarks(job, settings, overrides or [], needs_key=not evaluate)]:
        complain(f"archer: {remark}")
    if dry_run:
        say(plan.text)
        return
    require_binary(plan.command[0], "runai" if chosen is Backend.runai else "kubectl", settings)
    done = subprocess.run(plan.command, input=plan.stdin, text=True, check=False)
    raise typer.Exit(done.returncode)


def _require_plan(experiment: str, dry_run: bool) -> None:
    """The plan has to be written before the job is submitted; a dry run only says so."""
    from recipes.archer.experiments.records import require_plan
    from recipes.archer.experiments.registry import load_record

    record = load_record(experiment)
    try:
        require_plan(record)
    except UserError as gap:
        if not dry_run:
            raise
        complain(f"archer: {gap}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a submission runs.

    Attributes:
        command: argv.
        stdin: what it reads, if anything.
        text: what a dry run prints.
        remarks: what the user should know, a sentence each.
    """

    command: list[str]
    stdin: str | None
    text: str
    remarks: list[str]


def _by_runai(job, settings, cli: str | None) -> Plan:
    from recipes.archer.cluster import runai

    if job.nodes > 1:
        raise UserError(f"runai starts 1 node, not {job.nodes}: use --backend kubernetes (a RayJob)")
    generation = runai.find_generation(settings, cli)
    command = runai.submit_command(job, settings, generation)
    return Plan(command, None, shlex.join(command), runai.remarks(job, settings, generation))


def _by_kubernetes(job, settings, dry_run: bool) -> Plan:
    from recipes.archer.cluster import kubernetes
    from recipes.archer.cluster.rayjob import network_policy, rayjob_manifest

    remarks = kubernetes.remarks(settings)
    if job.nodes > 1:
        try:
            settings.need("operator_namespace")  # or KubeRay never hears of the job's end, and the GPUs stay taken
        except UserError as gap:
            if not dry_run:
                raise
            remarks.append(str(gap))
        rayjob = rayjob_manifest(job, settings, submission=str(uuid.uuid4()))
        text = kubernetes.as_yaml(network_policy(job, settings), rayjob)  # first, so that no pod is without it
    else:
        text = kubernetes.as_yaml(kubernetes.job_manifest(job, settings))
    return Plan(kubernetes.create_command(settings), text, text.rstrip(), remarks)


def _remarks(job, settings, overrides: list[str], needs_key: bool = True) -> list[str]:
    said = []
    if overrides and not any(override.startswith("trainer.experiment_name=") for override in overrides):
        own = "trainer.experiment_name=… gives them their own"
        said.append(f"with these overrides the job continues the experiment's own run folder and W&B run; {own}")
    if needs_key and "WANDB_API_KEY" not in job.secrets and "WANDB_API_KEY_FILE" not in job.environment:
        where = f"wandb_key_file or secrets.WANDB_API_KEY in {settings.source}"
        said.append(f"no W&B key, so the run will be offline; set {where}")
    if job.grace_s < job.save_s:
        said.append(
            f"grace_s={job.grace_s} in {settings.source} is over before the trainer gives up saving, after "
            f"{job.save_s} s; set trainer.grace_s={max(0, job.grace_s - 30)}, or leave grace_s out"
        )
    if not settings.workdir:
        said.append(f"no workdir in {settings.source}: the image's working directory must be a checkout")
    return said


def site(cluster: Path | None, **replaced: str | None):
    """The site's settings, with those options in their place that were given."""
    from recipes.archer.cluster.settings import load_settings

    given = {name: value for name, value in replaced.items() if value is not None}
    return dataclasses.replace(load_settings(cluster), **given)
