"""The engine takes the cap of the call, not its own, and gives it back afterwards."""

from types import SimpleNamespace

import pytest
import torch

from verl import DataProto

ENGINES_OWN = 32


@pytest.fixture
def rollout(monkeypatch):
    """verl's rollout with an engine that answers up to the cap it is given, padded to its own."""
    from recipes.archer.rollout.engine import SeededRollout
    from verl.workers.rollout.vllm_rollout import vllm_rollout_spmd

    def generate_sequences(self, prompts, **kwargs):
        self.inference_engine.lengths = [self.sampling_params.max_tokens]
        tensors = {"attention_mask": torch.zeros(1, 2 + ENGINES_OWN), "responses": torch.zeros(1, ENGINES_OWN)}
        return DataProto.from_dict(tensors)

    monkeypatch.setattr(vllm_rollout_spmd.vLLMRollout, "generate_sequences", generate_sequences)
    made = object.__new__(SeededRollout)
    made.inference_engine = SimpleNamespace(lengths=[], ended=[False])
    made.sampling_params = SimpleNamespace(max_tokens=ENGINES_OWN)
    return made


@pytest.mark.parametrize(("asked", "used"), [({"max_tokens": 8}, 8), ({"max_tokens": 32}, 32), ({}, ENGINES_OWN)])
def test_the_cap_is_the_calls(rollout, asked, used):
    output = rollout.generate_sequences(DataProto(meta_info=asked))
    assert int(output.batch["attention_mask"].sum()) == used
    assert rollout.sampling_params.max_tokens == ENGINES_OWN


def test_nothing_is_continued_from_what_earlier_weights_computed(monkeypatch):
    """Whatever ``free_cache_engine`` is: without sleep mode, nobody else empties the cache of prefixes."""
    from recipes.archer.rollout.engine import LLM, SeededLLM

    done = []
    monkeypatch.setattr(LLM, "reset_prefix_cache", lambda self: done.append("reset"))
    monkeypatch.setattr(LLM, "generate", lambda self, **arguments: done.append("generated") or [])
    engine = object.__new__(SeededLLM)
    engine.request_seeds = None
    for _ in range(2):
        engine.generate([], None)
    assert done == ["reset", "generated"] * 2
