"""Reading torch's distributed checkpoint as data: nothing that its files hold is executed.

torch's own reader unpickles ``.metadata`` and every value that is no tensor, and opens whatever file is named there.
"""

import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner
from torch.futures import Future

from recipes.archer.checkpoints.bounded import files_in, open_regular
from recipes.archer.checkpoints.metadata import read_metadata

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIX = ".distcp"
MOST_BYTES = 64 << 20  # of a value that is no tensor: a group's list of parameters is the longest
ARCHIVE_BYTES = 1 << 16  # of an archive, at most, besides its tensor
_ZIP = b"PK\x03\x04"
_CODE = "constants.pkl"  # by which torch knows a TorchScript archive, which it would run
_MOST_DEPTH = 8  # of nested values


class DataReader(FileSystemReader):
    """torch's reader of a checkpoint's folder, for folders whose files nobody vouches for.

    Raises, here and from :meth:`read_data`:
        ValueError: a file holds anything else than tensors and plain values.
        OSError: it is absent or cannot be read.
    """

    def __init__(self, folder: Path):
        super().__init__(str(folder))
        self.folder = Path(folder)
        # here, because torch takes whatever goes wrong in its call for a file of a rank's own that it may look for
        self.metadata = read_metadata(self.folder, tensor_files(self.folder))

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        return self.metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            if (place := self.storage_data.get(item.storage_index)) is None:
                raise ValueError(f"the checkpoint has no place for {item.storage_index.fqn}")
            with open_regular(self.folder / place.relative_path) as file:
                # torch's signatures and zipfile's ask for more than they use of a file
                content = cast(BinaryIO, _Slice(file, place.offset, place.length))
                if item.type == LoadItemType.BYTE_IO:
                    # the planner unpickles what it is given, so it is given a pickle of ours
                    planner.load_bytes(item, _pickled(_value(content, place.length)))
                    continue
                entry = self.metadata.state_dict_metadata[item.storage_index.fqn]
                assert isinstance(entry, TensorStorageMetadata)  # the plan is made of it
                if place.length > entry.size.numel() * entry.properties.dtype.itemsize + ARCHIVE_BYTES:
                    raise ValueError("the checkpoint holds more than a tensor where a tensor should be")
                tensor = _tensor(content, place.length)
            ranges = zip(item.storage_offsets, item.lengths, strict=True)
            target = planner.resolve_tensor(item).detach()
            part = tensor[tuple(slice(start, start + length) for start, length in ranges)]
            if part.size() != target.size():  # copy_ would repeat a single row
                raise ValueError("the checkpoint holds a tensor of another size than its metadata says")
            target.copy_(part)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


class _Slice(io.RawIOBase):
    """A part of a file, as a file; torch's own reads wrongly where a zip archive's end is looked for."""

    def __init__(self, file: io.BufferedReader, offset: int, length: int):
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise OSError("a place before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        wanted = max(0, min(len(view), self._length - self._at))
        self._file.seek(self._offset + self._at)
        number = self._file.readinto(view[:wanted])
        self._at += number
        return number


def tensor_files(folder: Path) -> Mapping[str, int]:
    """Bytes of each file that tensors may lie in."""
    stats = {name: (folder / name).lstat() for name in files_in(folder) if name.endswith(SUFFIX)}
    return {name: found.st_size for name, found in stats.items() if stat.S_ISREG(found.st_mode)}


def _tensor(content: BinaryIO, length: int) -> torch.Tensor:
    tensor = _loaded(content, length)
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ValueError("the checkpoint holds something else where a tensor should be")
    return tensor


def _value(content: BinaryIO, length: int) -> Any:
    if length > MOST_BYTES:
        raise ValueError(f"the checkpoint holds a value of {length} bytes")
    value = _loaded(content, length)
    if not _is_plain(value):
        raise ValueError("the checkpoint holds something else where a plain value should be")
    return value


def _loaded(content: BinaryIO, length: int) -> Any:
    """What torch's restricted unpickler makes of an archive; it admits tensors and plain values.

    torch 2.5.1, which vLLM 0.7 needs, hands TorchScript and tar archives on to loaders that run code, whatever it
    was asked for; and any version allocates what a compressed record says that it is.
    """
    try:
        _check_archive(content, length)
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, zipfile.BadZipFile, EOFError):  # torch's words advise to run the pickle
        raise ValueError("the checkpoint holds what cannot be read as a tensor or a plain value") from None


def _check_archive(content: BinaryIO, length: int) -> None:
    if content.read(len(_ZIP)) != _ZIP:
        raise ValueError("the checkpoint holds something else than an archive of torch's")
    with zipfile.ZipFile(content) as archive:
        entries = archive.infolist()
    stored = all(e.compress_type == zipfile.ZIP_STORED and e.file_size == e.compress_size for e in entries)
    if not stored or sum(entry.file_size for entry in entries) > length:
        raise ValueError("the checkpoint holds a compressed archive, which torch does not write")
    content.seek(0)
    records = torch._C.PyTorchFileReader(content).get_all_records()  # as torch.load sees them
    names = [entry.filename.partition("/")[2] for entry in entries]
    if sorted(names) != sorted(records) or _CODE in records:
        raise ValueError("the checkpoint holds an archive with code, or one that reads in two ways")


def _is_plain(value: Any, depth: int = _MOST_DEPTH) -> bool:
    if type(value) in (list, tuple):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if type(value) is dict:
        return depth > 0 and all(type(k) is str and _is_plain(v, depth - 1) for k, v in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _pickled(value: Any) -> io.BytesIO:
    content = io.BytesIO()
    torch.save(value, content)
    content.seek(0)
    return content
