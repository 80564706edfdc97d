"""A job as a plain Kubernetes Job, for a cluster without the `runai` command line.

Its pod failure policy (Kubernetes 1.31 stable) does what `--backoff-limit` alone cannot: an end that a retry
would only repeat fails the job at once, and a preemption costs no retry.
"""

from typing import Any

import yaml

from recipes.archer.cluster.job import FINAL_CODES, Job, shell_command
from recipes.archer.cluster.settings import Settings

CONTAINER = "trainer"
INSTANCE = "app.kubernetes.io/instance"
# Set on every pod of a Job since Kubernetes 1.27: the same for all of its retries, another one after a
# resubmission under the same name. It takes the place of RunAI's JOB_UUID.
_JOB_UID = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}


def job_manifest(job: Job, settings: Settings) -> dict[str, Any]:
    """A batch/v1 Job.

    Raises:
        UserError: no image, no project or namespace.
    """
    command = [literal(word) for word in shell_command(job, settings)]
    container = container_spec(CONTAINER, job, settings) | {"command": command}
    container["env"].append({"name": "JOB_UUID", "valueFrom": _JOB_UID})
    spec = {
        "backoffLimit": settings.retries,
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": {"metadata": {"labels": labels(job)}, "spec": pod_spec(container, job, settings)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(job, settings), "spec": spec}


def _failure_rules() -> list[dict[str, Any]]:
    final = {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_CODES)}
    return [
        {"action": "FailJob", "onExitCodes": final},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def metadata(job: Job, settings: Settings) -> dict[str, Any]:
    """Name, namespace and labels of the object."""
    return {"name": job.name, "namespace": namespace(settings), "labels": labels(job)}


def labels(job: Job) -> dict[str, str]:
    """Labels by which a job's objects are found again."""
    return {"app.kubernetes.io/name": "archer", INSTANCE: job.name}


def namespace(settings: Settings) -> str:
    """The namespace: its setting, else RunAI's own for the project."""
    return settings.namespace or f"runai-{settings.need('project', '--project')}"


def literal(value: str) -> str:
    """A text of a container's command or environment that reaches it unchanged.

    The kubelet makes ``$`` of ``$$``, and of ``$(NAME)`` the value of that variable, a secret's too.
    """
    return value.replace("$", "$$")


def container_spec(name: str, job: Job, settings: Settings) -> dict[str, Any]:
    """A container with the job's image, GPUs, environment and mounts, without a command."""
    environment = [{"name": key, "value": literal(value)} for key, value in job.environment.items()]
    environment += [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for key, secret in job.secrets.items()
    ]
    environment.append({"name": "JOB_NAME", "value": job.name})
    mounts = [{"name": f"claim-{i}", "mountPath": volume.path} for i, volume in enumerate(settings.pvc)]
    if settings.large_shm:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    container: dict[str, Any] = {"name": name, "image": settings.need("image", "--image"), "env": environment}
    if job.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": job.gpus}}
    return container | ({"volumeMounts": mounts} if mounts else {})


def pod_spec(container: dict[str, Any], job: Job, settings: Settings) -> dict[str, Any]:
    """A pod that runs the container once: retries are the job's business."""
    volumes: list[dict[str, Any]] = [
        {"name": f"claim-{i}", "persistentVolumeClaim": {"claimName": volume.claim}}
        for i, volume in enumerate(settings.pvc)
    ]
    if settings.large_shm:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    spec: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": job.grace_s}
    if settings.scheduler:
        spec["schedulerName"] = settings.scheduler
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    return spec | {"containers": [container]} | ({"volumes": volumes} if volumes else {})


def as_yaml(*manifests: dict[str, Any]) -> str:
    """The manifests as text, fields in the order in which they were written."""
    return yaml.safe_dump_all(manifests, sort_keys=False, width=1000)


def create_command(settings: Settings) -> list[str]:
    """The argv that creates the objects on its standard input; `create` refuses a name that is taken."""
    return [settings.kubectl, "create", "-f", "-"]


def look_command(verb: str, name: str, settings: Settings, nodes: int) -> list[str]:
    """The argv of ``status``, ``logs`` or ``stop`` for a Job, or for the RayJob of several nodes."""
    kind = "rayjob" if nodes > 1 else "job"
    objects = [f"rayjob/{name}", f"networkpolicy/{name}"] if nodes > 1 else ["job", name]
    words = {
        "status": ["describe", kind, name],
        "logs": ["logs", "-f", f"job/{name}"],  # a RayJob's submitter is a Job of the same name
        "stop": ["delete", *objects],
    }[verb]
    return [settings.kubectl, *words, "-n", namespace(settings)]


def list_command(name: str, settings: Settings, nodes: int) -> list[str]:
    """The argv that lists a Job, or a RayJob, and its pods, as JSON; none of them is an empty list and no error."""
    kinds = "rayjobs.ray.io,pods" if nodes > 1 else "jobs.batch,pods"
    return [settings.kubectl, "get", kinds, "-l", f"{INSTANCE}={name}", "-n", namespace(settings), "-o", "json"]


def events_command(name: str, settings: Settings) -> list[str]:
    """The argv that lists what happened to a Job or a RayJob, the latest last, as JSON."""
    about = ["--field-selector", f"involvedObject.name={name}", "--sort-by", ".lastTimestamp"]
    return [settings.kubectl, "get", "events", *about, "-n", namespace(settings), "-o", "json"]


def remarks(settings: Settings) -> list[str]:
    """What the settings ask for and a manifest does not carry, a sentence each."""
    if settings.node_pools and not settings.node_selector:
        return [f"a manifest has no node_pools: set node_selector under [kubernetes] in {settings.source}"]
    return []
