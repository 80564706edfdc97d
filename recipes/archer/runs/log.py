"""A run's folder: metrics.jsonl, config.yaml, run.json, samples/, and the lock that makes it one run's."""

import fcntl
import io
import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from recipes.archer.ending import EMPTY, FINISHED, GUARD, NOT_FINITE, Ending, FolderInUseError
from recipes.archer.files import LinkError, open_to_append, through_no_link, write_atomically
from recipes.archer.printable import complain
from recipes.archer.reading.json import parse_json, read_json
from recipes.archer.reading.regular import UnreadableError, line_blocks, read_text
from recipes.archer.runs.folder import last_change
from recipes.archer.runs.history import forget_what_was_behind, go_on_after
from recipes.archer.runs.names import CHECKPOINT, CONFIG, LOCK, METRICS, RUN, SAMPLES
from recipes.archer.runs.times import seconds_at_work
from recipes.archer.settings.configuration import ROOT

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from omegaconf import DictConfig

# facts that a later attempt adds to, and what they have to be for that
ADDED_TO = {"attempts": int, "all_saves_s": int | float, "restarts": list}


class _Lossy(io.FileIO):
    """What a full disk does not take is lost, without a word."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_notes(path: Path) -> TextIO:
    """A text to append to that is not worth a run: a full disk takes what it can."""
    raw = _Lossy(path, "a", opener=through_no_link)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="replace")


class RunLog:
    """Writer of a run folder.

    Args:
        folder: the run folder; made if absent.

    Raises:
        FolderInUseError: another live run holds the folder.
        LinkError: the folder holds a link, through which the run would write into another place.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        _refuse_links(self.folder)
        self._lock = _lock(self.folder)
        self._metrics: io.FileIO | None = None
        self._waiting = b""  # rows that a full disk did not take
        self._writing = threading.Lock()  # an ending may be recorded from a thread
        self.run: dict[str, Any] = {}

    def open(
        self, config: "DictConfig", facts: dict[str, Any], last_step: int, row: dict[str, Any] | None = None
    ) -> None:
        """Starts, or after a checkpoint of ``last_step`` continues, the record; again for a restart in this process.

        A run that was killed before its first checkpoint and begins again keeps its time and the count of attempts.
        Rows after ``last_step`` were logged by an attempt whose steps are about to be done again: they are put aside.

        Args:
            row: of ``last_step``, as its checkpoint has it.
        """
        from omegaconf import OmegaConf

        earlier = self.run or self._earlier_run()
        anew = not (self.run or last_step)
        if anew and not _is_same(earlier, facts):
            earlier = {}
        # of an attempt that was killed, until it wrote last: before anything is written by this one
        spent = seconds_at_work(earlier, time.time() if self.run else last_change(self.folder))
        if anew:  # what it measured is measured again
            earlier = {name: fact for name, fact in earlier.items() if name in ("started", "attempts", "restarts")}
        write_atomically(self.folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))
        steps = go_on_after(self.folder, last_step, row)
        # a run that began with another one's checkpoint has no rows up to that
        if steps and (lost := set(range(min(steps), last_step + 1)) - set(steps)):
            complain(f"warning: {METRICS} lacks {len(lost)} rows of steps {min(lost)} to {max(lost)}")
        if self._metrics is not None:
            self._metrics.close()
        self._waiting = b""  # rows of steps that are done again: a checkpoint waits for those before it
        self._metrics = open_to_append(self.folder / METRICS)
        self.run = {**earlier, **provenance(), **facts, "status": "running", "reason": None, "exit_code": None}
        self.run["started"] = earlier.get("started", now())
        self.run["attempts"] = earlier.get("attempts", 0) + 1
        self.run["attempt_started"], self.run["earlier_s"] = now(), round(spent or 0.0, 1)
        self.run["finished"], self.run["steps"] = None, last_step
        self._write_run()

    def write(self, row: dict[str, Any]) -> None:
        """Appends one step's row, after those that had to wait.

        Raises:
            OSError: the disk is full; what it did not take waits for the next call.
        """
        self._waiting += (json.dumps(row) + "\n").encode()
        self.run["steps"] = row["step"]
        self._write_waiting()

    def sync(self) -> None:
        """Returns once every row is on the disk: a checkpoint must not know of steps that the rows do not.

        Raises:
            OSError: it has no room for them.
        """
        self._write_waiting()
        os.fsync(self._opened().fileno())

    def note(self, **facts: Any) -> None:
        """Adds facts to run.json."""
        with self._writing:
            self.run.update(facts)
            self._write_run()

    def samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Writes samples/step_<n>.jsonl."""
        path = self.folder / SAMPLES / f"step_{step}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def saved(self) -> None:
        """The attempt has a checkpoint: what an earlier one did after the place where this one began is void."""
        forget_what_was_behind(self.folder)

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far."""
        blocks = line_blocks(self.folder / METRICS, inside=self.folder)
        lines = [line for block in blocks for line in block]
        return [parse_json(line, METRICS) for line in lines[:-1]]  # the last is empty, or one that a full disk cut

    def ended(self, ending: Ending) -> None:
        """Records how the run ended; nothing to record before :meth:`open`."""
        if self.run:
            with suppress(OSError):  # a full disk must not change how the run ends
                self.note(status=ending.status, reason=ending.reason, exit_code=ending.exit_code, finished=now())

    def close(self, ending: Ending) -> None:
        """Records how the run ended, and lets another run have the folder."""
        if self._metrics is not None and not self._metrics.closed:
            with suppress(OSError):  # the last chance of rows that a full disk did not take
                self._write_waiting()
            self._metrics.close()
        self.ended(ending)
        self._lock.close()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._opened().write(self._waiting) :]

    def _opened(self) -> io.FileIO:
        assert self._metrics is not None, "rows come after open()"
        return self._metrics

    def _write_run(self) -> None:
        write_atomically(self.folder / RUN, json.dumps(self.run, indent=1))

    def _earlier_run(self) -> dict[str, Any]:
        try:
            run = read_json(self.folder / RUN, inside=self.folder)
        except UnreadableError:  # killed before it was written, or torn
            return {}
        return {name: fact for name, fact in run.items() if isinstance(fact, ADDED_TO.get(name, object))}


