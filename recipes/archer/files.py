"""Writing files so that nobody ever sees half of one."""

import errno
import os
import re
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FOREIGN_FULL = re.compile(rf"\(os error ({'|'.join(map(str, _FULL))})\)")  # as writers in Rust say it


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content so that a reader, or a crash, sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:  # a full disk
        temporary.unlink(missing_ok=True)
        raise


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk, or one's share of it, is full; safetensors' and the tokenizers' included."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return _FOREIGN_FULL.search(str(error)) is not None
