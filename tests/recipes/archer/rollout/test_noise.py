"""The random numbers of responses: SplitMix64's, uniform, and independent of each other over positions and seeds."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from recipes.archer.rollout.noise import uniforms

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15
STREAMS = ["one response", "one position, neighbouring seeds", "both"]


def mixed(bits: int) -> int:
    """SplitMix64's mixing in Python's own integers, which do not overflow."""
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % WORD
    return bits ^ (bits >> 31)


def numbers(seeds, positions) -> np.ndarray:
    seeds, positions = torch.broadcast_tensors(torch.as_tensor(seeds), torch.as_tensor(positions))
    return uniforms(seeds.flatten(), positions.flatten()).numpy()


def stream(which: str, count: int = 40_000) -> np.ndarray:
    """Numbers in an order in which a poor hash of two integers would show a pattern."""
    if which == "one response":
        return numbers(7, torch.arange(count))
    if which == "one position, neighbouring seeds":
        return numbers(torch.arange(count), 3)
    return numbers(torch.arange(200)[:, None], torch.arange(count // 200))


def test_the_mixing_written_out_gives_splitmix64s_published_numbers():
    """The first outputs of its reference implementation, seeded with 1234567."""
    assert [mixed((1234567 + k * GAMMA) % WORD) for k in (1, 2)] == [6457827717110365317, 3203168211198807973]


def test_the_numbers_are_those_of_integers_that_do_not_overflow():
    random = np.random.default_rng(0)
    seeds = [0, 1, 2**31 - 1, 2**63 - 1, -1, *random.integers(-(2**63), 2**63 - 1, 500).tolist()]
    positions = [0, 1, 32_767, 2**40, 0, *random.integers(0, 32_768, 500).tolist()]
    written_out = [
        (mixed((mixed(seed % WORD) + (k + 1) * GAMMA) % WORD) >> 11) / 2**53
        for seed, k in zip(seeds, positions, strict=True)
    ]
    assert numbers(seeds, positions).tolist() == written_out


@pytest.mark.parametrize("which", STREAMS)
def test_numbers_are_uniform(which):
    counts, _ = np.histogram(stream(which), bins=200, range=(0, 1))
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 7])
@pytest.mark.parametrize("which", STREAMS)
def test_a_number_says_nothing_about_one_near_it(which, lag):
    """Pairs fill the unit square evenly: of two positions of a response, or of two responses."""
    values = stream(which)
    pairs, _, _ = np.histogram2d(values[:-lag], values[lag:], bins=20, range=[(0, 1), (0, 1)])
    assert chisquare(pairs.ravel()).pvalue > 1e-3


def test_streams_of_neighbouring_seeds_do_not_overlap():
    """A response is not another one's, some tokens later."""
    values = numbers(torch.arange(64)[:, None], torch.arange(2_000))
    assert len(np.unique(values)) == values.size


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_gpu_gives_the_same_numbers():
    seeds, positions = torch.randint(2**31, (4096,)), torch.randint(32_768, (4096,))
    assert torch.equal(uniforms(seeds.cuda(), positions.cuda()).cpu(), uniforms(seeds, positions))
