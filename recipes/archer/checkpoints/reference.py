"""The reference policy's parameters in a checkpoint, in a folder of their own: only where they are not the model's."""

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from recipes.archer.checkpoints.manifest import REFERENCE, read_manifest
from recipes.archer.checkpoints.pickled import METADATA
from recipes.archer.checkpoints.shards import aliases, read_into


def save_reference(path: str, reference: torch.nn.Module) -> None:
    """Writes this rank's part into the checkpoint's folder ``path``; every rank calls it, as ``save_shards``."""
    parameters = get_model_state_dict(reference)
    for alias in aliases(reference):
        del parameters[alias]
    dcp.save({"model": parameters}, checkpoint_id=Path(path) / REFERENCE)


def load_reference(path: str, reference: torch.nn.Module) -> bool:
    """Reads the reference in force from the finished folder ``path``; every rank calls it.

    Returns:
        Whether there is one; without, the reference stays as it is.

    Raises:
        UserError: it holds anything else than this model's parameters as tensors.
        RuntimeError: it cannot be read for another reason.
    """
    if f"{REFERENCE}/{METADATA}" not in read_manifest(Path(path)).files:  # what only lies there is not ours to read
        return False
    parameters = get_model_state_dict(reference)
    read_into({"model": parameters}, Path(path) / REFERENCE, aliases(reference))
    set_model_state_dict(reference, parameters)
    return True
