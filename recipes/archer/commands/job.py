"""`archer job`: what became of a submitted job."""

import subprocess
from typing import Annotated

import typer

from recipes.archer.commands.submit import Backend, Cli, ClusterFile, Project, site

job_app = typer.Typer(no_args_is_help=True, help="Look at a submitted job, follow its output, or stop it.")

Name = Annotated[str, typer.Argument(help="The job's name, for example archer-qwen3-math-v3.")]
Nodes = Annotated[int | None, typer.Option(min=1, help="As submitted; with --backend kubernetes found out.")]
Chosen = Annotated[Backend | None, typer.Option(help="As submitted; default: runai; kubernetes for several nodes.")]


@job_app.command()
def status(
    name: Name,
    backend: Chosen = None,
    nodes: Nodes = None,
    project: Project = None,
    cli: Cli = None,
    cluster: ClusterFile = None,
) -> None:
    """What the cluster says about the job."""
    raise typer.Exit(_look("status", name, backend, nodes, project, cli, cluster))


@job_app.command()
def logs(
    name: Name,
    backend: Chosen = None,
    nodes: Nodes = None,
    project: Project = None,
    cli: Cli = None,
    cluster: ClusterFile = None,
) -> None:
    """Follow the job's output; the whole of it is in output/NAME.log of the job's checkout."""
    raise typer.Exit(_look("logs", name, backend, nodes, project, cli, cluster))


@job_app.command()
def stop(
    name: Name,
    backend: Chosen = None,
    nodes: Nodes = None,
    project: Project = None,
    cli: Cli = None,
    cluster: ClusterFile = None,
) -> None:
    """Delete the job; its checkpoints and log stay."""
    raise typer.Exit(_look("stop", name, backend, nodes, project, cli, cluster))


def _look(verb, name, backend, nodes, project, cli, cluster) -> int:
    from recipes.archer.cluster import kubernetes, looking, runai
    from recipes.archer.cluster.job import check_name

    name, settings = check_name(name), site(cluster, project=project)
    if backend is Backend.kubernetes or (backend is None and (nodes or 1) > 1):
        runai.require_binary(settings.kubectl, "kubectl", settings)
        if nodes is None:
            nodes = 2 if looking.is_rayjob(name, settings) else 1
        command = kubernetes.look_command(verb, name, settings, nodes)
    else:
        command = runai.look_command(verb, name, settings, runai.find_generation(settings, cli))
        runai.require_binary(settings.runai, "runai", settings)
    return subprocess.run(command, check=False).returncode
