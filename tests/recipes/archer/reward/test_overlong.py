"""The overlong penalty at its corners, and what counts as cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.archer.reward.overlong import overlong_filter_mask, overlong_penalty


def test_zero_up_to_the_buffer_then_linear_to_the_factor():
    lengths = torch.tensor([0, 1, 3840, 3841, 3968, 4095, 4096, 5000])
    penalty = overlong_penalty(lengths, 4096, 256, 2.0)
    expected = [0, 0, 0, -2 / 256, -1.0, -2 * 255 / 256, -2.0, -2.0]
    assert penalty.dtype == torch.float32 and penalty.tolist() == expected


@settings(deadline=None)
@given(
    length=st.integers(0, 40_000),
    maximum=st.integers(1, 32_768),
    share=st.floats(0, 1),
    factor=st.floats(0, 100),
)
def test_the_definition(length, maximum, share, factor):
    buffer = int(share * maximum)
    penalty = overlong_penalty(torch.tensor([length]), maximum, buffer, factor).item()
    expected = max(-1.0, min(0.0, (maximum - buffer - length) / buffer)) * factor if buffer else 0.0
    assert penalty == pytest.approx(expected, rel=1e-5, abs=1e-6)  # float32
    assert -factor <= penalty * (1 - 1e-6) <= 0


def test_a_buffer_of_zero_switches_it_off_also_at_the_cap():
    assert overlong_penalty(torch.tensor([10, 4096, 9999]), 4096, 0, 1.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(0,), (), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
def test_shape_is_kept_for_any_dtype(shape, dtype):
    assert overlong_penalty(torch.full(shape, 100, dtype=dtype), 100, 10, 1.0).shape == shape


@pytest.mark.parametrize(
    "values, named",
    [
        ((0, 0, 1.0), "max_response_length is 0"),
        ((100, -1, 1.0), "reward.overlong_buffer_len is -1"),
        ((100, 101, 1.0), "reward.overlong_buffer_len is 101"),
        ((100, 10, -1.0), "reward.overlong_penalty_factor is -1"),
        ((100, 10, math.nan), "reward.overlong_penalty_factor is nan"),
    ],
)
def test_impossible_settings_are_refused_by_name(values, named):
    with pytest.raises(ValueError, match=named):
        overlong_penalty(torch.tensor([5]), *values)


def test_cut_rows_are_those_at_the_cap_that_did_not_end():
    lengths = torch.tensor([0, 99, 100, 100, 101])
    ended = torch.tensor([0, 1, 1, 0, 0])
    assert overlong_filter_mask(lengths, 100, ended).tolist() == [False, False, False, True, True]
