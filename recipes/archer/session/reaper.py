"""Ends what a run started when the run is gone, however it went: ``python reaper.py SESSION_FOLDER``.

Ray's servers and workers outlive a driver that was killed.  This process waits until its standard input
closes, which the kernel does when the driver dies, then kills every process that carries the session's
mark in its environment, and removes the session's folder.  Standard library only, and no import of ours: it
must start in a moment and stay small.
"""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

# what Python, torch and NCCL create there; a model that the user has put into /dev/shm is not ours to remove
SHARED_MEMORY = re.compile(r"/dev/shm/(psm_|torch_|nccl-|sem\.)[^/ ]+")
MARK = "ARCHER_RAY_SESSION"  # environment variable that every process of a session inherits


def processes_of(session: str) -> list[int]:
    """Processes that carry the mark of ``session``, or whose output goes into its folder; this one left out.

    A worker that was forked (``fork_server.py``) shows the environment of the process that it was forked from.
    """
    wanted = f"{MARK}={session}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            if marked or os.readlink(entry / "fd" / "1").startswith(f"{session}/"):
                found.append(int(entry.name))
        except OSError:  # gone by now, or another user's
            continue
    return found


def shared_memory_of(process: int) -> set[str]:
    """Files in shared memory that a process has mapped or open and that still have a name."""
    try:
        maps = Path(f"/proc/{process}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        links = [os.readlink(entry) for entry in Path(f"/proc/{process}/fd").iterdir()]
    except OSError:  # gone by now
        return set()
    # six columns, the last of them the path: proc_pid_maps(5)
    mapped = [columns[5] for columns in (line.split(maxsplit=5) for line in maps) if len(columns) == 6]
    return {path for path in mapped + links if SHARED_MEMORY.fullmatch(path)}  # "... (deleted)" is not such a name


def reap(session: str, rounds: int = 50) -> None:
    """Kills the session's processes until none is left, then removes its folder and shared memory.

    Whoever shares memory removes its name at the end, which a killed process cannot.
    """
    shared: set[str] = set()
    for _ in range(rounds):
        left = processes_of(session)
        for process in left:
            shared |= shared_memory_of(process)
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not left:
            break
        time.sleep(0.1)
    for path in shared:
        try:
            os.unlink(path)
        except OSError:  # removed by its owner in the meantime
            continue
    shutil.rmtree(session, ignore_errors=True)


def main() -> None:
    """Waits for the end of the process that holds the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what asks the run to stop must not stop this first
    os.environ.pop(MARK, None)
    sys.stdin.buffer.read()
    reap(sys.argv[1])


if __name__ == "__main__":
    main()
