"""How the GPUs of a machine are shared out among trials."""

import pytest

from recipes.archer.ending import UserError
from recipes.archer.search.executors import gpu_groups


@pytest.mark.parametrize(
    ("number", "named", "found", "groups"),
    [
        (2, None, 4, [["0", "1"], ["2", "3"]]),
        (2, "3,1", 8, [["3"], ["1"]]),
        (1, "GPU-a, GPU-b", 0, [["GPU-a", "GPU-b"]]),
    ],
)
def test_groups_of_gpus(number, named, found, groups):
    assert gpu_groups(number, {"CUDA_VISIBLE_DEVICES": named} if named else {}, found) == groups


@pytest.mark.parametrize(("number", "found"), [(2, 0), (3, 4), (5, 4)])
def test_gpus_that_cannot_be_shared_out(number, found):
    with pytest.raises(UserError, match=f"cut into {number} groups"):
        gpu_groups(number, {}, found)
