"""Who died and of what, from what Ray says; real deaths are the affair of tests/faults."""

import re
from types import SimpleNamespace

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from deadline_cases import deadlines_config
from recipes.archer.workers import death as module
from recipes.archer.workers.deadlines import Deadlines
from recipes.archer.workers.death import Roster, cause_of

KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: WorkerDict\n\tpid: 9200\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. There are some potential root causes. (1) The "
    "process is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called. (3) The "
    "worker is crashed unexpectedly due to SIGSEGV or other unexpected errors."
)
EXITED = "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly. Worker exits with an exit code "


@pytest.mark.parametrize(
    ("text", "crash", "out_of_memory", "cause"),
    [
        (KILLED, None, False, "it was killed (SIGKILL), or ended without a word"),
        (KILLED, None, True, "it was killed (SIGKILL), likely for memory: the kernel's OOM killer has been at work"),
        (KILLED, "SIGSEGV", True, "it crashed (SIGSEGV)"),
        (EXITED + "4.", None, False, "it exited with code 4"),
        (EXITED + "1. The process receives a SIGTERM.", None, False, "it received SIGTERM"),
        ("Task was killed due to the node running low on memory.", None, False, "Ray killed it, because the machine"),
        ("its owner has died. Worker exit detail: Owner's node has crashed.", None, False, "Ray or the machine under"),
        ("The actor died because its node has died. Node Id: 1", None, False, "Ray or the machine under it went down"),
    ],
)
def test_causes(text, crash, out_of_memory, cause):
    assert cause_of(text, crash, out_of_memory).startswith(cause)


class Worker:
    """An actor's handle: how it answers when asked whether it is there."""

    def __init__(self, identity: str, answer=None):
        self._actor_id = SimpleNamespace(hex=lambda: identity)
        self.__ray_ready__ = SimpleNamespace(remote=lambda: self)
        self.answer = answer


@pytest.fixture
def roster(tmp_path, monkeypatch):
    """Two workers; in the place of Ray, their answers."""

    def get(worker):
        if isinstance(worker.answer, Exception):
            raise worker.answer

    def wait(workers, timeout):
        return [worker for worker in workers if worker.answer != "busy"][:1], []

    stand_in = SimpleNamespace(is_initialized=lambda: True, get=get, wait=wait)
    monkeypatch.setattr(module, "ray", stand_in)
    monkeypatch.setattr(module, "PROBE_S", 0.2)
    monkeypatch.setattr(module, "_oom_kills", lambda: 0)
    roster = Roster("actor, rollout", tmp_path / "session", tmp_path / "setup.log", Deadlines(deadlines_config()))
    roster.workers = [Worker("aa"), Worker("bb")]
    return roster


def _died(identity: str | None = None, text: str = KILLED) -> RayActorError:
    error = ActorDiedError()
    error.actor_id, error.error_msg = identity, text
    return error


def _task_error(cause: Exception) -> RayTaskError:
    """As ``ray.get`` raises what a worker's method raised."""
    return RayTaskError("f", "Traceback", cause, "title", 1, "127.0.0.1").as_instanceof_cause()


SENTENCE = r"worker rank 1 of 2 \(actor, rollout, process 9200\) died: it was killed \(SIGKILL\), or ended .*"


def test_the_dead_one_is_named(roster):
    assert re.fullmatch(SENTENCE, str(roster.death_behind(_died("bb"))))


@pytest.mark.parametrize("rank_0", [None, "busy"])
def test_the_error_of_a_peer_leads_to_the_dead_one(roster, rank_0):
    roster.workers[0].answer, roster.workers[1].answer = rank_0, _died("bb")
    error = _task_error(RuntimeError("Connection closed by peer [127.0.0.1]:1234"))
    assert re.fullmatch(SENTENCE, str(roster.death_behind(error)))


