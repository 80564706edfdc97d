"""Reading what others may have written: regular files only, through no link, up to a size; JSON as plain data."""

import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_FILES = 100_000  # in a checkpoint's folder
MOST_DEPTH = 8  # of folders in it
MOST_SHOWN = 80  # characters of a name that is quoted


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file for reading; never waits for a pipe's other end.

    Raises:
        ValueError: it is a link, or no regular file.
        OSError: it is absent or cannot be read.
    """
    if path.is_symlink():
        raise ValueError(f"{path.name} is a link")
    # the flag holds where the file is replaced by a link in between
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path.name} is no regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """A file's content.

    Raises:
        ValueError: it is a link, no regular file, or has more than ``most`` bytes.
        OSError: it is absent or cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path.name} has more than {most} bytes")
    return content


def read_json(path: Path, most: int) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: as :func:`read_bytes`; or it is no JSON, no object, or nested too deeply.
        OSError: it is absent or cannot be read.
    """
    content = read_bytes(path, most)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # also text that is not UTF-8, and numbers of thousands of digits
        raise ValueError(f"{path.name} is damaged") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value


def is_plain_name(name: object) -> bool:
    """Whether a text names a file below a folder: relative, without ``..``, and fit to be printed."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name:
        return False
    parts = name.split("/")
    return len(parts) <= MOST_DEPTH and all(0 < len(p.encode()) <= 255 and p not in (".", "..") for p in parts)


def files_in(folder: Path) -> Iterator[str]:
    """Names, relative to the folder, of all regular files below it; no link is followed.

    Raises:
        ValueError: there is a link, something that is neither file nor folder, an odd name, or far too much.
        OSError: a folder cannot be read.
    """
    waiting, number = [""], 0
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name, number = f"{prefix}{entry.name}", number + 1
                if number > MOST_FILES:
                    raise ValueError(f"there are more than {MOST_FILES} files in it")
                if not is_plain_name(name):
                    raise ValueError(f"there is a file of an odd name in it, {shown(name)}")
                if entry.is_symlink():
                    raise ValueError(f"{name} is a link")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name
                else:
                    raise ValueError(f"{name} is no regular file")


def shown(text: str) -> str:
    """A stranger's text, short and in ASCII, to be quoted in a message."""
    return ascii(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}...")
