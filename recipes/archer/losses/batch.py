"""What the losses ask of a batch: tensors by name, in a dict or in a TensorDict."""

from collections.abc import Container
from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """Tensors of (rows, response_length) by name."""

    def __getitem__(self, name: str, /) -> Tensor: ...

    def get(self, name: str, default: Tensor, /) -> Tensor: ...

    def keys(self) -> Container[str]: ...
