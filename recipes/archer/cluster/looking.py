"""What a cluster says of a job, for a program: there, over, failed for good, stuck, gone, or not to be known now.

Only a clear answer counts. kubectl answers as JSON. The recognition of `runai` is narrow: v1's words are those of its
sources (github.com/run-ai/runai-cli: cmd/job/describe_job.go, cmd/util); v2 is closed, and its users know a line
``Phase: …``. Whatever else is said, or not said in time, is unknown, which is never "gone".
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from recipes.archer.cluster import kubernetes, runai
from recipes.archer.cluster.settings import Settings
from recipes.archer.ending import UserError
from recipes.archer.reading.json import parse_json

ANSWER_S, DELETED_S = 60, 300  # the longest wait for a word about a job, and for its deletion
LONGEST = 300  # characters of the cluster's words


class State(Enum):
    """How a job stands."""

    THERE = "waits or runs, or is being deleted"
    STUCK = "cannot start as it is, while the cluster tries again and again"
    OVER = "has come to its end"
    FAILED = "has failed, and is not tried again"
    GONE = "is none that the cluster knows"
    UNKNOWN = "the cluster has not said"


@dataclass(frozen=True)
class Seen:
    """A job as it was seen.

    Attributes:
        said: why, in the cluster's words; not safe to show.
    """

    state: State
    said: str = ""


class Cluster:
    """Where jobs of one kind are looked up and deleted.

    Args:
        backend: ``runai`` or ``kubernetes``.
    """

    def __init__(self, settings: Settings, backend: str):
        self.settings, self.backend = settings, backend
        self._generation: str | None = None

    def look(self, name: str, nodes: int = 1) -> Seen:
        """How a job stands; never raises.

        Args:
            nodes: more than 1: it is a RayJob.
        """
        try:
            if self.backend == "kubernetes":
                return _by_kubectl(name, self.settings, nodes)
            command = runai.look_command("status", name, self.settings, self._runai())
            return _by_runai(name, command, self.settings.not_found)
        except UserError as problem:  # a binary that does not even say what it is
            return Seen(State.UNKNOWN, str(problem))

    def delete(self, name: str, nodes: int = 1) -> None:
        """Asks the cluster to delete a job; :meth:`look` says whether it has."""
        try:
            if self.backend == "kubernetes":
                command = kubernetes.look_command("stop", name, self.settings, nodes)
            else:
                command = runai.look_command("stop", name, self.settings, self._runai())
            _answer(command, DELETED_S)
        except UserError:
            return

    def _runai(self) -> str:
        if self._generation is None:
            self._generation = runai.find_generation(self.settings)
        return self._generation


# of a cluster without KubeRay; kubectl says it also where it could not ask what there is, and then says that before
_NO_KUBERAY = re.compile(r"doesn't have a resource type \"?rayjobs|find the requested resource \(get rayjobs")
_NOT_ASKED = re.compile(r"couldn't get (current server API group list|resource list for ray\.io)")


def is_rayjob(name: str, settings: Settings) -> bool:
    """Whether kubectl knows a RayJob of that name; its submitter is a Job of the same name, which is not all of it.

    Raises:
        UserError: it does not say.
    """
    done = _answer(kubernetes.list_command(name, settings, 2), ANSWER_S)
    said = _last_line(done)
    if not isinstance(done, str) and done.returncode:
        if _NO_KUBERAY.search(said) and not _NOT_ASKED.search(done.stderr):
            return False
    elif not isinstance(done, str):
        try:
            items = [dict(item) for item in parse_json(done.stdout, settings.kubectl)["items"]]
            return any(item.get("kind") == "RayJob" and _at(item, "metadata", "name") == name for item in items)
        except (UserError, TypeError, KeyError, ValueError):
            said = "no list"
    raise UserError(f"whether {name} is a RayJob is not known ({said}): ask again, or say with --nodes how many it has")


def _by_kubectl(name: str, settings: Settings, nodes: int) -> Seen:
    """A list by label has everything of the job in one answer; an empty one is a definite no, and no error."""
    done = _answer(kubernetes.list_command(name, settings, nodes), ANSWER_S)
    if isinstance(done, str) or done.returncode:
        return Seen(State.UNKNOWN, _last_line(done))
    try:
        answer = parse_json(done.stdout, settings.kubectl)
        items = [dict(item) for item in answer["items"]]
    except (UserError, TypeError, KeyError, ValueError):
        return Seen(State.UNKNOWN, f"{settings.kubectl} did not answer with a list")
    jobs = [item for item in items if item.get("kind") in ("Job", "RayJob") and _at(item, "metadata", "name") == name]
    pods = [item for item in items if item.get("kind") == "Pod"]
    if not jobs:
        ending = any(_at(pod, "status", "phase") not in ("Succeeded", "Failed") for pod in pods)
        return Seen(State.THERE if ending else State.GONE)
    if _at(jobs[0], "metadata", "deletionTimestamp"):
        return Seen(State.THERE)
    ended = _ended(jobs[0])
    if ended is not None:
        return ended
    told = next(_unstartable(pods), None) or (None if pods else _refused_pods(name, settings))
    return Seen(State.THERE) if told is None else Seen(State.STUCK, told[:LONGEST])


def _ended(job: dict[str, Any]) -> Seen | None:
    """The end of a Job (its conditions), or of a RayJob (``jobDeploymentStatus``, with retries behind it)."""
    if job.get("kind") == "RayJob":
        status = str(_at(job, "status", "jobDeploymentStatus"))
        said = ": ".join(str(word) for key in ("reason", "message") if (word := _at(job, "status", key)))
        if status in ("Failed", "ValidationFailed"):
            return Seen(State.FAILED, (said or status)[:LONGEST])
        return Seen(State.OVER) if status == "Complete" else None
    for condition in _list(_at(job, "status", "conditions")):
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            said = ": ".join(str(word) for key in ("reason", "message") if (word := condition.get(key)))
            return Seen(State.OVER if condition["type"] == "Complete" else State.FAILED, said[:LONGEST])
    return None


# why a container waits that no waiting helps, as the kubelet names it
_NO_START = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
)


def _unstartable(pods: Sequence[dict[str, Any]]) -> Iterator[str]:
    for pod in pods:
        for container in _list(_at(pod, "status", "containerStatuses")):
            waiting = _at(container, "state", "waiting")
            if isinstance(waiting, dict) and waiting.get("reason") in _NO_START:
                yield f"{waiting['reason']}: {waiting.get('message') or _at(container, 'image')}"


def _refused_pods(name: str, settings: Settings) -> str | None:
    """Why no pod of a job may be made; a quota that others use up now is waited for."""
    done = _answer(kubernetes.events_command(name, settings), ANSWER_S)
    if isinstance(done, str) or done.returncode:
        return None
    try:
        events = _list(parse_json(done.stdout, settings.kubectl)["items"])
    except (UserError, TypeError, KeyError):
        return None
    told = [str(event.get("message")) for event in events if event.get("reason") == "FailedCreate"]
    if not told or "forbidden" not in told[-1]:
        return None
    used = re.search(r"exceeded quota: .*\bused: (.*?), limited: ", told[-1])
    free = used is None or not re.search(r"=(?!0\b)", used[1])
    return told[-1] if free else None


_PLACED = {"creating", "initializing", "containercreating"}  # it has its machine, so that what is said of it is of now
_UNPULLED = {"errimagepull", "imagepullbackoff", "invalidimagename"}
_OVER = {"succeeded", "completed", "preempted"}
_FAILED = {"failed", "fail", "timedout", "containercannotrun"}


def _by_runai(name: str, command: Sequence[str], not_found: str | None) -> Seen:
    done = _answer(command, ANSWER_S)
    if isinstance(done, str):
        return Seen(State.UNKNOWN, done)
    text = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        # v1: "The job NAME does not exist in project P."; of v2 no words are published, hence the setting
        no_job = rf"(?<![\w-])['\"]?{re.escape(name)}['\"]? (does not exist|(was |could )?not (be )?found)"
        known = re.search(no_job, text) or (not_found and not_found in text)
        return Seen(State.GONE) if known else Seen(State.UNKNOWN, _last_line(done))
    match = re.search(r"^[ \t]*(?:STATUS|Phase):[ \t]*(\w+)", done.stdout, re.MULTILINE)
    if match is None:
        return Seen(State.UNKNOWN, f"{command[0]} named no status: {_last_line(done)}")
    status = match[1].lower()
    if status == "deleted":
        return Seen(State.GONE)
    if status in _OVER or status in _FAILED:
        return Seen(State.OVER if status in _OVER else State.FAILED, match[0].strip())
    if status == "unknown":
        return Seen(State.UNKNOWN, match[0].strip())
    if status in _UNPULLED or status in _PLACED:
        reasons = [line for line in text.splitlines() if re.search("|".join(_NO_START), line)]
        if reasons:
            return Seen(State.STUCK, " ".join(reasons[-1].split())[:LONGEST])
    return Seen(State.THERE)


def _answer(command: Sequence[str], longest_s: int) -> "subprocess.CompletedProcess[str] | str":
    """What a command says; why it said nothing."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=longest_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{command[0]} took more than {longest_s} s"
    except OSError as problem:
        return f"{command[0]} cannot be run ({problem.strerror})"


def _last_line(done: "subprocess.CompletedProcess[str] | str") -> str:
    if isinstance(done, str):
        return done
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return lines[-1][:LONGEST] if lines else f"{done.args[0]} failed without a word (exit code {done.returncode})"


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
