"""Death of a worker: who it was, of what, in one line; whichever error of the others comes up first."""

import re
import time
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import (
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.util import list_named_actors

from recipes.archer.runs.log import open_notes
from recipes.archer.workers.deadlines import Deadlines, hung, on_machine
from verl.single_controller.ray import RayWorkerGroup

DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError, OutOfMemoryError)
PROBE_S = 5.0  # one whose peer has died fails in a moment; Ray knows of the death a moment later
MACHINE_PROBE_S = 120.0  # of a machine that is gone or out of reach it knows after a minute
AGAIN_S = 1.0
LAST_WORDS = 100  # lines


class WorkerDiedError(RuntimeError):
    """A process that the run depends on is gone; the run can go on from its last checkpoint."""


class Roster:
    """The workers of one Ray session, by rank.

    Args:
        roles: what each of them does, for messages.
        session: the session's folder, None on a cluster whose logs are elsewhere.
        notes: file that the last words of a dead worker are appended to.
        deadlines: of all calls to them.
    """

    def __init__(self, roles: str, session: Path | None, notes: Path, deadlines: Deadlines):
        self.deadlines, deadlines.machines = deadlines, []  # those of an earlier session may have changed
        self.workers: list = []
        self._roles, self._session, self._notes, self._oom_kills = roles, session, notes, _oom_kills()

    def group(self, **arguments) -> "WatchedWorkerGroup":
        """In the place of verl's worker group class."""
        return WatchedWorkerGroup(roster=self, **arguments)

    def death_behind(self, error: BaseException) -> WorkerDiedError | None:
        """The death that made something fail, None when nobody has died.

        A worker whose peer dies fails in a collective with an error of its own, or waits in it for ever.
        """
        inner = getattr(error, "cause", None)
        death = next((e for e in (error, inner) if _is_death(e)), None)
        rank = self._rank_of(death)
        if rank is None or self._is_unsure(death):
            found, probed = self._probe()
            rank, death = (found, probed) if probed else (rank, death)
        if death is None:
            return None
        return WorkerDiedError(self._sentence(rank, str(death)))

    def _rank_of(self, death) -> int | None:
        ids = [worker._actor_id.hex() for worker in self.workers]
        identity = getattr(death, "actor_id", None)
        return ids.index(identity) if identity in ids else None

    def _probe(self) -> tuple[int | None, RayError | None]:
        """The first worker that Ray knows to be dead, and how; those that are busy do not answer.

        On several machines one that is only out of reach is asked again, and is the answer if nothing more is learnt.
        """
        if not ray.is_initialized():
            return None, None
        pending = {worker.__ray_ready__.remote(): rank for rank, worker in enumerate(self.workers)}
        out_of_reach: tuple[int | None, RayError | None] = (None, None)
        deadline = time.monotonic() + (PROBE_S if self._session else MACHINE_PROBE_S)
        while pending and (left := deadline - time.monotonic()) > 0:
            for answer in ray.wait(list(pending), timeout=left)[0]:
                rank = pending.pop(answer)
                try:
                    ray.get(answer)
                except RayError as error:
                    if self._is_unsure(error):
                        out_of_reach = rank, error
                        time.sleep(AGAIN_S)
                        pending[self.workers[rank].__ray_ready__.remote()] = rank
                    elif _is_death(error):
                        return rank, error
        return out_of_reach

    def _is_unsure(self, error) -> bool:
        """Whether Ray may come to know more: of a machine that went down it says at first that it is out of reach."""
        return self._session is None and isinstance(error, ActorUnavailableError)

    def _sentence(self, rank: int | None, text: str) -> str:
        pid = found[1] if (found := re.search(r"^\s*pid: (\d+)", text, re.MULTILINE)) else None
        crash = self._crash(pid) if pid else None
        cause = cause_of(text, crash, _oom_kills() > self._oom_kills)
        if rank is None:
            return f"a process of the run's Ray session died: {cause}"
        self._keep_last_words(rank, pid)
        process = f", process {pid}" if pid else ""
        where = on_machine(rank, self.deadlines.machines)
        return f"worker rank {rank} of {len(self.workers)}{where} ({self._roles}{process}) died: {cause}"

    def _logs(self, pid: str | None) -> list[Path]:
        if self._session is None or pid is None:
            return []
        return sorted(self._session.glob(f"session_latest/logs/worker-*-{pid}.*"))

    def _crash(self, pid: str) -> str | None:
        """What the worker's own handler of fatal signals wrote down."""
        text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in self._logs(pid))
        found = re.search(r"\*\*\* (SIG[A-Z]+) received|^Fatal Python error: (.+)$", text, re.MULTILINE)
        return found and (found[1] or found[2])

    def _keep_last_words(self, rank: int, pid: str | None) -> None:
        """Into the run folder: the session's own goes with the session."""
        with open_notes(self._notes) as notes:
            for log in self._logs(pid):
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_WORDS:]
                notes.write(f"--- worker rank {rank}, {log.name}\n" + "".join(f"{line}\n" for line in lines))


