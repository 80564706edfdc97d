"""Temporary folders that belong to a process, and what is left of them when it was killed."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_folder(prefix: str, parent: Path) -> Iterator[Path]:
    """A folder that is gone afterwards; and with it what killed processes have left under this prefix.

    Args:
        prefix: of its name; the number of this process follows.
        parent: folder that it is made in.

    Raises:
        OSError: it cannot be made.
    """
    remove_leftovers(prefix, parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    held = None
    with suppress(OSError):  # a file system without locks: then it is never taken for left over
        held = hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def remove_leftovers(prefix: str, parent: Path) -> None:
    """Removes the folders of :func:`leftovers`."""
    for folder in leftovers(prefix, parent):
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(prefix: str, parent: Path) -> Iterator[Path]:
    """This user's folders ``PREFIX<process>-...`` whose process is gone, each locked until the next is asked for.

    A process number alone says little: containers that share /tmp each count their own.
    """
    for folder in parent.glob(f"{prefix}*"):
        process = folder.name.removeprefix(prefix).split("-")[0]
        if not process.isdigit() or Path(f"/proc/{process}").exists():
            continue
        try:
            held = hold(folder)
        except OSError:
            continue
        try:
            yield folder
        finally:
            os.close(held)


def hold(folder: Path) -> int:
    """An open descriptor with a lock on the folder, for as long as this process lives.

    Raises:
        OSError: it is no folder, or another user's, or held already. What else has such a name, a link or a pipe, is
            neither followed nor waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "another user's", str(folder))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
