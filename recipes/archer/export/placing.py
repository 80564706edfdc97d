"""A folder that appears whole or not at all, and takes nobody else's place."""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from recipes.archer.checkpoints.manifest import flush
from recipes.archer.ending import DiskFullError, UserError
from recipes.archer.files import is_full, refuse_link

# of a model folder; what holds anything else is not replaced, whatever it is told
_OF_A_MODEL = re.compile(
    r"[\w.-]+\.(json|safetensors|txt|md|model|jinja)|LICENSE(\.[\w.-]+)?|\.gitattributes", re.ASCII
)
_SETTINGS, _WEIGHTS = "config.json", ".safetensors"  # without these a folder is no model, whatever else it holds
_TRIES = 3  # at a lock that another process may just be removing


@contextmanager
def written_beside(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to write into, which becomes ``out`` when the block ends well and is removed otherwise.

    It is ``.OUT.archer-partial/new``. One process at a time writes there.

    Args:
        overwrite: whether a model that is there is replaced; it stays until the new one is whole.

    Raises:
        UserError: ``out`` is not empty, is a link, holds other things than a model, or cannot be written; another
            process is writing it.
        DiskFullError: the disk is full.
    """
    named = Path(os.path.abspath(out))  # "." has no name
    beside = named.with_name(f".{named.name}.archer-partial")
    new, earlier = beside / "new", beside / "earlier"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _held(beside, out):
            try:
                _mend(named, new, earlier)
                check_place(out, overwrite)
                new.mkdir()
                yield new
                _publish(named, new, earlier)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise unwritable(out, error) from None


def check_place(out: Path, overwrite: bool) -> None:
    """Whether a model may be written to ``out``.

    Raises:
        UserError: as :func:`written_beside`.
    """
    try:
        if out.is_symlink():
            raise UserError(f"{out} is a link: name the folder itself")
        if not out.exists():
            return
        if not out.is_dir():
            raise UserError(f"{out} is a file: name a folder")
        entries = sorted(os.scandir(out), key=lambda entry: entry.name)
        if entries and not overwrite:
            raise UserError(f"{out} is not empty: name another folder, or replace the model in it with --overwrite")
        if other := next((entry.name for entry in entries if not _is_of_a_model(entry)), None):
            raise UserError(f"{out} holds {other!a:.80}, which is no file of a model: name another folder")
        names = {entry.name for entry in entries}
        if entries and not (_SETTINGS in names and any(name.endswith(_WEIGHTS) for name in names)):
            raise UserError(f"{out} holds no model ({_SETTINGS} and *{_WEIGHTS}): name another folder")
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise unwritable(out, error) from None


def unwritable(out: Path, error: Exception) -> UserError:
    """What to say of a folder that a disk does not take."""
    if is_full(error):
        return full(out)
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return UserError(f"{out} cannot be written ({reason}): name another folder")


def full(out: Path) -> DiskFullError:
    """What to say of a disk without room."""
    return DiskFullError(f"{out}: the disk is full, nothing was exported; make room, or name a folder on another disk")


@contextmanager
def _held(beside: Path, out: Path) -> Iterator[None]:
    """The folder beside ``out``, for one process; it is gone afterwards unless an earlier model is still in it."""
    lock = beside / "lock"
    refuse_link(beside, folder=True)
    held = next((held for _ in range(_TRIES) if (held := _lock(lock)) is not None), None)
    if held is None:
        raise UserError(f"{out}: another process is exporting into it; wait for it to end, or name another folder")
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
            beside.rmdir()
        os.close(held)


def _lock(lock: Path) -> int | None:
    """The open lock, which ends with its process however that ends; None where another process has it, or had it until
    just now."""
    lock.parent.mkdir(exist_ok=True)
    held = None
    try:
        # to be written, as file systems of a network want it for a lock
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with _where_there_are_locks():
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), os.lstat(lock)):
            return held
    except (BlockingIOError, FileNotFoundError):  # held; removed after it was opened
        pass
    except BaseException:
        if held is not None:
            os.close(held)
        raise
    if held is not None:
        os.close(held)
    return None


@contextmanager
def _where_there_are_locks() -> Iterator[None]:
    """On a file system without them whoever starts two exports at once has to know."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def _publish(out: Path, new: Path, earlier: Path) -> None:
    for path in (*new.iterdir(), new):
        flush(path)
    replaced = out.exists() and any(out.iterdir())
    if replaced:
        os.replace(out, earlier)
    try:
        os.replace(new, out)
    except BaseException:
        if replaced:
            os.replace(earlier, out)
        raise
    flush(out.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _mend(out: Path, new: Path, earlier: Path) -> None:
    """Ends what an export that was killed left half done."""
    shutil.rmtree(new, ignore_errors=True)
    there = earlier.is_dir() and not earlier.is_symlink()
    if there and not (out.is_symlink() or (out.exists() and not _is_empty(out))):
        os.replace(earlier, out)
    shutil.rmtree(earlier, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _is_of_a_model(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and _OF_A_MODEL.fullmatch(entry.name) is not None
