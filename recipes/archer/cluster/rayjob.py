"""A job on several nodes: KubeRay's RayJob, whose head and workers the RunAI scheduler places."""

import shlex
import subprocess
from typing import Any

from recipes.archer.cluster import kubernetes
from recipes.archer.cluster.job import Job, shell_command
from recipes.archer.cluster.settings import Settings
from recipes.archer.ending import UserError

DEFAULT_SCHEDULER = "runai-scheduler"
MAX_NAME = 47  # KubeRay's limit: it appends to the name and stays within 63
DASHBOARD = 8265
# The head's ports, as KubeRay's own examples name them: the submitter and the workers look for these.
_PORTS = [("gcs-server", 6379), ("dashboard", DASHBOARD)]


def rayjob_manifest(job: Job, settings: Settings, submission: str) -> dict[str, Any]:
    """A ray.io/v1 RayJob: one head and ``nodes - 1`` workers, all with the job's GPUs.

    Args:
        submission: identity of this submission; stands for the same run through KubeRay's retries.

    Raises:
        UserError: no image or project, a name that KubeRay refuses, or a script that `ray job submit`
            would not carry unchanged.
    """
    if len(job.name) > MAX_NAME:
        raise UserError(f"job name {job.name!r}: a RayJob's has at most {MAX_NAME} characters (--name)")
    # on all of the pod's interfaces, for the submitter; network_policy says who gets there
    head = _group(job, settings, submission, "ray-head", {"dashboard-host": "0.0.0.0"})
    ports = [{"name": name, "containerPort": port} for name, port in _PORTS]
    head["template"]["spec"]["containers"][0]["ports"] = ports
    workers = job.nodes - 1
    replicas = {"replicas": workers, "minReplicas": workers, "maxReplicas": workers}
    worker = {"groupName": "workers"} | replicas | _group(job, settings, submission, "ray-worker", {})
    spec = {
        "submissionMode": "K8sJobMode",
        "entrypoint": _entrypoint(job, settings),
        "shutdownAfterJobFinishes": True,
        "backoffLimit": settings.retries,
        "rayClusterSpec": {"headGroupSpec": head, "workerGroupSpecs": [worker]},
    }
    metadata = kubernetes.metadata(job, settings)
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def network_policy(job: Job, settings: Settings) -> dict[str, Any]:
    """A networking.k8s.io/v1 NetworkPolicy: who reaches a Ray server runs commands, and Ray asks nobody who they are.

    Head and workers reach each other on every port. The dashboard alone is reached by the submitter, which is a pod
    of the Job that KubeRay makes under the RayJob's name, and by KubeRay's operator where its namespace is set.
    """
    own, submitter = {kubernetes.INSTANCE: job.name}, {"batch.kubernetes.io/job-name": job.name}
    knocking: list[dict[str, Any]] = [{"podSelector": {"matchLabels": submitter}}]
    if settings.operator_namespace:
        namespace = {"kubernetes.io/metadata.name": settings.operator_namespace}
        operator = {"app.kubernetes.io/component": "kuberay-operator"}
        knocking.append({"namespaceSelector": {"matchLabels": namespace}, "podSelector": {"matchLabels": operator}})
    spec = {
        "podSelector": {"matchLabels": own},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": own}}]},
            {"from": knocking, "ports": [{"protocol": "TCP", "port": DASHBOARD}]},
        ],
    }
    metadata = kubernetes.metadata(job, settings)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _group(
    job: Job, settings: Settings, submission: str, container_name: str, start_params: dict[str, str]
) -> dict[str, Any]:
    container = kubernetes.container_spec(container_name, job, settings)
    container["env"].append({"name": "JOB_UUID", "value": submission})
    pod = kubernetes.pod_spec(container, job, settings)
    pod["schedulerName"] = settings.scheduler or DEFAULT_SCHEDULER
    template = {"metadata": {"labels": kubernetes.labels(job)}, "spec": pod}
    return {"rayStartParams": start_params, "template": template}


def _entrypoint(job: Job, settings: Settings) -> str:
    """The command line for the head, as a shell must read it twice and get the same.

    The submitter's shell splits it, `ray job submit` joins the parts with `subprocess.list2cmdline`
    (ray/dashboard/modules/job/cli.py), and the head's shell splits that again. list2cmdline quotes for
    Windows: `$`, a backtick or a backslash would be read a second time.
    """
    command = shell_command(job, settings)
    unsafe = [character for character in "$`\\" if character in job.script]
    if unsafe or shlex.split(subprocess.list2cmdline(command)) != command:
        which = unsafe[0] if unsafe else "a quotation mark"
        raise UserError(
            f"{which} in an override does not survive `ray job submit`: put the value into an experiment file"
        )
    return shlex.join(command)
