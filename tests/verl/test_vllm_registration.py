"""When Qwen3 is registered with vLLM, and what happens when that fails."""

from importlib.metadata import entry_points

import pytest

vllm_gate = pytest.importorskip("verl.third_party.vllm")


@pytest.fixture
def models(monkeypatch):
    """vLLM's register of models, empty."""
    from vllm import ModelRegistry

    monkeypatch.setattr(ModelRegistry, "models", {})
    return ModelRegistry.models


@pytest.mark.parametrize("version", ["0.7.0", "0.7.3", "0.7.3+cpu", "0.7.4.dev1+g1234567"])
def test_our_class_serves_qwen3_and_registering_twice_changes_nothing(version, models, monkeypatch):
    from verl.third_party.vllm.qwen3 import Qwen3ForCausalLM

    monkeypatch.setattr(vllm_gate, "get_version", lambda package: version)
    assert vllm_gate.register_qwen3()
    entry = models["Qwen3ForCausalLM"]
    assert entry.load_model_cls() is Qwen3ForCausalLM
    assert vllm_gate.register_qwen3()
    assert models["Qwen3ForCausalLM"] is entry


def test_importing_the_gate_registers():
    from vllm import ModelRegistry

    assert "Qwen3ForCausalLM" in ModelRegistry.get_supported_archs()
    assert ModelRegistry.is_pp_supported_model(["Qwen3ForCausalLM"])


def test_another_class_under_that_name_is_replaced(models):
    from vllm import ModelRegistry
    from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

    ModelRegistry.register_model("Qwen3ForCausalLM", Qwen2ForCausalLM)
    assert vllm_gate.register_qwen3()
    assert models["Qwen3ForCausalLM"].load_model_cls() is not Qwen2ForCausalLM


@pytest.mark.parametrize("version", ["0.8.0", "0.8.0rc1", "0.8.5.post1", "0.9.1+cu124", "0.6.3", None])
def test_another_vllm_is_left_alone(version, models, monkeypatch):
    monkeypatch.setattr(vllm_gate, "get_version", lambda package: version)
    assert not vllm_gate.register_qwen3()
    assert not models


def test_a_registration_that_does_not_take_raises(models, monkeypatch):
    from vllm import ModelRegistry

    monkeypatch.setattr(type(ModelRegistry), "register_model", lambda *_: None)
    with pytest.raises(RuntimeError, match="Qwen3ForCausalLM"):
        vllm_gate.register_qwen3()


def test_vllm_is_told_of_the_registration():
    (ours,) = [e for e in entry_points(group="vllm.general_plugins") if e.name == "archer_qwen3"]
    assert ours.load() is vllm_gate.register_qwen3
