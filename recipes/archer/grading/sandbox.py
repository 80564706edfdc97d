"""What a grading process may not do: outlive its parent, eat the memory, touch files or the network."""

import ctypes
import os
import resource
import signal
import sys
import sysconfig
from functools import partial
from typing import Any

_PR_SET_PDEATHSIG = 1
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
# Audit events of Python's own; os.listdir alone is how an import looks for its file.
_FORBIDDEN = ("os.", "shutil.", "subprocess.", "socket.", "tempfile.", "glob.", "pty.", "ctypes.", "urllib.")
_ALLOWED = ("os.listdir",)


def die_with_parent(parent_pid: int) -> None:
    """Asks Linux to kill this process when its parent dies, however that dies.

    The end of the pipe says so too, but a process deep in one long operation does not look at its pipe.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the call above
        os._exit(1)


def limit_resources(memory_mb: int | None) -> None:
    """Limits the address space to `memory_mb` MiB (None: no limit); no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is not None:
        size = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _refuse(readable: tuple[str, ...], event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        known = isinstance(path, int) or str(path).startswith(readable)
        if flags & _WRITING or not known:
            raise PermissionError(f"a grading process does not open {path!r}")
    elif event.startswith(_FORBIDDEN) and event not in _ALLOWED:
        raise PermissionError(f"a grading process does not do {event}")


def deny_side_effects() -> None:
    """From here on this process opens nothing but Python's own modules, and starts and sends nothing.

    A second line of defence: nothing in the judge evaluates text, so nothing should ever ask.
    """
    # Late imports inside the libraries read modules; whatever else there is to read is not theirs.
    packages = [path for path in sys.path if path.endswith("-packages")]
    readable = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *packages)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.dont_write_bytecode = True
    sys.addaudithook(partial(_refuse, readable))
