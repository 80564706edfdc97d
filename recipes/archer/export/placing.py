"""A folder that appears whole or not at all, and takes nobody else's place."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from recipes.archer.checkpoints.manifest import flush
from recipes.archer.ending import DiskFullError, UserError
from recipes.archer.files import is_full

# of a model folder; what holds anything else is not replaced, whatever it is told
_OF_A_MODEL = re.compile(
    r"[\w.-]+\.(json|safetensors|txt|md|model|jinja)|LICENSE(\.[\w.-]+)?|\.gitattributes", re.ASCII
)


@contextmanager
def written_beside(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to write into, which becomes ``out`` when the block ends well and is removed otherwise.

    Args:
        overwrite: whether a model that is there is replaced; it stays until the new one is whole.

    Raises:
        UserError: ``out`` is not empty, is a link, holds other things than a model, or cannot be written.
        DiskFullError: the disk is full.
    """
    partial, earlier = (out.with_name(f".{out.name}.archer-{kind}") for kind in ("partial", "earlier"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _mend(out, partial, earlier)
        check_place(out, overwrite)
        partial.mkdir()
        try:
            yield partial
            _publish(out, partial, earlier)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise unwritable(out, error) from None


def check_place(out: Path, overwrite: bool) -> None:
    """Whether a model may be written to ``out``.

    Raises:
        UserError: as :func:`written_beside`.
    """
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


def unwritable(out: Path, error: Exception) -> UserError:
    """What to say of a folder that a disk does not take."""
    if is_full(error):
        return full(out)
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return UserError(f"{out} cannot be written ({reason}): name another folder")


def full(out: Path) -> DiskFullError:
    """What to say of a disk without room."""
    return DiskFullError(f"{out}: the disk is full, nothing was exported; make room, or name a folder on another disk")


def _publish(out: Path, partial: Path, earlier: Path) -> None:
    for path in (*partial.iterdir(), partial):
        flush(path)
    if out.exists() and any(out.iterdir()):
        os.replace(out, earlier)
    os.replace(partial, out)
    flush(out.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _mend(out: Path, partial: Path, earlier: Path) -> None:
    """Ends what an export that was killed left half done."""
    shutil.rmtree(partial, ignore_errors=True)
    if earlier.is_dir() and not out.exists():
        os.replace(earlier, out)
    shutil.rmtree(earlier, ignore_errors=True)


def _is_of_a_model(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and _OF_A_MODEL.fullmatch(entry.name) is not None
