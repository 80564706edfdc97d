"""Ray's command for a worker: ``python forked_worker.py --serialized-runtime-env-context=JSON ... SCRIPT ARGUMENT...``.

Asks the fork server (``fork_server.py``) for a process that runs the script, with this one's environment, folder and
output, and ends. In the place of Ray's own, which starts an interpreter, and is called where the server cannot be
asked. Standard library only, and no import of ours: it must start in a moment.
"""

import json
import os
import socket
import sys
from typing import Any

SOCKET = "ARCHER_FORK_SERVER"  # environment variable: where the server listens
PLAIN = "ARCHER_PLAIN_WORKER"  # environment variable: Ray's own command
FIRST_JOB = "01000000"  # of a Ray session; see ``fork_server.loading_ray``
_CONTEXT = "--serialized-runtime-env-context="


def request_of(arguments: list[str]) -> dict[str, Any] | None:
    """What the server is asked for; None where the runtime environment wants more than variables, or Ray no worker
    of the session's first job but one of its own, which moves objects to a disk.

    Args:
        arguments: of this command.
    """
    context = json.loads(next((word[len(_CONTEXT) :] for word in arguments if word.startswith(_CONTEXT)), "{}"))
    if os.environ.get("RAY_JOB_ID") != FIRST_JOB or any(word.startswith("--worker-type=") for word in arguments):
        return None
    wants = {name for name, value in context.items() if value}
    if wants - {"env_vars", "py_executable"} or context.get("py_executable", sys.executable) != sys.executable:
        return None
    passed_on = [word for word in arguments if not word.startswith((_CONTEXT, "--language="))]
    environment = {**os.environ, **(context.get("env_vars") or {})}
    return {"arguments": passed_on, "environment": environment, "folder": os.getcwd()}


def ask(path: str, request: dict[str, Any]) -> None:
    """Returns once there is a process for the request.

    Raises:
        OSError: the server is not there, or has not made one.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [b"\n"], [1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) != b"\n":
            raise ConnectionError(f"{path}: no process was forked")


def received(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """A request, and the descriptors of standard output and error for it; the server's side of :func:`ask`.

    The request is None where the one that asks was killed halfway.
    """
    body, streams = b"", []
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 2)
        while block := connection.recv(1 << 16):
            body += block
        return json.loads(body) if len(streams) == 2 else None, streams
    except (OSError, ValueError):
        return None, streams


def main() -> None:
    """Asks; or becomes Ray's own command."""
    request = request_of(sys.argv[1:])
    if request is not None:
        try:
            ask(os.environ[SOCKET], request)
            return
        except OSError as error:
            sys.stderr.write(f"the fork server cannot be asked ({error}); a worker is started anew\n")
    os.execv(sys.executable, [sys.executable, os.environ[PLAIN], *sys.argv[1:]])


if __name__ == "__main__":
    main()
