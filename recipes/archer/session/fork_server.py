"""Ray's workers, forked from a process that has imported what they need: torch and what is built on it, only once.

A worker of Ray's is a fresh interpreter, which imports for six seconds of processor time what the driver has imported
just before. Here the driver forks a process while it has one thread and has neither started Ray nor touched a device;
Ray's command for a worker (``forked_worker.py``) asks that process for a fork of itself, which becomes the worker.
On a CPU only: CUDA does not outlive a fork.
"""

import ctypes
import importlib
import logging
import os
import random
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from recipes.archer.collector import loading
from recipes.archer.session import forked_worker, loopback
from recipes.archer.session.temporary import temporary_folder

FOLDERS, PREFIX = Path("/tmp"), "archer-fork-server-"  # short: a socket's path has 107 characters at most
_PR_SET_PDEATHSIG = 1
_OWN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def can_fork() -> bool:
    """Whether Ray's library is still to be loaded, which then looks for what :func:`loading_ray` says."""
    return "ray" not in sys.modules


@contextmanager
def loading_ray() -> Iterator[None]:
    """Around Ray's first import in a process that becomes workers: what a worker finds in its environment by then.

    Ray's library (2.49.2) reads it once, when it is loaded: the job, which is a new session's first, and the process
    whose end is its own, in the place of the raylet the driver.
    """
    os.environ |= (early := {"RAY_JOB_ID": forked_worker.FIRST_JOB, "RAY_RAYLET_PID": str(os.getpid())})
    try:
        yield
    finally:
        for name in early:
            del os.environ[name]


@contextmanager
def fork_server(modules: Sequence[str]) -> Iterator[Path]:
    """A process that forks workers for as long as the context lasts, and ends with this one, however that ends.

    The workers are the Ray session's, and end with that.

    What this process has imported the workers have, too; the server imports the rest while this process goes on.

    Args:
        modules: names of what workers import.

    Yields:
        The socket that workers are asked for at, in a folder that only this user can enter.

    Raises:
        RuntimeError: this process has more than one thread, whose locks a fork could never open.
    """
    if threading.active_count() > 1:
        raise RuntimeError(f"a fork with {threading.active_count()} threads: start the fork server before them")
    with temporary_folder(PREFIX, FOLDERS) as folder:
        path = folder / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            process = _forked(listener, folder, modules)
        try:
            yield path
        finally:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


@contextmanager
def workers_forked(path: Path | None) -> Iterator[None]:
    """Around ``ray.init``: Ray asks the server at ``path`` for its workers; starts them itself where it is None."""
    from ray._private import ray_constants, workers

    plain, folder = ray_constants.SETUP_WORKER_FILENAME, Path(workers.__file__).parent
    if path is not None:
        os.environ |= {forked_worker.SOCKET: str(path), forked_worker.PLAIN: str(folder / plain)}
        ray_constants.SETUP_WORKER_FILENAME = forked_worker.__file__  # absolute: what it is joined to is dropped
    try:
        yield
    finally:
        ray_constants.SETUP_WORKER_FILENAME = plain
        os.environ.pop(forked_worker.SOCKET, None)
        os.environ.pop(forked_worker.PLAIN, None)


def _forked(listener: socket.socket, folder: Path, modules: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would say it again
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OWN)  # the parent's handlers are not for the child
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process
    status = 1
    try:
        os.setpgid(0, 0)  # a Ctrl-C is for the driver, whose save needs its workers
        for number in _OWN:  # SIGCHLD: workers that end are then gone, and no zombies, which seem alive
            signal.signal(number, signal.SIG_IGN)
        _end_with(parent, folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _let_go_of_files(listener.fileno())
        with loading():
            for name in modules:
                importlib.import_module(name)
        if (raylet := sys.modules.get("ray._raylet")) is not None:
            raylet.setproctitle(f"archer: fork server, {folder}")  # and Ray knows where a worker's title goes
        _serve(listener)
    except BaseException as error:  # of the parent's frames below this one nothing may run
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        os._exit(status)


def _end_with(parent: int, folder: Path) -> None:
    """Linux tells this process when its parent has ended: it removes what that has left, and ends."""

    def end(*_: object) -> NoReturn:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        end()


def _let_go_of_files(kept: int) -> None:
    """The driver's files, locks among them, are its own; their numbers stay taken: objects here go by them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in (0, 1, 2, kept, nowhere):
            with suppress(OSError):  # the one of the listing itself
                os.fstat(descriptor)
                os.dup2(nowhere, descriptor)
    os.dup2(nowhere, 0)
    os.close(nowhere)


def _serve(listener: socket.socket) -> NoReturn:
    while True:
        connection, _ = listener.accept()
        with connection:
            request, streams = forked_worker.received(connection)
            if request is not None and os.fork() == 0:
                listener.close()
                _answer(connection)
                _become(request, streams)
            for stream in streams:
                os.close(stream)


def _answer(connection: socket.socket) -> None:
    """Says that there is a process; it ends where nobody asks for it any more."""
    try:
        connection.sendall(b"\n")
    except OSError:
        os._exit(1)
    connection.close()


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """This process is the worker that was asked for."""
    status = 1
    try:
        for number in _OWN:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, stream in enumerate(streams, start=1):
            os.dup2(stream, target)
            os.close(stream)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        _as_if_new()
        script, *arguments = request["arguments"]
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _as_if_new() -> None:
    """What libraries have taken from the environment, from chance or from the driver when they were loaded."""
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    tempfile.tempdir = None
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if (torch := sys.modules.get("torch")) is not None and (threads := _threads(os.environ)):
        torch.set_num_threads(threads)
    if "ray._raylet" in sys.modules:
        loopback.take_up({name: os.environ[name] for name in loopback.OF_RAY if name in os.environ})


def _threads(environ: Mapping[str, str]) -> int | None:
    """How many OpenMP is told to use: it may be a list, a level of nesting each; None where it is no number."""
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return (int(first) or None) if first.isdecimal() else None