def test_with_several_machines_its_machine_is_named_and_ray_has_time_to_know(roster, monkeypatch):
    """Of one that went down Ray knows a while after its peers."""
    roster._session, roster.deadlines.machines = None, ["machine-0", "machine-1"]
    monkeypatch.setattr(module, "MACHINE_PROBE_S", 60.0)
    roster.workers[0].answer = roster.workers[1].answer = "busy"
    waited = []

    def wait(workers, timeout):
        waited.append(timeout)
        roster.workers[1].answer = _died("bb", "\tpid: 9200\nThe actor died because its node has died.")
        return roster.workers[1:], []

    monkeypatch.setattr(module.ray, "wait", wait)
    said = str(roster.death_behind(_task_error(RuntimeError("Connection closed by peer [10.0.0.2]:1234"))))
    assert said.startswith("worker rank 1 of 2 on machine-1 (actor, rollout, process 9200) died: Ray or the machine")
    assert waited[0] > 50


@pytest.mark.parametrize("comes_to_know", [True, False])
def test_of_a_machine_that_is_out_of_reach_ray_is_asked_until_it_knows(roster, monkeypatch, comes_to_know):
    roster._session, roster.deadlines.machines = None, ["machine-0", "machine-1"]
    monkeypatch.setattr(module, "MACHINE_PROBE_S", 0.3)
    monkeypatch.setattr(module, "AGAIN_S", 0.05)
    out_of_reach = ActorUnavailableError("rpc error", None)
    out_of_reach.actor_id = "bb"
    asked = []

    def get(worker):
        asked.append(worker)
        raise _died("bb", "The actor died because its node has died.") if comes_to_know and asked[2:] else out_of_reach

    monkeypatch.setattr(module.ray, "get", get)
    monkeypatch.setattr(module.ray, "wait", lambda workers, timeout: (roster.workers[1:], []))
    cause = "Ray or the machine under it went down" if comes_to_know else "Ray cannot reach it"
    said = str(roster.death_behind(out_of_reach))
    assert said == f"worker rank 1 of 2 on machine-1 (actor, rollout) died: {cause}"
    assert len(asked) > 2


@pytest.mark.parametrize("rank_0", [None, "busy"])
def test_an_error_of_our_own_is_no_death(roster, rank_0):
    roster.workers[0].answer = rank_0
    for error in (_task_error(ValueError("wrong")), AssertionError("wrong"), KeyError("wrong")):
        assert roster.death_behind(error) is None


def test_what_a_constructor_raised_is_no_death(roster):
    error = ActorDiedError(RayTaskError("f", "Traceback", ValueError("no such model"), "title", 1, "127.0.0.1"))
    assert error.actor_init_failed
    assert roster.death_behind(error) is None
    roster.workers[0].answer = error  # nor when the other one is asked about
    assert roster.death_behind(_task_error(RuntimeError("Connection closed by peer"))) is None


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        NodeDiedError("The node has died."),
        ActorUnavailableError("connection lost", b"0" * 16),
        OwnerDiedError("00", SimpleNamespace(), ""),
    ],
)
def test_other_deaths(roster, error):
    assert str(roster.death_behind(error)).startswith("a process of the run's Ray session died: ")
    roster.workers[1].answer = _died("bb")
    assert re.fullmatch(SENTENCE, str(roster.death_behind(error)))


def test_a_death_that_a_worker_met_is_one(roster):
    """A worker asks others through Ray, too."""
    roster.workers[1].answer = _died("bb")
    assert re.fullmatch(SENTENCE, str(roster.death_behind(_task_error(_died()))))


def test_a_crash_is_told_from_the_workers_log_and_kept(roster, tmp_path):
    logs = tmp_path / "session" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "worker-ab-01000000-9200.err").write_text("*** SIGSEGV received at time=1 on cpu 0 ***\n    @ 0x1 f()\n")
    (logs / "worker-ab-01000000-9200.out").write_text("the last words\n")
    (logs / "worker-cd-01000000-9201.out").write_text("of another\n")
    assert str(roster.death_behind(_died("bb"))).endswith("died: it crashed (SIGSEGV)")
    kept = (tmp_path / "setup.log").read_text()
    assert "--- worker rank 1, worker-ab-01000000-9200.out\nthe last words\n" in kept
    assert "SIGSEGV received" in kept and "of another" not in kept


def test_before_ray_there_is_nobody_to_ask(roster, monkeypatch):
    monkeypatch.setattr(module.ray, "is_initialized", lambda: False)
    assert roster.death_behind(ValueError("wrong")) is None
