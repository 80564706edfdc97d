"""Waiting for the engines: a deadline, the first error at once, and the word that a stop was asked for."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.exceptions import GetTimeoutError, RayTaskError

from recipes.archer.checkpoints.reading import Checkpoint
from recipes.archer.ending import UserError
from recipes.archer.workers import calls as module
from recipes.archer.workers.calls import PROMPT_KEYS, RolloutHungError, WorkerCalls, load_state
from verl import DataProto


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
    data = SimpleNamespace(max_response_length=8, max_val_response_length=None)
    ref = SimpleNamespace(refresh=SimpleNamespace(every=3, mix=0.5, reset_optimizer=True))
    config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout, actor=actor, ref=ref), data=data)
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


@pytest.mark.parametrize(("val_cap", "trained", "validated"), [(None, 8, 8), (32, 8, 32), (4, 8, 4)])
def test_validation_has_a_cap_of_its_own(ray, val_cap, trained, validated):
    """The engine is told the cap of each call."""
    seen = []

    def generate_sequences(batch):
        seen.append(batch.meta_info["max_tokens"])
        return SimpleNamespace(futures=["a"], collect_fn=lambda _: DataProto(meta_info={}))

    calls = _calls(deadline_s=10.0)
    calls.val_cap, calls.actor.generate_sequences = val_cap, generate_sequences
    calls.rollout.do_sample, calls.rollout.val_kwargs = True, SimpleNamespace(do_sample=True)
    calls.rollout.tensor_model_parallel_size, ray.done_at = 1, {"a": 0.0}
    for validate in (False, True):
        columns = {name: torch.ones(2, 3) for name in PROMPT_KEYS}
        batch = DataProto.from_dict(columns, {"raw_prompt_ids": np.array([[1], [2]], dtype=object)})
        calls.generate(batch, np.arange(2), validate)
    assert seen == [trained, validated]


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


def test_the_reference_is_refreshed_every_so_many_steps_and_never_unasked():
    calls, asked = _calls(deadline_s=10.0), []
    calls.actor.refresh_reference = lambda *arguments: asked.append((step, *arguments))
    for step in range(1, 8):
        calls.refresh_reference(step)
    assert asked == [(3, 0.5, True), (6, 0.5, True)]
    calls.refresh.every = None
    for step in range(1, 8):
        calls.refresh_reference(step)
    assert len(asked) == 2
