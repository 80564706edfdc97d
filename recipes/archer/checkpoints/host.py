"""State that is each rank's own: the schedule and the random generators, as tensors and JSON.

``host_<rank>.safetensors`` has the generators' words, ``host_<rank>.json`` the rest.  Neither can hold more than data.
"""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.optim.lr_scheduler import LRScheduler

from recipes.archer.checkpoints.bounded import read_bytes, read_json

MOST_BYTES = 1 << 20  # of either file; 20 KiB are usual
_WORDS = 624  # of a Mersenne twister
_PYTHON = 3  # version of its generator's state
_SHAPES = {  # name: (dtype, elements; None: the device decides)
    "torch": (torch.uint8, None),
    "device": (torch.uint8, None),
    "numpy": (torch.int64, _WORDS),
    "python": (torch.int64, _WORDS + 1),  # and its position
}


@dataclass(frozen=True)
class HostState:
    """What one rank saves of its own.

    Attributes:
        schedule: ``state_dict`` of the learning-rate schedule, as JSON has it.
        generators: words of the random generators of torch, the device, numpy and Python.
        facts: what else numpy's and Python's generators have.
    """

    schedule: dict[str, Any]
    generators: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @classmethod
    def of_this_process(cls, scheduler: LRScheduler) -> "HostState":
        """Of a schedule and of this process's generators."""
        state = np.random.get_state(legacy=True)
        assert isinstance(state, tuple)  # a Mersenne twister's
        _, words, position, has_gauss, gauss = state
        version, numbers, gauss_next = random.getstate()
        assert version == _PYTHON
        generators = {
            "torch": torch.get_rng_state(),
            "device": _device().get_rng_state(),
            "numpy": _int64(words),
            "python": _int64(numbers),
        }
        facts = {"position": int(position), "has_gauss": int(has_gauss), "gauss": float(gauss)}
        return cls(scheduler.state_dict(), generators, {"numpy": facts, "python": {"gauss_next": gauss_next}})

    def write(self, folder: Path, rank: int) -> None:
        """Writes both files, flushed to the disk.

        Raises:
            OSError: the disk refuses.
            TypeError: the schedule has something that is no JSON.
        """
        text = json.dumps({"schedule": self.schedule, "generators": self.facts}, indent=1)
        _write(folder / f"host_{rank}.json", text.encode())
        _write(folder / f"host_{rank}.safetensors", save(self.generators))

    @classmethod
    def read(cls, folder: Path, rank: int) -> "HostState":
        """Reads both files.

        Raises:
            ValueError: one of them does not hold what :meth:`write` writes.
            OSError: one of them is absent or cannot be read.
        """
        name = f"host_{rank}.json"
        content = read_json(folder / name, MOST_BYTES)
        schedule, facts = content.get("schedule"), content.get("generators")
        if not (isinstance(schedule, dict) and _are_facts(facts)):
            raise ValueError(f"{name} has no schedule, or no state of the generators")
        return cls(schedule, _generators(folder / f"host_{rank}.safetensors"), facts)

    @classmethod
    def read_old(cls, folder: Path, rank: int) -> "HostState":
        """Reads ``host_<rank>.pt`` of format 1, which runs what is in it."""
        state = torch.load(folder / f"host_{rank}.pt", weights_only=False)  # numpy and Python state in it
        _, words, position, has_gauss, gauss = state["numpy"]
        _, numbers, gauss_next = state["python"]
        generators = {"torch": state["torch"], "device": state["device"], "numpy": _int64(words)}
        facts = {"position": position, "has_gauss": has_gauss, "gauss": gauss}
        return cls(
            state["scheduler"],
            generators | {"python": _int64(numbers)},
            {"numpy": facts, "python": {"gauss_next": gauss_next}},
        )

    def set_schedule(self, scheduler: LRScheduler) -> None:
        """Gives a schedule the state that was saved; what another version of torch calls otherwise stays as it is.

        Raises:
            ValueError: a part of it is of another kind.
        """
        own = scheduler.state_dict()
        saved = {name: self.schedule.get(name, value) for name, value in own.items()}
        if wrong := next((name for name, value in own.items() if not _is_like(value, saved[name])), None):
            raise ValueError(f"the schedule's {wrong} is of another kind")
        scheduler.load_state_dict(saved)

    def set_generators(self) -> None:
        """Gives this process's random generators the states that were saved.

        Raises:
            ValueError: torch does not take its own or the device's.
        """
        numpy, python = self.facts["numpy"], self.facts["python"]
        try:
            torch.set_rng_state(self.generators["torch"])
            _device().set_rng_state(self.generators["device"])
        except RuntimeError as error:
            raise ValueError(f"a generator of torch does not take its state ({str(error).splitlines()[0]})") from None
        words = self.generators["numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", words, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        random.setstate((_PYTHON, tuple(self.generators["python"].tolist()), python["gauss_next"]))


def _device() -> Any:
    from verl.utils.device import get_torch_device  # not above: who only reads needs no verl, which takes seconds

    return get_torch_device()


def _int64(numbers: Sequence[int] | NDArray[np.uint32]) -> torch.Tensor:
    return torch.from_numpy(np.array(numbers, dtype=np.int64))


def _are_facts(facts: object) -> TypeGuard[dict[str, Any]]:
    """numpy does not check a position, and would read beyond the words."""
    match facts:
        case {
            "numpy": {"position": int(position), "has_gauss": 0 | 1, "gauss": float()},
            "python": {"gauss_next": None | float()},
        }:
            return 0 <= position <= _WORDS
    return False


def _is_like(own: object, saved: object) -> bool:
    """Whether a value of a schedule's state can stand where another stands; a number is a number."""
    if isinstance(own, list) and isinstance(saved, list):
        return len(own) == len(saved) and all(map(_is_like, own, saved))
    if isinstance(own, int | float) and not isinstance(own, bool):
        return isinstance(saved, int | float) and not isinstance(saved, bool)
    return type(own) is type(saved) or own is None or saved is None


def _generators(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = load(read_bytes(path, MOST_BYTES))
    except SafetensorError:
        raise ValueError(f"{path.name} is damaged") from None
    if found.keys() != _SHAPES.keys():
        raise ValueError(f"{path.name} does not hold {', '.join(_SHAPES)}")
    for name, (dtype, elements) in _SHAPES.items():
        tensor = found[name]
        if tensor.dtype != dtype or tensor.dim() != 1 or elements not in (None, len(tensor)):
            raise ValueError(f"{path.name}: {name} is not the state of a generator")
    *words, position = found["python"].tolist()
    if not (0 <= position <= _WORDS and all(0 <= word < 1 << 32 for word in [*words, *found["numpy"].tolist()])):
        raise ValueError(f"{path.name}: words of a generator are out of range")
    return found


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
