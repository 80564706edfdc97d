"""A checkpoint read and judged: its files are those of its manifest, and hold what this code writes, or it is refused.

Whoever wrote it, nothing in it is executed; docs/reliability.md says what a stranger's checkpoint can do.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.checkpoints.bounded import read_json
from recipes.archer.checkpoints.manifest import (
    MANIFEST,
    Manifest,
    old_refused,
    problem_of,
    read_manifest,
    stranger_in,
)
from recipes.archer.checkpoints.pickled import METADATA
from recipes.archer.ending import UserError

STATE = "state.json"
MOST_BYTES = 64 << 20  # of the state
_HOST = re.compile(r"host_(0|[1-9]\d{0,6})\.(?:json|safetensors)", re.ASCII)
_OF_WORKERS = re.compile(r"host_.*|.*\.distcp", re.DOTALL)
_MAPPINGS = ("identity", "stream", "guard", "row", "entropy_control")  # of what the state may have


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        step: its step.
        state: the trainer's state in it.
        is_old: whether its format is an earlier one.
        fresh_optimizer: whether who continues it leaves the optimizer's moments out.
    """

    path: Path
    step: int
    state: dict[str, Any]
    is_old: bool = False
    fresh_optimizer: bool = False


def read(path: Path, trust_old: bool = False) -> Checkpoint:
    """The checkpoint in a folder.

    Args:
        trust_old: whether it may be of an earlier format.

    Raises:
        ValueError: it is not whole; the message says what is missing or damaged.
        UserError: another version of this code wrote it, or it has files that its manifest does not list; passed
            over, an older one would be continued, and this one removed at the next save.
    """
    manifest = read_manifest(path)
    if manifest.is_old and not trust_old:
        raise old_refused(path)
    if STATE not in manifest.files:
        raise ValueError(f"{MANIFEST} does not list {STATE}")
    if stranger := stranger_in(path, manifest.files):
        raise UserError(f"checkpoint {path}: {stranger}; move out of the folder what does not belong to it")
    if (problem := problem_of(path)) is not None:
        raise ValueError(problem)
    state = read_json(path / STATE, MOST_BYTES)
    if wrong := next((name for name in _MAPPINGS if not isinstance(state.get(name), dict | None)), None):
        raise ValueError(f"{STATE}: {wrong} is no JSON object")
    if type(step := state.get("step")) is not int or step < 0:
        raise ValueError(f"{STATE}: step is no number of a step")
    _check_content(path, manifest)
    return Checkpoint(path, step, state, manifest.is_old)


def _check_content(path: Path, manifest: Manifest) -> None:
    """Whether what the workers will read is what they write; it would be a pity to start them only to hear it.

    Raises:
        ValueError: it is not.
    """
    if not any(name == METADATA or _OF_WORKERS.fullmatch(name) for name in manifest.files):
        return  # the workers will say that they need more
    # not above: these load torch
    from recipes.archer.checkpoints.host import HostState
    from recipes.archer.checkpoints.metadata import read_metadata
    from recipes.archer.checkpoints.reader import tensor_files

    try:
        read_metadata(path, tensor_files(path))
        for rank in {0} | {int(match[1]) for name in manifest.files if (match := _HOST.fullmatch(name))}:
            if not manifest.is_old:
                HostState.read(path, rank)
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from None
    except OSError as error:
        raise ValueError(f"{Path(error.filename or path).name} cannot be read ({error.strerror})") from None


def state_in(path: Path) -> dict[str, Any]:
    """The trainer's state in a checkpoint's folder; empty where there is none to read."""
    try:
        return read_json(path / STATE, MOST_BYTES)
    except (OSError, ValueError):
        return {}
