"""Opens regular files only, no more of them than a cap, and through no link that leaves a folder where one is given."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from recipes.archer.ending import UserError

LIMIT = "ARCHER_MAX_FILE_MIB"  # the environment's word for the most that any file may have
DOCUMENT, TABLE = 64 << 20, 4 << 30  # bytes that are read of a file of one value, and of one of many rows
_BLOCK = 1 << 20


class UnreadableError(UserError):
    """A file that cannot be used.

    Attributes:
        reason: what is wrong with it, without its name.
        absent: whether there is no such file.
    """

    def __init__(self, where: object, reason: str, *, absent: bool = False):
        super().__init__(f"{where}: {reason}")
        self.reason, self.absent = reason, absent


class DamagedError(UnreadableError):
    """A file whose content is not what it should be.

    Attributes:
        line: in which line of the text that was read, from 1.
        too_deep: whether it is nested too deep, which no torn file is by chance.
    """

    def __init__(self, where: object, reason: str, *, line: int = 1, too_deep: bool = False):
        super().__init__(where, reason)
        self.line, self.too_deep = line, too_deep


def opened(path: Path, most: int | None = TABLE, inside: Path | None = None) -> BinaryIO:
    """A regular file, open to be read.

    Args:
        most: bytes that it may have, where ``ARCHER_MAX_FILE_MIB`` does not say otherwise; None: any number.
        inside: a folder that the file has to lie in when every link has been followed.

    Raises:
        UnreadableError: it is absent, no regular file, too large, outside the folder, or may not be read.
    """
    try:
        # a named pipe without a writer would otherwise be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        dangling = os.path.islink(path)
        raise UnreadableError(path, "a link to nowhere" if dangling else "no such file", absent=not dangling) from None
    except (OSError, ValueError) as error:  # permissions, a share that went away; a name with NUL
        raise UnreadableError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        _check_open(path, descriptor, most if most is None else _cap(most), inside)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_open(path: Path, descriptor: int, most: int | None, inside: Path | None) -> None:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        raise UnreadableError(path, f"is {kind}, where a file is expected")
    if inside is not None:
        # asked of the open file, so that nothing can change between the question and the reading
        real = os.readlink(f"/proc/self/fd/{descriptor}")
        if not real.startswith(os.path.realpath(inside).rstrip("/") + "/"):
            raise UnreadableError(path, f"is a link that leaves {inside}, and is not followed")
    if most is not None and facts.st_size > most:
        raise UnreadableError(path, _too_large(facts.st_size, most))


def _cap(most: int) -> int:
    given = os.environ.get(LIMIT, "")
    if not given:
        return most
    if not (given.isascii() and given.isdigit() and int(given[:9]) > 0 and len(given) < 9):
        raise UserError(f"{LIMIT}={given}: must be a whole number of MiB, above 0")
    return int(given) << 20


def _too_large(size: int, most: int) -> str:
    return f"has {size:,} bytes, more than the {most:,} that are read; {LIMIT}=… (MiB) allows more"


def read_bytes(path: Path, most: int = DOCUMENT, inside: Path | None = None) -> bytes:
    """A file's content.

    Raises:
        UnreadableError: as :func:`opened`.
    """
    with opened(path, most, inside) as file:
        try:
            data = file.read(_cap(most) + 1)
        except OSError as error:  # a bad sector, a share that went away
            raise UnreadableError(path, f"cannot be read ({error.strerror})") from None
    if len(data) > _cap(most):  # it grew, or is of those whose size is not told
        raise UnreadableError(path, _too_large(len(data), _cap(most)))
    return data


def read_text(path: Path, most: int = DOCUMENT, inside: Path | None = None) -> str:
    """A file's content as text.

    Raises:
        UnreadableError: as :func:`opened`; DamagedError: it is not UTF-8.
    """
    return decoded(read_bytes(path, most, inside), path)


def decoded(data: bytes, where: object) -> str:
    try:
        return data.decode("utf-8-sig")  # sig: some editors put a mark first
    except UnicodeDecodeError as error:
        raise DamagedError(where, f"not UTF-8 text at byte {error.start}") from None


def line_blocks(path: Path, most: int = TABLE, inside: Path | None = None) -> Iterator[list[bytes]]:
    """A file's lines without their ends, about a MiB at a time; the last one is what comes after the last line end.

    Raises:
        UnreadableError: as :func:`opened`, or a line is longer than a whole document may be.
    """
    rest, left, longest = b"", _cap(most), _cap(DOCUMENT)
    with opened(path, most, inside) as file:
        while left > 0 and (data := _read_block(path, file, left)):
            left -= len(data)
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > longest:
                raise UnreadableError(path, f"has a line of more than {longest:,} bytes; {LIMIT}=… (MiB) allows more")
            if whole:
                yield whole
    yield [rest]


def _read_block(path: Path, file: BinaryIO, left: int) -> bytes:
    try:
        return file.read(min(_BLOCK, left))
    except OSError as error:
        raise UnreadableError(path, f"cannot be read ({error.strerror})") from None
