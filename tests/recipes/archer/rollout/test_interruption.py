"""A rollout that nobody waits for any more ends early, with an answer of the right shape."""

import os
from types import SimpleNamespace

import pytest

from recipes.archer.rollout import interruption
from recipes.archer.rollout.interruption import run_until_stopped, stop_file


class Engine:
    """vLLM's engine as far as it is used: each request is done after its own number of steps."""

    def __init__(self, lengths: dict[str, int], during_step=lambda number: None):
        self.left, self.steps, self.during_step = dict(lengths), 0, during_step
        groups = [SimpleNamespace(request_id=identity) for identity in lengths]
        self.scheduler = [SimpleNamespace(waiting=groups)]

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def abort_request(self, identities) -> None:
        for identity in identities:
            self.left.pop(identity, None)

    def step(self) -> list:
        self.steps += 1
        self.during_step(self.steps)
        self.left = {identity: length - 1 for identity, length in self.left.items()}
        done = [identity for identity, length in self.left.items() if not length]
        self.left = {identity: length for identity, length in self.left.items() if length}
        outputs = [SimpleNamespace(token_ids=(1, 2), logprobs=(0, 0))]
        return [SimpleNamespace(request_id=identity, finished=True, outputs=outputs) for identity in done]


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch):
    monkeypatch.setattr(interruption, "LOOK_S", 0.0)


def test_without_a_stop_every_request_is_finished_and_in_order(tmp_path):
    outputs = run_until_stopped(Engine({"10": 3, "9": 1, "11": 2}), str(tmp_path / "stop"))
    assert [output.request_id for output in outputs] == ["9", "10", "11"]
    assert all(output.outputs[0].token_ids == (1, 2) for output in outputs)


def test_a_stop_ends_what_is_under_way_and_every_request_has_an_answer(tmp_path):
    file = tmp_path / "stop"
    engine = Engine({"0": 2, "1": 1000, "2": 1000}, lambda number: file.touch() if number == 5 else None)
    outputs = run_until_stopped(engine, str(file))
    assert engine.steps == 5
    assert not engine.has_unfinished_requests()  # the engine can be used again
    assert [output.request_id for output in outputs] == ["0", "1", "2"]
    assert [len(output.outputs[0].token_ids) for output in outputs] == [2, 0, 0]
    assert [len(output.outputs[0].logprobs) for output in outputs] == [2, 0, 0]


def test_each_process_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(interruption.tempfile, "tempdir", str(tmp_path))
    file = stop_file()
    assert file.parent == tmp_path and file == stop_file()
    assert file.name != f"archer-stop-{os.getpid()}"  # which an earlier process of that number may have left
    assert file.name.startswith(f"archer-stop-{os.getpid()}-")