class WatchedWorkerGroup(RayWorkerGroup):
    """verl's worker group, on a roster: every call to it has a deadline, and a death during its start is noticed.

    verl waits 300 s for rank 0 to make the register of the group, dead or alive.
    """

    def __init__(self, *arguments, roster: Roster, **named_arguments):
        self._roster, self.deadlines = roster, roster.deadlines
        # the groups that verl makes of this one, a role each, are made of the same workers
        self.from_detached = partial(type(self).from_detached, roster=roster)
        super().__init__(*arguments, **named_arguments)

    def _bind_worker_method(self, user_defined_cls, func_generator):
        return super()._bind_worker_method(user_defined_cls, self.deadlines.bounded)

    def _init_with_resource_pool(self, resource_pool, ray_cls_with_init, bin_pack, detached):
        watched = _Announcing(ray_cls_with_init, self._roster, f"{self.name_prefix}_register_center")
        super()._init_with_resource_pool(resource_pool, watched, bin_pack, detached)


class _Announcing:
    """What makes the workers, as verl has it; each goes on the roster, and the first is waited for."""

    def __init__(self, maker, roster: Roster, register_name: str):
        self._maker, self._roster, self._register_name = maker, roster, register_name

    def __getattr__(self, name):
        return getattr(self._maker, name)

    def __call__(self, **arguments):
        worker = self._maker(**arguments)
        self._roster.workers.append(worker)
        if len(self._roster.workers) == 1:
            started, (seconds, setting) = worker.__ray_ready__.remote(), self._roster.deadlines.of("set_up")
            deadline = time.monotonic() + seconds
            while self._register_name not in list_named_actors():
                if ray.wait([started], timeout=0.02)[0]:
                    ray.get(started)  # raises when it died
                    break
                if time.monotonic() > deadline:
                    raise hung("set_up", [0], setting)
        return worker


def cause_of(text: str, crash: str | None, out_of_memory: bool) -> str:
    """Why a process ended, as far as it can be known.

    Args:
        text: of Ray's error.
        crash: the fatal signal or error that the process itself wrote down, if any.
        out_of_memory: whether the kernel has killed some process for memory since the session began.
    """
    if crash:
        return f"it crashed ({crash})"
    if "SIGTERM" in text:
        return "it received SIGTERM"
    if found := re.search(r"exit code (-?\d+)", text):
        return f"it exited with code {found[1]}"
    if "low on memory" in text or "memory pressure" in text:
        return "Ray killed it, because the machine is out of memory"
    if out_of_memory:
        return "it was killed (SIGKILL), likely for memory: the kernel's OOM killer has been at work since the start"
    if re.search(r"^The actor \w+ is unavailable", text):
        return "Ray cannot reach it"
    if re.search(r"node has died|node has crashed|node was|[Rr]aylet", text):
        return "Ray or the machine under it went down"
    return "it was killed (SIGKILL), or ended without a word"


def _is_death(error) -> bool:
    """Whether an error means that a process is gone; one that its own constructor raised does not."""
    return isinstance(error, DEATHS) and not getattr(error, "actor_init_failed", False)


def _oom_kills() -> int:
    """Processes that the kernel has killed for memory since it started."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(found[1]) if (found := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)) else 0
