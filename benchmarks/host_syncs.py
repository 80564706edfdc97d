"""How often the host waits for the device: counted on a GPU, and told from the operations where there is none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
WAITS = {  # what hands a value, or a size that depends on values, to the host
    ATEN._local_scalar_dense.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN.equal.default,
    ATEN._unique2.default,
    ATEN.unique_dim.default,
}


class HostSyncs(TorchDispatchMode):
    """Counts the operations for which the host would wait on a GPU; copies between the two are not seen."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func in (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.number += func in WAITS or by_mask
        return func(*args, **(kwargs or {}))


@contextmanager
def host_syncs(device: str) -> Iterator[list[int]]:
    """Counts inside the block; the list holds the number afterwards."""
    found: list[int] = []
    if device == "cpu":
        with HostSyncs() as mode:
            yield found
        found.append(mode.number)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found.append(sum("called a synchronizing" in str(warning.message) for warning in caught))
