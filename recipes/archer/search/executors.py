"""Who runs trials: this machine, each by its launcher, or a cluster, through ``archer submit``.

Either finds again what it began in an earlier process: a local run by a lock that it holds, a job by its name.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from recipes.archer.cluster.job import FINAL_CODES
from recipes.archer.ending import FINISHED, UserError
from recipes.archer.files import open_to_append, refuse_link
from recipes.archer.reading.regular import UnreadableError, read_text
from recipes.archer.reading.yaml import parse_yaml
from recipes.archer.runs.log import open_notes
from recipes.archer.search.course import course_of
from recipes.archer.search.folder import LOGS, PROCESSES, SearchFolder
from recipes.archer.settings.configuration import ROOT

# writes its own number down, then becomes the launcher; the lock that it inherits is held as long as it lives
_BEGIN = 'echo $$ >"$0" && exec "$@"'
KILL_AFTER_S = 90.0  # from the request to end to the end by force: longer than a trainer's own grace
ASK_EVERY_S = 60.0  # between questions to the cluster about a job
LONGEST_S = 300


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
        done = _run([*self.command, *overrides], self._environment(0) | {"DRY_RUN": "1"})
        if done.returncode:
            raise UserError(_said(done))
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
        return os.path.lexists(self._file(run, f"{start}.pid"))

    def code(self, run: str) -> int | None:
        """The exit code of a run that this process started and that has ended; otherwise None."""
        child = self._children.get(run)
        return None if child is None else child.poll()

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


class JobExecutor:
    """Jobs of a cluster, found again by their names.

    Args:
        folder: of the search, on the volume that the jobs write to.
        archer: argv of the ``archer`` command.
        experiment: the base.
        backend: ``runai`` or ``kubernetes``.
        slots: jobs at a time.
        cluster: file of the site's settings; None: the default one.
    """

    outlives = True  # jobs go on when the search is told to stop

    def __init__(
        self,
        folder: SearchFolder,
        archer: Sequence[str],
        experiment: str,
        backend: str,
        slots: int = 1,
        cluster: str | None = None,
    ):
        self.folder, self.archer, self.experiment, self.slots = folder, list(archer), experiment, slots
        self.options = ["--backend", backend, *(["--cluster", cluster] if cluster else [])]
        self._looked: dict[str, tuple[float, bool]] = {}  # when the cluster was asked, and whether it knows the job
        self._failed: dict[str, int] = {}

    def rehearse(self, overrides: Sequence[str]) -> dict[str, Any]:
        """``archer submit --dry-run``.

        Raises:
            UserError: what it says.
        """
        done = self._submit("trial-000", overrides, "--dry-run")
        if done.returncode:
            raise UserError(_said(done))
        return {}

    def begin(self, run: str, overrides: Sequence[str], slot: int, start: int) -> None:
        """Submits a run's job, in the place of one of that name that is lost."""
        if self._known(run):
            self._ask("stop", run)
        done = self._submit(run, overrides)
        with open_notes(self.folder.path / LOGS / f"{run}.log") as log:
            log.write(done.stdout + done.stderr)
        self._looked[run] = (time.monotonic(), not done.returncode)
        self._failed = {**self._failed, run: done.returncode} if done.returncode else self._failed

    def alive(self, run: str) -> bool:
        """Whether the job may still write: the run has not ended for good, and the cluster knows the job."""
        if run in self._failed:
            return False
        if course_of(self.folder.run_folder(run)).exit_code in (FINISHED, *FINAL_CODES):
            return False
        asked, known = self._looked.get(run, (-ASK_EVERY_S, False))
        if time.monotonic() >= asked + ASK_EVERY_S:
            known = self._known(run)
            self._looked[run] = (time.monotonic(), known)
        return known

    def begun(self, run: str, start: int) -> bool:
        """Whether the job ever came to be, as far as that can be known."""
        return self._known(run) or course_of(self.folder.run_folder(run)).run is not None

    def code(self, run: str) -> int | None:
        """The exit code of a submission that failed; otherwise None."""
        return self._failed.get(run)

    def stop(self, run: str) -> None:
        """Deletes the job: the cluster tells the run to end."""
        self._ask("stop", run)
        self._looked[run] = (time.monotonic(), False)

    def job(self, run: str) -> str:
        """The job's name: a label of at most 47 characters, the search's name and the run's."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.folder.name.lower()).strip("-")
        return f"archer-{stem[: 47 - len(run) - 8].rstrip('-')}-{run}"

    def _known(self, run: str) -> bool:
        return self._ask("status", run).returncode == 0

    def _ask(self, verb: str, run: str) -> "subprocess.CompletedProcess[str]":
        return _run([*self.archer, "job", verb, self.job(run), *self.options])

    def _submit(self, run: str, overrides: Sequence[str], *more: str) -> "subprocess.CompletedProcess[str]":
        named = ["submit", self.experiment, "--name", self.job(run)]
        return _run([*self.archer, *named, *self.options, *more, *overrides])


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


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
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
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} took more than {LONGEST_S} s")


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (
        lines[-1].removeprefix("archer: ").removeprefix("error: ")
        if lines
        else f"it failed without a word (exit code {done.returncode})"
    )
