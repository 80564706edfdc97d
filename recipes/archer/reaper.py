"""Ends what a run started when the run is gone, however it went: ``python reaper.py SESSION_FOLDER``.

Ray's servers and workers outlive a driver that was killed.  This process waits until its standard input
closes, which the kernel does when the driver dies, then kills every process that carries the session's
mark in its environment, and removes the session's folder.  Standard library only, and no import of ours: it
must start in a moment and stay small.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "ARCHER_RAY_SESSION"  # environment variable that every process of a session inherits


def processes_of(session: str) -> list[int]:
    """Processes that carry the mark of ``session``, this one left out."""
    wanted = f"{MARK}={session}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # gone by now, or another user's
            continue
    return found


def reap(session: str, rounds: int = 20) -> None:
    """Kills the session's processes until none is left, then removes its folder and shared memory."""
    for _ in range(rounds):
        left = processes_of(session)
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not left:
            break
        time.sleep(0.1)
    shutil.rmtree(session, ignore_errors=True)


def main() -> None:
    """Waits for the end of the process that holds the other end of standard input."""
    os.environ.pop(MARK, None)
    sys.stdin.buffer.read()
    reap(sys.argv[1])


if __name__ == "__main__":
    main()
