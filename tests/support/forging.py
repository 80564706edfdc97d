"""Checkpoints as somebody would forge them who wants code of theirs to run, and what shows that it ran."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from recipes.archer.checkpoints.host import HostState

NAME = "__0_0.distcp"


class Running:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def state() -> dict:
    """Of a tiny model and its optimizer, as the workers save it: tensors, and values that are none."""
    weight = torch.arange(12.0).reshape(3, 4)
    group = {"lr": 0.5, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None, "params": ["w", "b"]}
    moments = {"w": {"step": torch.tensor(3.0), "exp_avg": weight / 2}}
    model = {"w": weight, "b": torch.ones(2, dtype=torch.bfloat16), "turned": torch.arange(6.0).reshape(2, 3).T}
    return {"model": model, "optimizer": {"state": moments, "param_groups": [group]}}


def empty() -> dict:
    """What :func:`state` is loaded into."""
    made = state()
    for tensor in [*made["model"].values(), *made["optimizer"]["state"]["w"].values()]:
        tensor.zero_()
    made["optimizer"]["param_groups"][0] |= {"lr": 0.0, "betas": (0.0, 0.0), "foreach": True, "params": []}
    return made


def save(folder: Path) -> Path:
    """A checkpoint by torch's own writer."""
    dcp.save(state(), checkpoint_id=str(folder), no_dist=True)
    return folder


def forge(folder: Path, name: str, content: bytes) -> None:
    """Puts other bytes where a tensor or a value lies."""
    with open(folder / NAME, "ab") as file:
        offset = file.tell()
        file.write(content)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    place = next(place for index, place in metadata.storage_data.items() if index.fqn == name)
    place.relative_path, place.offset, place.length = NAME, offset, len(content)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def archive(value: object) -> bytes:
    """As torch saves a value."""
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def legacy(value: object) -> bytes:
    """As torch saved values before it had archives."""
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def script() -> bytes:
    """A TorchScript archive, which torch.load hands on to another loader."""
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.ones(1)), content)
    return _packed(content, zipfile.ZIP_STORED)


def compressed() -> bytes:
    """An archive whose record is a thousandth of what it says it is."""
    return _packed(io.BytesIO(archive(torch.zeros(1 << 20))), zipfile.ZIP_DEFLATED)


def _packed(archive: io.BytesIO, method: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(content, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return content.getvalue()


def save_host(folder: Path, rank: int = 0) -> None:
    """A rank's own state, of this process."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    HostState.of_this_process(torch.optim.lr_scheduler.StepLR(optimizer, 1)).write(folder, rank)
