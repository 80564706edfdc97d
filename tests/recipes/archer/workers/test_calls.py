"""What is asked of the workers: the cap of a rollout, the word that a stop was asked for, a checkpoint's errors."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deadline_cases import deadlines_config
from recipes.archer.workers import calls as module
from recipes.archer.workers.calls import PROMPT_KEYS, WorkerCalls
from recipes.archer.workers.deadlines import Deadlines
from verl import DataProto


def _calls(requested: bool = False) -> WorkerCalls:
    rollout = SimpleNamespace(do_sample=True, val_kwargs=SimpleNamespace(do_sample=True), tensor_model_parallel_size=1)
    actor = SimpleNamespace(ulysses_sequence_parallel_size=1)
    data = SimpleNamespace(max_response_length=8, max_val_response_length=None)
    ref = SimpleNamespace(refresh=SimpleNamespace(every=3, mix=0.5, reset_optimizer=True))
    config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout, actor=actor, ref=ref), data=data)
    group = SimpleNamespace(world_size=2, deadlines=Deadlines(deadlines_config()))
    return WorkerCalls(config, group, None, SimpleNamespace(requested=requested))


def _generate(calls: WorkerCalls, validate: bool) -> DataProto:
    columns = {name: torch.ones(2, 3) for name in PROMPT_KEYS}
    batch = DataProto.from_dict(columns, {"raw_prompt_ids": np.array([[1], [2]], dtype=object)})
    return calls.generate(batch, np.arange(2), validate)


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("requested", [False, True])
def test_a_stop_is_passed_on_and_its_file_removed(tmp_path, monkeypatch, requested, validate):
    """The engine ends what it is doing as soon as it sees the file, in training and in validation."""
    file, seen = tmp_path / "stop", []
    monkeypatch.setattr(module, "stop_file", lambda: file)
    calls = _calls(requested=requested)

    def generate_sequences(batch):
        calls.actor.deadlines._while_waiting()
        seen.append((batch.meta_info["stop_file"], file.exists()))
        return DataProto(meta_info={})

    calls.actor.generate_sequences = generate_sequences
    _generate(calls, validate)
    assert seen == [(str(file), requested)]
    assert not file.exists()


@pytest.mark.parametrize(("val_cap", "trained", "validated"), [(None, 8, 8), (32, 8, 32), (4, 8, 4)])
def test_validation_has_a_cap_of_its_own(val_cap, trained, validated):
    """The engine is told the cap of each call."""
    seen = []

    def generate_sequences(batch):
        seen.append(batch.meta_info["max_tokens"])
        return DataProto(meta_info={})

    calls = _calls()
    calls.val_cap, calls.actor.generate_sequences = val_cap, generate_sequences
    for validate in (False, True):
        _generate(calls, validate)
    assert seen == [trained, validated]


def test_the_reference_is_refreshed_every_so_many_steps_and_never_unasked():
    calls, asked = _calls(), []
    calls.actor.refresh_reference = lambda *arguments: asked.append((step, *arguments))
    for step in range(1, 8):
        calls.refresh_reference(step)
    assert asked == [(3, 0.5, True), (6, 0.5, True)]
    calls.refresh.every = None
    for step in range(1, 8):
        calls.refresh_reference(step)
    assert len(asked) == 2
