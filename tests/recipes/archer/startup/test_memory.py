"""A model that cannot be trained in the memory there is: told with the sum, before anything is started."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from recipes.archer.ending import UserError
from recipes.archer.startup import memory
from recipes.archer.startup.memory import check_memory, parts_of
from tests.support.configurations import configuration

BILLION = 10**9
GIB = 2**30
ONE = "trainer.n_gpus_per_node=1"


def test_the_sum():
    parts = parts_of(configuration(ONE), BILLION)
    assert parts == {
        "weights": 4 * BILLION,
        "gradients": 4 * BILLION,
        "Adam's two moments": 8 * BILLION,
        "reference": 4 * BILLION,
        "engine": 4 * BILLION,
        "its cache": GIB,
    }


def test_trainers_share_and_every_worker_has_an_engine():
    for without in ("use_kl_loss=false", "kl_loss_coef=0"):
        assert "reference" not in parts_of(configuration(f"actor_rollout_ref.actor.{without}"), BILLION)
    parts = parts_of(configuration("trainer.n_gpus_per_node=2", "actor_rollout_ref.actor.use_kl_loss=false"), BILLION)
    assert parts["weights"] == 4 * BILLION and "reference" not in parts
    assert (parts["engine of 2 workers"], parts["its cache of 2 workers"]) == (8 * BILLION, 2 * GIB)


@pytest.fixture
def model(tmp_path):
    """Of a million parameters: 24 MB over all, and a cache of 1 GiB."""
    save_file({"a": np.zeros((1000, 400), np.float16), "b": np.zeros(600_000, np.float16)}, tmp_path / "m.safetensors")
    return tmp_path


def test_a_model_that_fits_just_so(model, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(memory, "memory", lambda: 24_000_000 + GIB)
    check_memory(configuration(ONE), model)
    monkeypatch.setattr(memory, "memory", lambda: 24_000_000 + GIB - 1)
    with pytest.raises(UserError) as caught:
        check_memory(configuration(ONE), model)
    message = str(caught.value)
    for words in ("1.0 GiB of memory: weights 3.8 MiB + gradients 3.8 MiB", "Adam's two moments 7.6 MiB", "its cache"):
        assert words in message
    check_memory(configuration(device="cuda"), model)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # the workers may be elsewhere
    check_memory(configuration(ONE), model)


@pytest.mark.parametrize(("limit", "expected"), [("max\n", None), ("4096\n", 4096), ("9223372036854771712\n", None)])
def test_a_containers_limit_counts(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(memory, "LIMITS", ())
    machine = memory.memory()
    assert machine > GIB // 4
    monkeypatch.setattr(memory, "LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    assert memory.memory() == (expected or machine)
