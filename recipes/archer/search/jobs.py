"""Trials as jobs of a cluster: through ``archer submit``, found again by their names, which are written down.

A job is lost only when the cluster says so: while it says nothing, everything is as it was.
"""

import hashlib
import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recipes.archer.cluster.job import FINAL_CODES, check_name
from recipes.archer.cluster.looking import Cluster, Seen, State
from recipes.archer.cluster.settings import load_settings
from recipes.archer.ending import FINISHED, WRONG_CALL, UserError
from recipes.archer.files import write_atomically
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import UnreadableError, read_text
from recipes.archer.runs.log import open_notes
from recipes.archer.search.course import course_of
from recipes.archer.search.executors import answer_of, said_by
from recipes.archer.search.folder import LOGS, PROCESSES, SearchFolder

ASK_EVERY_S = 60.0  # between questions to the cluster about a job
STUCK_S = 15 * 60.0  # after which a job that cannot start is given up: a registry may have been away for a moment
SILENT_S = 24 * 3600.0  # after which the search does not wait for the cluster any more
GONE_WITHIN_S = 120.0  # that a deleted job takes to be gone; until then its name is taken
IDENTITY = "identity"  # file of a search's own
MOST_NAME = 47  # characters of a name: KubeRay's limit
TAKEN = "already exists"  # of a name, by Kubernetes and by RunAI
ENDED = (State.OVER, State.FAILED, State.GONE)


@dataclass(frozen=True)
class Record:
    """What is written down of a trial's job, before it is submitted and after.

    Attributes:
        name: of the job.
        nodes: more than 1: it is a RayJob.
        start: which of the run's starts it is.
        submitted: whether the cluster has taken it, as far as was heard.
        before: when the attempt began that the run's folder had before this start; empty: none; None: not written down.
    """

    name: str
    nodes: int = 1
    start: int = 0
    submitted: bool = False
    before: str | None = None


