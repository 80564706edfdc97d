"""Who runs trials: this machine, each by its launcher; ``jobs.py`` has the cluster.

What an earlier process began is found again by a lock that it holds.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from recipes.archer.ending import UserError
from recipes.archer.files import open_to_append, refuse_link
from recipes.archer.reading.regular import UnreadableError, read_text
from recipes.archer.reading.yaml import parse_yaml
from recipes.archer.runs.log import open_notes
from recipes.archer.search.folder import LOGS, PROCESSES, SearchFolder
from recipes.archer.settings.configuration import ROOT

# writes its own number down, then becomes the launcher; the lock that it inherits is held as long as it lives
_BEGIN = 'echo $$ >"$0" && exec "$@"'
KILL_AFTER_S = 90.0  # from the request to end to the end by force: longer than a trainer's own grace
LONGEST_S, SILENT = 300, 124  # of a command, and its exit code where it took longer


class Executor(Protocol):
    """Who runs trials, each under its run's name.

    Attributes:
        slots: how many at a time.
        outlives: whether runs go on when the search is told to stop.
    """

    slots: int
    outlives: bool

    def rehearse(self, overrides: Sequence[str]) -> dict[str, Any]: ...
    def begin(self, run: str, overrides: Sequence[str], slot: int, start: int) -> None: ...
    def alive(self, run: str) -> bool: ...
    def begun(self, run: str, start: int) -> bool: ...
    def code(self, run: str) -> int | None: ...
    def failed(self, run: str) -> str | None: ...
    def stop(self, run: str) -> None: ...


def launcher_command(launcher: str) -> list[str]:
    """Argv of a launcher, a path below the checkout."""
    return ["bash", str(ROOT / launcher)]


class LocalExecutor:
    """Processes of this machine, found again by a lock that each holds.

    Args:
        folder: of the search.
        launcher: script, below the checkout.
        experiment: the base.
        slots: trials at a time.
        gpus: a group of GPUs for each slot, as ``CUDA_VISIBLE_DEVICES`` names them; none: all see what this one does.
    """

    outlives = False  # a search that is told to stop takes its trials along

    def __init__(
        self, folder: SearchFolder, launcher: str, experiment: str, slots: int = 1, gpus: Sequence[Sequence[str]] = ()
    ):
        self.folder, self.slots, self.gpus = folder, slots, gpus
        self.command, self.experiment = launcher_command(launcher), experiment
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: dict[str, float] = {}  # when a run was told to end

    def rehearse(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The launcher's dry run: the configuration with this machine's facts, nothing started.

        Raises:
            UserError: it refuses the configuration, or cannot run here.
        """
        done = answer_of([*self.command, *overrides], self._environment(0) | {"DRY_RUN": "1"})
        if done.returncode:
            raise UserError(said_by(done))
        config = parse_yaml(done.stdout, "the launcher's dry run")
        return config if isinstance(config, dict) else {}

    def begin(self, run: str, overrides: Sequence[str], slot: int, start: int) -> None:
        """Starts a run.

        Args:
            start: which of its starts this is, from 1.
        """
        pid = self._file(run, f"{start}.pid")
        refuse_link(pid)
        self._asked.pop(run, None)
        with open_to_append(self._file(run, "lock")) as lock, open_notes(self.folder.path / LOGS / f"{run}.log") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._children[run] = subprocess.Popen(
                ["bash", "-c", _BEGIN, str(pid), *self.command, *overrides],
                env=self._environment(slot),
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # what stops the search from a terminal does not stop the run by itself
            )

    def alive(self, run: str) -> bool:
        """Whether a run's process, or one that it started, is there, whoever started it."""
        if (child := self._children.get(run)) is not None:
            child.poll()  # what has ended must not stay as a zombie
        path = self._file(run, "lock")
        if not os.path.lexists(path):
            return False
        with open_to_append(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def begun(self, run: str, start: int) -> bool:
        """Whether that start came to be; the search may have been killed just before it."""
        # a process has the lock before it writes its number down
        return os.path.lexists(self._file(run, f"{start}.pid")) or self.alive(run)

    def code(self, run: str) -> int | None:
        """The exit code of a run that this process started and that has ended; otherwise None."""
        child = self._children.get(run)
        return None if child is None else child.poll()

    def failed(self, run: str) -> str | None:
        """Why a run cannot be begun again; of this machine that is never known."""
        return None

    def stop(self, run: str) -> None:
        """Asks a run to save and end; asked again after a while, ends it."""
        pid = self._pid(run) if self.alive(run) else None
        if pid is None:
            return
        with suppress(ProcessLookupError):
            if run not in self._asked:
                self._asked[run] = time.monotonic()
                os.kill(pid, signal.SIGTERM)
            elif time.monotonic() > self._asked[run] + KILL_AFTER_S:
                os.killpg(pid, signal.SIGKILL)

    def _environment(self, slot: int) -> dict[str, str]:
        found = {key: value for key, value in os.environ.items() if key != "DRY_RUN"}
        found |= {"EXPERIMENT": self.experiment, "OUTPUT_DIR": str(self.folder.output), "VENV": sys.prefix}
        if self.gpus:
            found |= {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus[slot]), "N_GPUS": str(len(self.gpus[slot]))}
        return found

    def _file(self, run: str, kind: str) -> Path:
        return self.folder.path / PROCESSES / f"{run}.{kind}"

    def _pid(self, run: str) -> int | None:
        """Of its last start."""
        starts = sorted((self.folder.path / PROCESSES).glob(f"{run}.*.pid"), key=lambda path: int(path.suffixes[0][1:]))
        try:
            text = read_text(starts[-1], inside=self.folder.path).strip()
        except (UnreadableError, IndexError):
            return None
        return int(text) if text.isascii() and text.isdecimal() and int(text) > 1 else None


def gpu_groups(number: int, environ: Mapping[str, str], found: int) -> list[list[str]]:
    """The GPUs of this machine in as many groups of one size.

    Args:
        environ: whose ``CUDA_VISIBLE_DEVICES`` says which there are; without it all that were ``found``.

    Raises:
        UserError: they cannot be shared out so.
    """
    named = environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(found)]
    if len(names) < number or len(names) % number:
        raise UserError(f"--parallel {number}: {len(names)} GPUs cannot be cut into {number} groups of one size")
    size = len(names) // number
    return [names[start : start + size] for start in range(0, len(names), size)]


def answer_of(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """What a command says; one that takes too long ends with ``SILENT``."""
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, SILENT, "", f"{command[0]} took more than {LONGEST_S} s")


def said_by(done: "subprocess.CompletedProcess[str]") -> str:
    """The last line that a command that failed said."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (
        lines[-1].removeprefix("archer: ").removeprefix("error: ")
        if lines
        else f"it failed without a word (exit code {done.returncode})"
    )
