"""When Qwen3 is registered with vLLM, and what happens when that fails."""

import pytest

vllm_gate = pytest.importorskip("verl.third_party.vllm")


def test_registering_twice_changes_nothing():
    from vllm import ModelRegistry

    assert vllm_gate.register_qwen3()
    before = ModelRegistry.models["Qwen3ForCausalLM"]
    assert vllm_gate.register_qwen3()
    assert ModelRegistry.models["Qwen3ForCausalLM"] is before


@pytest.mark.parametrize("version", ["0.8.0", "0.8.5.post1", "0.9.1+cu124", "0.6.3"])
def test_another_vllm_is_left_alone(version, monkeypatch):
    monkeypatch.setattr(vllm_gate, "get_version", lambda package: version)
    assert not vllm_gate.register_qwen3()


def test_a_registration_that_does_not_take_raises(monkeypatch):
    from vllm import ModelRegistry

    monkeypatch.setattr(ModelRegistry, "models", {})
    monkeypatch.setattr(type(ModelRegistry), "register_model", lambda *_: None)
    with pytest.raises(RuntimeError, match="Qwen3ForCausalLM"):
        vllm_gate.register_qwen3()
