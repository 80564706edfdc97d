"""FSDP1 in the precision of a GPU run, on one rank and on two."""

import pytest
import torch
import torch.multiprocessing as multiprocessing
from omegaconf import OmegaConf

import stack_cases
from actor_cases import small_qwen3
from recipes.archer.settings.configuration import compose


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By number of workers, rank 0's."""
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"]
    actor = compose([*overrides, "actor_rollout_ref.model.path=m"]).actor_rollout_ref.actor
    settings = OmegaConf.to_container(actor, resolve=True)
    settings |= {"strategy": "fsdp", "recomputed": True, "grad_clip": 1e9}
    found = {}
    for workers in (1, 2):
        folder = tmp_path_factory.mktemp(f"of {workers}")
        arguments = (workers, str(folder / "meeting"), settings, str(folder / "out"))
        multiprocessing.spawn(stack_cases.run, arguments, nprocs=workers)
        found[workers] = torch.load(folder / "out.0")
    return found


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("cut", ["one row", "all"])
def test_a_delayed_exchange_loses_nothing_in_bf16(results, cut):
    """FSDP1's own ``no_sync`` would sum the micro-batches in bf16, 1e-3 off."""
    gradients = results[2]["delayed"]
    assert difference(gradients[cut, True], gradients[cut, False]) < 1e-6


@pytest.mark.parametrize("workers", [1, 2])
def test_log_probabilities_are_fp32_over_bf16_parameters(results, workers):
    found, entropy, expected = results[workers]["log_probs"]
    assert found.dtype == entropy.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.5
    assert not torch.equal(found, found.bfloat16().float())  # not rounded to the parameters' precision


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_the_engine_is_given_every_parameter_by_its_name(results, workers, tied):
    given = results[workers]["loads"][tied]
    expected = small_qwen3(tied).state_dict()
    assert set(given) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value + 1.0)


def test_parameters_stay_whole_until_they_are_given_back(results):
    assert results[2]["whole"] == [2, 0]
