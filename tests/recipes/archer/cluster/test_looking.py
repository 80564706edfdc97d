"""What counts as a word of the cluster about a job; everything else is unknown, which is never "gone"."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from recipes.archer.cluster import looking
from recipes.archer.cluster.looking import Cluster, Seen, State
from recipes.archer.cluster.settings import Settings
from recipes.archer.ending import UserError

NAME = "archer-s-0123abcd-trial-001"
SETTINGS = Settings(source=Path("cluster.toml"), project="nlp", cli="v2")
LABELS = {"app.kubernetes.io/instance": NAME}


@pytest.fixture
def answers(monkeypatch):
    """Gives the cluster words to say, one answer a command; the commands that were run."""
    given, asked = [], []

    def run(command, **_):
        asked.append(command)
        answer = given.pop(0)
        if isinstance(answer, Exception):
            raise answer
        code, out, err = answer
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(looking.subprocess, "run", run)

    def say(*answers, backend="kubernetes", nodes=1, settings=SETTINGS) -> Seen:
        given[:], asked[:] = list(answers), []
        return Cluster(settings, backend).look(NAME, nodes)

    say.asked, say.given = asked, given
    return say


def items(*found):
    return 0, json.dumps({"kind": "List", "items": list(found)}), ""


def job(kind="Job", **status):
    return {"kind": kind, "metadata": {"name": NAME, "labels": LABELS}, "status": status}


def pod(phase="Running", **waiting):
    state = {"waiting": waiting} if waiting else {"running": {}}
    statuses = [{"image": "i:1", "state": state}]
    return {"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": phase, "containerStatuses": statuses}}


def event(message, reason="FailedCreate"):
    return {"kind": "Event", "metadata": {"name": "e"}, "reason": reason, "message": message}


FAILED = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code 2"}


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        ([], State.GONE, ""),
        ([job(), pod()], State.THERE, ""),
        ([job(active=1), pod("Pending")], State.THERE, ""),  # it waits for its machine, without limit
        ([pod()], State.THERE, ""),  # the job is deleted, its pod still saves
        ([pod("Failed")], State.GONE, ""),
        ([job(conditions=[{"type": "Complete", "status": "True"}]), pod("Succeeded")], State.OVER, ""),
        ([job(conditions=[{"type": "Failed", "status": "False"}]), pod()], State.THERE, ""),
        ([job(conditions=[FAILED])], State.FAILED, "PodFailurePolicy: exit code 2"),
        ([job() | {"metadata": {"name": NAME, "deletionTimestamp": "now"}}], State.THERE, ""),
        ([job(), pod("Pending", reason="ErrImagePull", message="no i:1")], State.STUCK, "ErrImagePull: no i:1"),
        ([job(), pod("Pending", reason="InvalidImageName")], State.STUCK, "InvalidImageName: i:1"),
        ([job(), pod("Pending", reason="ContainerCreating")], State.THERE, ""),
    ],
)
def test_a_job_as_kubectl_lists_it(answers, found, state, said):
    assert answers(items(*found)) == Seen(state, said)
    assert answers.asked[0][:3] == ["kubectl", "get", "jobs.batch,pods"]


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        ("", State.THERE, ""),
        ("Running", State.THERE, ""),
        ("Retrying", State.THERE, ""),
        ("Complete", State.OVER, ""),
        ("Failed", State.FAILED, "AppFailed: exit code 1"),
        ("ValidationFailed", State.FAILED, "AppFailed: exit code 1"),
    ],
)
def test_a_rayjob(answers, status, state, said):
    found = job("RayJob", jobDeploymentStatus=status, jobStatus="FAILED", reason="AppFailed", message="exit code 1")
    assert answers(items(found, pod()), nodes=2) == Seen(state, said)
    assert answers.asked[0][2] == "rayjobs.ray.io,pods"


NO_KIND = "Error from server (NotFound): the server could not find the requested resource (get rayjobs.ray.io)"
NO_KUBERAY = 'error: the server doesn\'t have a resource type "rayjobs"'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (items(job("RayJob"), pod()), True),
        (items(), False),
        (items(pod()), False),
        ((1, "", NO_KUBERAY), False),
        ((1, "", f"E1129 memcache.go:265] couldn't get resource list for metrics.k8s.io/v1beta1\n{NO_KUBERAY}"), False),
        ((1, "", NO_KIND), False),
    ],
)
def test_whether_a_job_is_a_rayjob_is_for_the_cluster_to_say(answers, answer, found):
    answers.given[:] = [answer]
    assert looking.is_rayjob(NAME, SETTINGS) is found


@pytest.mark.parametrize(
    "answer",
    [
        subprocess.TimeoutExpired("kubectl", 60),
        FileNotFoundError(2, "No such file or directory"),
        (1, "", "Unable to connect to the server: net/http: TLS handshake timeout"),
        (1, "", 'Error from server (Forbidden): rayjobs.ray.io is forbidden: User "me" cannot list'),
        (1, "", 'Error from server (NotFound): namespaces "runai-nlp" not found'),
        (1, "", f"E1129 memcache.go:265] couldn't get current server API group list: EOF\n{NO_KUBERAY}"),
        (1, "", ""),
        (0, "<html>502</html>", ""),
        (0, '{"items": null}', ""),
        (0, '{"items": [3]}', ""),
    ],
)
def test_where_it_does_not_say_nobody_takes_it_for_a_no(answers, answer):
    answers.given[:] = [answer]
    with pytest.raises(UserError, match=f"whether {NAME} is a RayJob is not known .*--nodes") as caught:
        looking.is_rayjob(NAME, SETTINGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        subprocess.TimeoutExpired("kubectl", 60),
        FileNotFoundError(2, "No such file or directory"),
        (1, "", "Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout"),
        (1, "", 'Error from server (Forbidden): jobs.batch is forbidden: User "me" cannot list'),
        (1, "", f'Error from server (NotFound): namespaces "runai-nlp" not found: {NAME}'),
        (0, "", ""),
        (0, "<html>502</html>", ""),
        (0, "[]", ""),
        (0, '{"items": null}', ""),
        (0, '{"items": [3]}', ""),
    ],
)
def test_what_kubectl_does_not_say_is_unknown(answers, answer):
    seen = answers(answer)
    assert seen.state is State.UNKNOWN and seen.said


QUOTA = 'pods "x-" is forbidden: exceeded quota: q, requested: gpu=4, used: gpu={used}, limited: gpu=2'


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], State.THERE),
        ([event("created", "SuccessfulCreate")], State.THERE),
        ([event(QUOTA.format(used=0))], State.STUCK),  # nobody uses it, and it is too small
        ([event(QUOTA.format(used=2))], State.THERE),  # others use it: it is waited for
        ([event(QUOTA.format(used=0)), event(QUOTA.format(used=2))], State.THERE),
        ([event('pods "x-" is forbidden: violates PodSecurity "restricted:latest"')], State.STUCK),
        ([event("Internal error occurred: failed calling webhook")], State.THERE),
    ],
)
def test_a_job_whose_pods_are_refused(answers, events, state):
    seen = answers(items(job()), items(*events))
    assert seen.state is state
    assert f"involvedObject.name={NAME}" in answers.asked[1]


def test_events_that_cannot_be_read_change_nothing(answers):
    for answer in ((1, "", "Forbidden"), (0, "nonsense", ""), subprocess.TimeoutExpired("kubectl", 60)):
        assert answers(items(job()), answer) == Seen(State.THERE)


V1 = f"NAME: {NAME}\nNAMESPACE: runai-nlp\nTYPE: Train\nSTATUS: {{}}\nDURATION: 1m\n\nPods:\nPOD  STATUS  TYPE\n"
V2 = f"Name: {NAME}\nPhase: {{}}\n\nPods:\nName  Phase  Completed At\n"
PULL = '\nWarning  Failed  pod/x  Failed to pull image "i:1": ErrImagePull\n'


@pytest.mark.parametrize("page", [V1, V2])
@pytest.mark.parametrize(
    ("status", "more", "state"),
    [
        ("Running", "", State.THERE),
        ("Running", PULL, State.THERE),  # once, before it ran
        ("Pending", PULL, State.THERE),  # before it was preempted
        ("Initializing", PULL, State.STUCK),
        ("ImagePullBackOff", PULL, State.STUCK),
        ("Stopped", "", State.THERE),
        ("Completed", "", State.OVER),
        ("Succeeded", "", State.OVER),
        ("Failed", "", State.FAILED),
        ("Deleted", "", State.GONE),
        ("Unknown", "", State.UNKNOWN),
        ("", "", State.UNKNOWN),
    ],
)
def test_a_job_as_runai_describes_it(answers, page, status, more, state):
    seen = answers((0, page.format(status) + more, ""), backend="runai")
    assert seen.state is state
    assert seen.said or state not in (State.STUCK, State.FAILED, State.UNKNOWN)


@pytest.mark.parametrize(
    "said",
    [
        f"The job {NAME} does not exist in project nlp. If the job exists in a different project, use -p <name>.",
        f'workload "{NAME}" not found',
        f"{NAME} was not found in project nlp",
        f'Error from server (NotFound): trainingworkloads.run.ai "{NAME}" not found',
    ],
)
@pytest.mark.parametrize("stream", [1, 2])
def test_runai_s_word_that_there_is_no_such_job(answers, said, stream):
    answer = (1, said, "") if stream == 1 else (1, "", said)
    assert answers(answer, backend="runai") == Seen(State.GONE)


@pytest.mark.parametrize(
    "answer",
    [
        subprocess.TimeoutExpired("runai", 60),
        (1, "", "token expired: please run runai login"),
        (1, "", f'cannot describe {NAME}: project "nlp" not found'),
        (1, "", "project nlp was not found. Please run 'runai project list'"),
        (1, "", f"The job {NAME}0 does not exist in project nlp."),
        (1, "", f"my-{NAME} not found"),
        (1, "", ""),
        (0, "", ""),
        (0, "Completed At\n", ""),
        (0, f"{NAME} not found", ""),  # it says that it succeeded
    ],
)
def test_what_runai_does_not_say_is_unknown(answers, answer):
    seen = answers(answer, backend="runai")
    assert seen.state is State.UNKNOWN and seen.said


def test_a_site_may_have_other_words_for_a_job_that_there_is_not(answers):
    settings = dataclasses.replace(SETTINGS, not_found="no workload was found")
    answer = (1, "", "Error: no workload was found")
    assert answers(answer, backend="runai").state is State.UNKNOWN
    assert answers(answer, backend="runai", settings=settings).state is State.GONE


def test_a_runai_that_does_not_say_which_it_is_is_unknown(answers, monkeypatch):
    monkeypatch.setattr("recipes.archer.cluster.runai.require_binary", lambda *_: None)
    hangs = [subprocess.TimeoutExpired("runai", 30)] * 4
    assert answers(*hangs, backend="runai", settings=dataclasses.replace(SETTINGS, cli=None)).state is State.UNKNOWN