def _is_same(earlier: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether a run that begins at its first step is the one of an earlier run.json, which had saved nothing yet."""
    over = earlier.get("exit_code") in (FINISHED, GUARD, EMPTY, NOT_FINITE)
    named = all(earlier.get(name) == facts.get(name) for name in ("experiment", "project", "name", "seed"))
    return bool(earlier) and named and not over and not earlier.get("last_checkpoint")


def provenance() -> dict[str, Any]:
    """What runs, and where: versions, commit, command, host."""
    return {
        "versions": versions(),
        "git": _git(),
        "command": sys.argv,
        "host": platform.node(),
        "pid": os.getpid(),
    }


PACKAGES = ("archer", "torch", "vllm", "transformers", "ray", "tensordict")


def versions() -> dict[str, str | None]:
    """Of Python, of the vendored trainer and of what else a run's numbers depend on; None: not installed."""
    return {"python": platform.python_version(), "verl": _verl()} | {p: _version(p) for p in PACKAGES}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _verl() -> str | None:
    """Version of the vendored trainer."""
    file = ROOT / "verl" / "version" / "version"
    return read_text(file).strip() if file.is_file() else None


def _git() -> dict[str, Any] | None:
    """Commit of the checkout, and whether it has changes; None outside a checkout."""

    def ask(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    try:
        return {"commit": ask("rev-parse", "HEAD").strip(), "dirty": bool(ask("status", "--porcelain").strip())}
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def _refuse_links(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_symlink() and not path.name.startswith(CHECKPOINT):
            raise LinkError(f"{path} is a link, and a run writes into its folder: remove it, or take another folder")


def _lock(folder: Path) -> io.FileIO:
    """An advisory lock that the kernel gives back when its holder dies, however it dies."""
    file = open_to_append(folder / LOCK)
    deadline = time.monotonic() + 5  # a holder that is just exiting
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise FolderInUseError(
                    f"another run is using {folder}; wait for it, or set trainer.experiment_name to another name"
                ) from None
            time.sleep(0.2)