class JobExecutor:
    """Jobs of a cluster.

    Args:
        folder: of the search, on the volume that the jobs write to.
        archer: argv of the ``archer`` command.
        experiment: the base.
        backend: ``runai`` or ``kubernetes``.
        slots: jobs at a time.
        cluster: file of the site's settings; None: the default one.
        nodes: of each job.
        tell: is told what happens, a line each.
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
        nodes: int = 1,
        tell: Callable[[str], None] = lambda _: None,
    ):
        self.folder, self.archer, self.experiment, self.slots = folder, list(archer), experiment, slots
        self.options = ["--backend", backend, *(["--cluster", cluster] if cluster else [])]
        self.nodes, self.tell = nodes, tell
        self.cluster = Cluster(load_settings(Path(cluster) if cluster else None), backend)
        self._seen: dict[str, tuple[float, Seen]] = {}  # when a job was asked for, and what was said
        self._stuck: dict[str, float] = {}  # since when
        self._silent: dict[str, float] = {}  # since when the cluster says nothing of it
        self._stopped: dict[str, float] = {}  # when it was last told to end
        self._ended: dict[str, float] = {}  # since when the cluster says that it is over
        self._failed: dict[str, str] = {}  # why it has failed for good, in the cluster's words
        self._given_up: set[str] = set()  # that could not start
        self._refused: dict[str, int] = {}  # the code of a submission that failed

    def rehearse(self, overrides: Sequence[str]) -> dict[str, Any]:
        """``archer submit --dry-run``.

        Raises:
            UserError: what it says.
        """
        done = self._submit("trial-000", overrides, "--dry-run")
        if done.returncode:
            raise UserError(said_by(done))
        return {}

    def begin(self, run: str, overrides: Sequence[str], slot: int, start: int) -> None:
        """Submits a run's job, in the place of one that this search submitted before and that has ended."""
        self._identity(make=True)
        job = replace(self._job(run), start=start, submitted=False, before=self._attempt(run))
        if self._ours(run):
            self._clear(job)
        self._keep(run, job)
        done = self._submit(run, overrides)
        with open_notes(self.folder.path / LOGS / f"{run}.log") as log:
            log.write(done.stdout + done.stderr)
        self._seen[run] = (time.monotonic(), Seen(State.THERE))
        for known in (self._stuck, self._silent, self._stopped, self._ended, self._failed):
            known.pop(run, None)
        if done.returncode == 0:
            self._keep(run, replace(job, submitted=True))
            self.tell(f"{run} is job {job.name}")
        elif done.returncode == WRONG_CALL or TAKEN in said_by(done) or self._look(run, anew=True).state in ENDED:
            self._refused[run] = done.returncode  # not by a cluster that was silent: that one is asked again

    def alive(self, run: str) -> bool:
        """Whether the job may still write: the run has not ended for good, and nothing says that the job has.

        Raises:
            UserError: the cluster has said nothing for a day.
        """
        if run in self._refused or run in self._given_up:
            return False
        if course_of(self.folder.run_folder(run)).exit_code in (FINISHED, *FINAL_CODES):
            return False
        seen, now = self._look(run), time.monotonic()
        if run in self._given_up:
            return False
        if seen.state not in ENDED:
            self._ended.pop(run, None)
            return True
        if run in self._stopped:
            return False
        # asked once more: how the run has ended may be on the disk, and not yet be seen from here
        return now < self._ended.setdefault(run, now) + ASK_EVERY_S

    def begun(self, run: str, start: int) -> bool:
        """Whether that start came to be, as far as that is known; where it is not, it is waited for."""
        record = self._record(run)
        if record is None:  # never submitted, or by a version that wrote nothing down
            there = course_of(self.folder.run_folder(run)).run is not None
            return there or self._look(run).state is not State.GONE
        if record.start != start:  # it is written down before anything is submitted
            return False
        if record.submitted or self._has_written(run, record) or self._look(run).state is not State.GONE:
            return True
        # a submission that outlived the search may be on its way
        time.sleep(min(ASK_EVERY_S, max(0.0, self._file(run).stat().st_mtime + ASK_EVERY_S - time.time())))
        return self._look(run, anew=True).state is not State.GONE or self._has_written(run, record)

    def code(self, run: str) -> int | None:
        """The exit code of a submission that failed; otherwise None."""
        return self._refused.get(run)

    def failed(self, run: str) -> str | None:
        """Why the job has failed for good, in the cluster's words; None where it has not."""
        return self._failed.get(run)

    def stop(self, run: str) -> None:
        """Deletes the job: the cluster tells the run to end. Asked again, it deletes again only after a while."""
        if time.monotonic() >= self._stopped.get(run, -ASK_EVERY_S) + ASK_EVERY_S:
            self._stopped[run] = time.monotonic()
            job = self._job(run)
            self.cluster.delete(job.name, job.nodes)
            self._seen.pop(run, None)

    def name(self, run: str) -> str:
        """The name of a run's job, a label of at most 47 characters: the search's, a digest, the run's.

        The digest is of where the search is and of what is its own: it tells searches apart that lie in different
        places under names alike, and one that was begun afresh where another was removed.
        """
        place = hashlib.sha256(f"{self.folder.path.resolve()} {self._identity()}".encode()).hexdigest()[:8]
        return f"archer-{self._stem(MOST_NAME - len(f'archer--{place}-{run}'))}-{place}-{run}"

    def _identity(self, make: bool = False) -> str:
        """What is written down for this search alone, empty where nothing is yet."""
        path = self.folder.path / PROCESSES / IDENTITY
        if make and not path.exists():
            write_atomically(path, secrets.token_hex(8) + "\n")
        try:
            return read_text(path, inside=self.folder.path).strip()
        except UnreadableError:
            return ""

    def _earlier_name(self, run: str) -> str:
        """As versions before named it, which wrote nothing down."""
        return f"archer-{self._stem(MOST_NAME - len(run) - 8)}-{run}"

    def _stem(self, most: int) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.folder.name.lower()).strip("-")[:most].rstrip("-")

    def _look(self, run: str, anew: bool = False) -> Seen:
        """How a run's job stands, asked once in a while."""
        now = time.monotonic()
        asked, seen = self._seen.get(run, (-ASK_EVERY_S, Seen(State.UNKNOWN)))
        if now < asked + ASK_EVERY_S and not anew:
            return seen
        job = self._job(run)
        seen = self.cluster.look(job.name, job.nodes)
        self._wait(run, seen)
        if seen.state is not State.STUCK:
            if seen.state is not State.UNKNOWN:
                self._stuck.pop(run, None)
        elif now >= self._stuck.setdefault(run, now) + STUCK_S:
            self.cluster.delete(job.name, job.nodes)
            self._given_up.add(run)
            seen = Seen(State.FAILED, f"job {job.name} cannot start: {seen.said}")
        elif self._stuck[run] == now:
            self.tell(f"{run} cannot start, and is given up in {STUCK_S / 60:.0f} minutes: {seen.said}")
        if seen.state is State.FAILED:
            self._failed[run] = seen.said or f"job {job.name} has failed"
        elif seen.state is State.THERE:
            self._failed.pop(run, None)  # it was between two tries
        self._seen[run] = (time.monotonic(), seen)
        return seen

    def _wait(self, run: str, seen: Seen) -> None:
        """Tells once that the cluster is silent, and once that it is not any more."""
        now = time.monotonic()
        if seen.state is not State.UNKNOWN:
            if self._silent.pop(run, None) is not None:
                self.tell(f"the cluster answers again of {run}")
            return
        if run not in self._silent:
            self.tell(f"the cluster does not say how {run} is, which is waited for: {seen.said}")
        if now >= self._silent.setdefault(run, now) + SILENT_S:
            raise UserError(
                f"the cluster has not said for {SILENT_S / 3600:.0f} h how {run} is ({seen.said}): its job may go on; "
                "the same command follows it again"
            )

    def _clear(self, job: Record) -> None:
        """Deletes a job, or what is left of one (a RayJob's policy), and waits until its name is free."""
        deadline = time.monotonic() + GONE_WITHIN_S
        self.cluster.delete(job.name, job.nodes)
        while self.cluster.look(job.name, job.nodes).state is not State.GONE and time.monotonic() < deadline:
            time.sleep(min(2.0, GONE_WITHIN_S))

    def _job(self, run: str) -> Record:
        """The record of a run's job, or what it will be; one that an earlier version submitted keeps its name."""
        if (record := self._record(run)) is not None:
            return record
        return Record(self._earlier_name(run) if self._ours(run) else self.name(run), self.nodes)

    def _ours(self, run: str) -> bool:
        """Whether this search has submitted a job of the run; of one that it has not, nothing is deleted."""
        log, folder = self.folder.path / LOGS / f"{run}.log", self.folder.run_folder(run)
        return self._record(run) is not None or log.exists() or folder.exists()

    def _record(self, run: str) -> Record | None:
        try:
            record = Record(**read_json(self._file(run), inside=self.folder.path))
            check_name(record.name)
        except (UnreadableError, UserError, TypeError):
            return None
        usable = record.name.endswith(f"-{run}") and type(record.nodes) is int and type(record.start) is int
        usable = usable and (record.before is None or isinstance(record.before, str))
        return record if usable else None

    def _keep(self, run: str, record: Record) -> None:
        write_atomically(self._file(run), json.dumps(asdict(record)) + "\n")

    def _attempt(self, run: str) -> str:
        """When the attempt began that a run's folder is of; empty where there is none."""
        course = course_of(self.folder.run_folder(run))
        facts = course.run.facts if course.run is not None else {}
        return str(facts.get("attempt_started", facts.get("started")) or "")

    def _has_written(self, run: str, record: Record) -> bool:
        """Whether the run's folder has an attempt that was not there before that start."""
        return record.before is not None and self._attempt(run) != record.before

    def _file(self, run: str) -> Path:
        return self.folder.path / PROCESSES / f"{run}.job"

    def _submit(self, run: str, overrides: Sequence[str], *more: str) -> "subprocess.CompletedProcess[str]":
        named = ["submit", self.experiment, "--name", self._job(run).name]
        return answer_of([*self.archer, *named, *self.options, *more, *overrides])
