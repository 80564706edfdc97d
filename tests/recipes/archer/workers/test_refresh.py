"""The reference brought up to the policy: by one worker and by two, by FSDP of either version, and in a checkpoint.

The work is done by two processes, once, most of whose time are imports; the tests look at what they found.
"""

import pytest
import torch
import torch.multiprocessing as multiprocessing

import refreshing
from recipes.archer.checkpoints.manifest import read_manifest
from recipes.archer.workers.refresh import refresh

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refresh")
    multiprocessing.spawn(refreshing.run, (str(folder),), nprocs=2)
    return [torch.load(folder / f"results.{rank}", weights_only=True) for rank in range(2)], folder


@pytest.mark.parametrize("way", refreshing.WAYS)
@pytest.mark.parametrize("mix", refreshing.MIXES)
def test_it_is_the_mixture_whatever_the_wrapping_and_the_number_of_workers(results, way, mix):
    expected = refreshing.mixture(mix)
    found = [results[0][0][workers, way, mix] for workers in (1, 2)] + [results[0][1][2, way, mix]]
    for parameters in found:
        assert (
            parameters.keys() == expected.keys() and len(expected) == 7
        )  # the tied weight under both its names, and a buffer
        for name, value in expected.items():
            assert torch.equal(parameters[name], value), name


def test_the_policy_is_left_alone(results):
    for result in results[0]:
        assert result["policy"]


def test_a_checkpoint_has_the_reference_in_force_and_is_of_the_format_that_says_so(results):
    found, folder = results
    for parameters in (found[0]["read by two"], found[1]["read by two"], found[0]["read by one"]):
        for name, value in refreshing.mixture(0.25).items():
            assert torch.equal(parameters[name], value), name
    assert read_manifest(folder / "with").layout == 3


def test_without_one_nothing_is_written_and_nothing_read(results):
    found, folder = results
    manifest = read_manifest(folder / "without")
    assert manifest.layout == 2 and not [name for name in manifest.files if name.startswith("reference")]
    assert found[0]["there was none"] is True


def test_a_reference_of_another_dtype_is_rounded_once():
    torch.manual_seed(1)
    policy, reference = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5).bfloat16()
    expected = torch.lerp(reference.weight.float(), policy.weight, 0.25).bfloat16()
    refresh(policy, reference, 0.25)
    assert torch.equal(reference.weight, expected)
    refresh(policy, reference, 1.0)
    assert torch.equal(reference.weight, policy.weight.bfloat16())
