"""Writing files so that nobody ever sees half of one, and nothing is written through a link."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from recipes.archer.ending import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FOREIGN_FULL = re.compile(rf"\(os error ({'|'.join(map(str, _FULL))})\)")  # as writers in Rust say it


class LinkError(UserError):
    """Where a file is to be written lies a link, or something else that is no file: whoever put it there chose what
    would be overwritten."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file's content so that a reader, or a crash, sees the old or the new one.

    Raises:
        LinkError: the path is a link, a folder or a device.
        OSError: the disk is full, or the folder may not be written to.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when the block ends, and is gone when it fails.

    It is made at once, so that a path that cannot be written is found out before there is anything to write.

    Raises:
        LinkError, OSError: as :func:`write_atomically`.
    """
    refuse_link(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process of this number; a link goes, what it leads to stays
    try:
        with open(temporary, "xb") as file:  # x: not through a link that appears meanwhile
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk, or one's share of it, is full; safetensors' and the tokenizers' included."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return _FOREIGN_FULL.search(str(error)) is not None


def refuse_link(path: Path, folder: bool = False) -> None:
    """Raises unless the path is free, or already a file (``folder``: a folder) that is no link.

    Raises:
        LinkError: it is not.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise LinkError(f"{path} is {kind}, and nothing is written through it: remove it, or name another place")


def open_to_append(path: Path) -> FileIO:
    """A file, made if absent, to append to without a buffer: what the disk did not take is known to the byte.

    Raises:
        LinkError: the path is a link, a folder or a device.
    """
    refuse_link(path)
    return open(path, "ab", buffering=0, opener=through_no_link)


def through_no_link(path: str, flags: int) -> int:
    """What :func:`open` takes as its ``opener`` where a link must not be followed."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LinkError(f"{path} is a link, and nothing is written through it: remove it") from None
        raise
