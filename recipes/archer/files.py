"""Writing files so that nobody ever sees half of one."""

import os
from pathlib import Path


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
