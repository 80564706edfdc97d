"""A checkpoint's parameters, read by one process, whatever the number of workers that wrote them."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from recipes.archer.checkpoints.reader import DataReader
from recipes.archer.ending import UserError

HEAD = "lm_head.weight"
OWN = "model_config"  # the checkpoint's folder of settings and tokenizer
_PART = "model"  # of what a worker saves; beside it is the optimizer
_PREFIX = f"{_PART}."
_NAME = re.compile(r"[\w.-]{1,255}", re.ASCII)
_ADAPTER = re.compile(r"(^|\.)(lora_|base_model\.)")


@dataclass(frozen=True)
class Spec:
    """A parameter as it was saved."""

    shape: torch.Size
    dtype: torch.dtype


class ModelTensors(Mapping[str, Spec]):
    """The parameters in a checkpoint's folder by the names that the model gives them; :meth:`read` has the values.

    Args:
        folder: of a whole checkpoint, whose files were compared with its manifest.

    Raises:
        UserError: it holds no whole model: an adapter, or what cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self._reader = DataReader(folder)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        entries = self._reader.metadata.state_dict_metadata
        own = {name.removeprefix(_PREFIX): entry for name, entry in entries.items() if name.startswith(_PREFIX)}
        self._specs = {name: self._spec(name, entry) for name, entry in own.items()}
        if not self._specs:
            raise UserError(f"checkpoint {folder} holds no parameters of a model")
        if adapter := next((name for name in self._specs if _ADAPTER.search(name)), None):
            raise UserError(
                f"checkpoint {folder} holds a LoRA adapter ({adapter}), which is not merged here: "
                "merge it with the tool that trained it"
            )

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    @property
    def dtype(self) -> torch.dtype:
        """In which most of the parameters were saved."""
        sizes: dict[torch.dtype, int] = {}
        for spec in self.values():
            sizes[spec.dtype] = sizes.get(spec.dtype, 0) + math.prod(spec.shape)
        return max(sizes, key=lambda dtype: sizes[dtype])

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A parameter's values, contiguous and of its own storage.

        Args:
            dtype: what floating-point values are rounded to; None: as saved.

        Raises:
            UserError: they cannot be read.
        """
        spec = self[name]
        # zeros: what a forged list of places leaves out must not be this process's memory
        state: dict[str, Any] = {_PART: {name: torch.zeros(spec.shape, dtype=spec.dtype)}}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is no process group, as is meant
                dcp.load(state, storage_reader=self._reader)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        except CheckpointException as error:  # no Exception
            raise self._unreadable(next(iter(error.failures.values()))[0]) from None
        values: torch.Tensor = state[_PART][name]
        return values.to(dtype) if dtype is not None and values.is_floating_point() else values

    def _spec(self, name: str, entry: object) -> Spec:
        if not (isinstance(entry, TensorStorageMetadata) and _NAME.fullmatch(name)):
            raise UserError(f"checkpoint {self.folder} holds {name!a:.80} in its model, which is no parameter")
        if sum(math.prod(chunk.sizes) for chunk in entry.chunks) != math.prod(entry.size):
            raise UserError(f"checkpoint {self.folder} holds only a part of {name}")
        return Spec(entry.size, entry.properties.dtype)

    def _unreadable(self, error: BaseException) -> UserError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return UserError(f"checkpoint {self.folder} cannot be read: {reason!a:.200}")


def without_tied(tensors: ModelTensors, config: Mapping[str, Any]) -> list[str]:
    """Names of the parameters to write: a head that is the embedding is left out, as loaders expect it.

    Args:
        config: the model's config.json; where it does not speak of tied embeddings they are, as for transformers.

    Raises:
        UserError: the head is tied by config.json, and has values of its own.
    """
    names = list(tensors)
    if HEAD not in tensors or not config.get("tie_word_embeddings", True):
        return names
    head = tensors.read(HEAD)
    alike = (name for name in names if name != HEAD and tensors[name] == tensors[HEAD])
    if not any(same_bits(tensors.read(name), head) for name in alike):
        raise UserError(
            f"checkpoint {tensors.folder}: config.json ties {HEAD} to the embeddings, which have other values; "
            "a loader would lose one of them"
        )
    return [name for name in names if name != HEAD]


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits; a NaN equals itself."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
