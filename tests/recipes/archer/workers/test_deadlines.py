"""Waiting for workers: a deadline for each stage, the first error at once, and who has hung."""

import time
from types import SimpleNamespace

import pytest
from ray.exceptions import GetTimeoutError, RayTaskError

from deadline_cases import NULL, deadlines_config
from recipes.archer.ending import UserError
from recipes.archer.settings.configuration import compose
from recipes.archer.workers import deadlines as module
from recipes.archer.workers.deadlines import STAGES, Deadlines, WorkerHungError, stage_of
from recipes.archer.workers.worker import ArcherWorker
from verl.single_controller.base.decorator import MAGIC_ATTR

METHODS = {stage: method for method, stage in reversed(STAGES.items())}
# verl's, which nothing here calls
UNUSED = {"compute_log_prob_async", "load_checkpoint", "save_checkpoint", "start_profile", "stop_profile"}


@pytest.fixture
def ray(monkeypatch):
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
    return stand_in


def test_an_answer_in_time(ray):
    ray.done_at = {"a": 0.0, "b": time.monotonic() + 0.1}
    answers = Deadlines(deadlines_config(rollout=10.0)).answers("generate_sequences", ["a", "b"])
    assert answers == ["answer of a", "answer of b"]


@pytest.mark.parametrize("stage", NULL)
def test_a_worker_that_hangs_is_named_by_rank_stage_and_setting(ray, stage):
    ray.done_at = {"a": 0.0, "b": float("inf")}
    deadlines, method = Deadlines(deadlines_config(**{stage: 0.1})), METHODS.get(stage, "generate_sequences")
    said = f"hung in {stage.replace('_', '-')}: no answer from worker rank 1 within trainer.deadlines_s.{stage}=0.1"
    with pytest.raises(WorkerHungError) as caught, deadlines.rollout(True, lambda: None):
        deadlines.answers(f"actor_rollout_{method}", ["a", "b"])
    assert str(caught.value) == said


def test_its_machine_is_named_where_there_are_several(ray):
    ray.done_at = {"a": 0.0, "b": float("inf")}
    deadlines = Deadlines(deadlines_config(update=0.1))
    deadlines.machines = ["machine-0", "machine-1"]
    with pytest.raises(WorkerHungError, match=r"rank 1 on machine-1 within trainer.deadlines_s.update=0.1$"):
        deadlines.answers("update_actor", ["a", "b"])


def test_a_rollout_has_a_setting_of_its_own(ray):
    ray.done_at = {"a": float("inf")}
    deadlines = Deadlines(deadlines_config(rollout=0.1, validation=50.0))
    with pytest.raises(WorkerHungError, match=r"rank 0 within actor_rollout_ref.rollout.deadline_s=0.1$"):
        deadlines.answers("generate_sequences", ["a"])


def test_without_a_setting_it_goes_by_what_the_stage_has_been_taking(ray, monkeypatch):
    deadlines = Deadlines(deadlines_config(rollout=None))
    assert deadlines.of("update") == (3600, "3600 s (trainer.deadlines_s.update=null)")
    monkeypatch.setattr(module, "LEAST_S", 0.3)
    ray.done_at = {"a": time.monotonic() + 0.1}
    deadlines.answers("update_actor", ["a"])
    longest = deadlines.of("update")[0]
    assert 10 * 0.09 < longest < 3600
    deadlines.answers("update_actor", ["a"])  # a quick one changes nothing
    assert deadlines.of("update")[0] == longest
    assert deadlines.of("save")[0] == deadlines.of("rollout")[0] == 3600


def test_it_is_looked_about_while_a_rollout_goes_on(ray):
    looks, deadlines = [], Deadlines(deadlines_config())
    ray.done_at = {"a": time.monotonic() + 0.1}
    with deadlines.rollout(False, lambda: looks.append(1)):
        deadlines.answers("generate_sequences", ["a"])
    assert len(looks) > 2
    deadlines.answers("generate_sequences", ["a"])
    assert deadlines._while_waiting is None


def test_every_method_of_the_worker_has_a_stage():
    """Without one a call would fail, rather than wait for ever."""
    registered = {name for name in dir(ArcherWorker) if hasattr(getattr(ArcherWorker, name), MAGIC_ATTR)}
    assert set(STAGES) <= registered
    without = registered - UNUSED - set(STAGES)
    assert not [name for name in without if not name.startswith("_") and name in ArcherWorker.__dict__]
    assert stage_of("ref_compute_ref_log_prob") == "scoring"
    with pytest.raises(LookupError, match="save_checkpoint belongs to no stage"):
        stage_of("save_checkpoint")


def test_every_stage_has_a_setting():
    config = compose(["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"])
    deadlines = Deadlines(config)
    assert all(deadlines.of(stage)[0] > 0 for stage in (*STAGES.values(), "validation"))
    assert set(config.trainer.deadlines_s) == {*STAGES.values(), "validation"} - {"rollout"}


@pytest.mark.parametrize(
    ("signs", "found"),
    [
        ({0: [[5, 9], [9, 9]], 1: [[5, 9], [5, 9]]}, [1]),  # gives no sign any more
        ({0: [[5, 9], [9, 9]], 1: [None, None]}, [1]),  # has never given one
        ({0: [[5, 9], [9, 9]], 1: [[5, 8], [9, 8]]}, [1]),  # has not begun what the others wait in
        ({0: [[5, 9], [9, 9]], 1: [[5, 9], [9, 9]]}, []),
    ],
)
def test_who_keeps_the_others_waiting(monkeypatch, signs, found):
    monkeypatch.setattr(module, "LATE_S", 0.0)
    monkeypatch.setattr(module, "_sign", lambda rank: signs[rank].pop(0))
    assert module.silent_or_behind([0, 1]) == found


@pytest.mark.parametrize("cause", [UserError("checkpoint a: holds code"), ValueError("a bug")])
def test_what_a_worker_has_against_what_it_is_given_is_one_line(ray, monkeypatch, cause):
    """Ray's own error is a traceback of the worker; another error keeps it."""

    def fail(futures, timeout):
        raise RayTaskError("call", "a traceback\nof many lines", cause, "worker", 1, "127.0.0.1").as_instanceof_cause()

    monkeypatch.setattr(ray, "get", fail)
    for method in METHODS.values():
        with pytest.raises(type(cause)) as caught:
            Deadlines(deadlines_config()).answers(method, ["a"])
        assert (str(caught.value) == str(cause)) == isinstance(cause, UserError)
