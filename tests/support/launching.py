"""Starts launchers as a user does, to their end or until a condition holds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from traps import folder_of_traps

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ROOT / "scripts" / "train"
DEADLINE_S = 480
SESSION, SERVER = "archer-ray-", "archer-fork-server-"  # folders of a run in /tmp, with the driver's number behind


@dataclass
class Launch:
    """A finished launcher."""

    code: int
    output: str
    folder: Path
    driver: int  # process id: the launcher becomes the driver

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def run(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())


def command(launcher: str, *overrides: str) -> list[str]:
    return ["bash", str(LAUNCHERS / launcher), *overrides]


def environment(output: Path, **variables: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "JOB_", "RAY_"))}
    return clean | {"OUTPUT_DIR": str(output), "VENV": sys.prefix, **variables}


def launch(
    launcher: str,
    *overrides: str,
    output: Path,
    name: str,
    until=None,
    send=signal.SIGKILL,
    then=None,
    within: Sequence[str] = (),
    deadline_s: float = DEADLINE_S,
    **variables,
):
    """Runs a launcher to its end, or until ``until(folder)`` holds: then a signal is sent, or ``then(pid)`` called.

    It is the leader of a process group, as a job of a shell is. ``within`` is what its command is preceded by.
    """
    process = subprocess.Popen(
        [*within, *command(launcher, *overrides)],
        cwd=folder_of_traps(),
        env=environment(output, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    folder, deadline = output / name, time.monotonic() + deadline_s
    while until is not None and process.poll() is None and time.monotonic() < deadline:
        if until(folder):
            try:
                then(process.pid) if then else process.send_signal(send)
            except BaseException:
                process.kill()
                raise
            break
        time.sleep(0.05)
    try:
        text, _ = process.communicate(timeout=max(1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        pytest.fail(f"{launcher} did not end within {deadline_s} s:\n{text[-3000:]}")
    return Launch(process.returncode, text, folder, process.pid)


def workers_of(driver: int) -> list[int]:
    """The worker processes of a run, in the order in which they began, rank 0 first.

    Two cannot be taken for each other: verl asks for rank 1 once rank 0 runs and has made a register of the workers,
    and Ray then begins a process, as none that waits has a rank's environment. Of more than two the others could be.
    """
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error, OSError):
            if "".join(process.cmdline()[:1]).startswith("ray::WorkerDict"):
                found.append((_began(process.pid), process.pid))
    assert len({moment for moment, _ in found}) == len(found) <= 2, f"nobody can say which rank is which: {found}"
    return [pid for _, pid in sorted(found)]


def _began(process: int) -> int:
    """Ticks from the machine's start to the process's, which no clock moves: proc_pid_stat(5), the 22nd field."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def left_behind() -> list[str]:
    """Processes, folders and shared memory of runs that are over; none should be going on."""
    folders = [*Path("/tmp").glob("archer-*"), *Path("/dev/shm").iterdir()]
    return processes_with(SESSION, SERVER) + [str(path) for path in folders]


def left_behind_by(*launches: Launch) -> list[str]:
    """Processes and folders of these runs, while others may be going on."""
    names = [f"{prefix}{launch.driver}-" for launch in launches for prefix in (SESSION, SERVER)]
    return processes_with(*names) + [str(path) for name in names for path in Path("/tmp").glob(f"{name}*")]


def processes_with(*words: str) -> list[str]:
    """Processes that have one of the words in their command, their environment or the name of a file they have open.

    A worker that was forked has a title for a command, and the environment that its fork server began with; its output
    goes into the session's folder. The server's title names its own.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            seen = [*process.cmdline(), *process.environ().values(), *_files_of(process.pid)]
            if any(word in each for word in words for each in seen):
                found.append(str(process))
    return found


def _files_of(process: int) -> list[str]:
    """What it has open, as the kernel names it; a file that was removed, too."""
    names = []
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed by now
            names.append(os.readlink(entry))
    return names


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, model and optimizer."""
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    state: dict = {}
    _load_state_dict(state, FileSystemReader(folder), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    flat: dict[str, torch.Tensor] = {}

    def walk(prefix, value):
        if isinstance(value, torch.Tensor):
            flat[prefix] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}", item)

    walk("", state)
    return flat


def lasting(rows: list[dict]) -> list[dict]:
    """Rows without what is measured with a clock, which differs from run to run."""
    return [{k: v for k, v in row.items() if not k.startswith(("timing_s/", "perf/"))} for row in rows]


def steps_logged(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0
