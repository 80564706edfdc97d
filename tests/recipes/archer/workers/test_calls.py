"""Waiting for the engines: a deadline, the first error at once, and the word that a stop was asked for."""

import time
from types import SimpleNamespace

import pytest
from ray.exceptions import GetTimeoutError, RayTaskError

from recipes.archer.checkpoints.reading import Checkpoint
from recipes.archer.ending import UserError
from recipes.archer.workers import calls as module
from recipes.archer.workers.calls import RolloutHungError, WorkerCalls, load_state


@pytest.fixture
def ray(monkeypatch, tmp_path):
    """In the place of Ray: answers that come after a while, or never."""

    class Ray:
        exceptions = SimpleNamespace(GetTimeoutError=GetTimeoutError)
        done_at: dict = {}

        def get(self, futures, timeout=None):
            end = time.monotonic() + (timeout if timeout is not None else 100)
            while time.monotonic() < end:
                if not self._waiting(futures):
                    return [f"answer of {future}" for future in futures]
                time.sleep(0.005)
            raise GetTimeoutError("not yet")

        def wait(self, futures, num_returns, timeout):
            waiting = self._waiting(futures)
            return [future for future in futures if future not in waiting], waiting

        def _waiting(self, futures):
            return [future for future in futures if time.monotonic() < self.done_at[future]]

    stand_in = Ray()
    monkeypatch.setattr(module, "ray", stand_in)
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "stop_file", lambda: tmp_path / "stop")
    return stand_in


def _calls(deadline_s: float, requested: bool = False) -> WorkerCalls:
    rollout = SimpleNamespace(deadline_s=deadline_s)
    actor = SimpleNamespace(ulysses_sequence_parallel_size=1)
    config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout, actor=actor))
    return WorkerCalls(config, SimpleNamespace(world_size=2), None, SimpleNamespace(requested=requested))


def test_an_answer_in_time(ray, tmp_path):
    ray.done_at = {"a": 0.0, "b": time.monotonic() + 0.1}
    assert _calls(deadline_s=10.0)._wait(["a", "b"]) == ["answer of a", "answer of b"]
    assert list(tmp_path.iterdir()) == []


def test_a_rollout_that_hangs_is_named_by_rank_and_setting(ray):
    ray.done_at = {"a": 0.0, "b": float("inf")}
    with pytest.raises(RolloutHungError, match=r"worker rank 1 within actor_rollout_ref.rollout.deadline_s=0.1$"):
        _calls(deadline_s=0.1)._wait(["a", "b"])


def test_a_stop_is_passed_on_and_its_file_removed(ray, tmp_path):
    """The engine ends what it is doing as soon as it sees the file."""
    file = tmp_path / "stop"
    ray.done_at = {"a": 0.0}
    ray._waiting = lambda futures: [] if file.exists() else futures
    assert _calls(deadline_s=10.0, requested=True)._wait(["a"]) == ["answer of a"]
    assert not file.exists()


@pytest.mark.parametrize("cause", [UserError("checkpoint a: holds code"), ValueError("a bug")])
def test_what_a_worker_has_against_a_checkpoint_is_one_line(tmp_path, cause):
    """Ray's own error is a traceback of the worker; another error keeps it."""

    def fail(path, trust_old):
        assert (path, trust_old) == (str(tmp_path), True)
        raise RayTaskError(
            "load_state", "a traceback\nof many lines", cause, "worker", 1, "127.0.0.1"
        ).as_instanceof_cause()

    with pytest.raises(type(cause)) as caught:
        load_state(SimpleNamespace(load_state=fail), Checkpoint(tmp_path, 3, {}, is_old=True))
    assert (str(caught.value) == str(cause)) == isinstance(cause, UserError)
