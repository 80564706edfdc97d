"""A search's folder: where its files are, and the lock that makes it one process's to write."""

import fcntl
import io
import os
from pathlib import Path

from recipes.archer.ending import FolderInUseError, UserError
from recipes.archer.files import open_to_append, refuse_link, write_atomically
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.runs.folder import OUTPUT
from recipes.archer.runs.names import LOCK
from recipes.archer.search.plan import Plan, plan_of, plan_text, read_plan

PLAN, JOURNAL = "search.yaml", "study.journal"
RECORDS, LOGS, PROCESSES = (
    "records",
    "logs",
    "processes",
)  # folders: of experiments' files, of outputs, of locks and pids


def home() -> Path:
    """The folder that searches, as runs, are in."""
    return Path(os.environ.get("OUTPUT_DIR") or OUTPUT).absolute()


class SearchFolder:
    """``<output>/<name>``: the search's own files, and a run folder for each trial.

    Args:
        name: of the search.
        output: that holds it.
    """

    def __init__(self, name: str, output: Path | None = None):
        self.name, self.output = name, home() if output is None else output
        self.path = self.output / name
        self._lock: io.FileIO | None = None

    @property
    def exists(self) -> bool:
        """Whether there is such a search."""
        return os.path.lexists(self.path / PLAN)

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    def plan(self) -> Plan:
        """What it is to do, as it was kept.

        Raises:
            UserError: there is no such search, or its file cannot be read.
        """
        if not self.exists:
            raise UserError(f"{self.path} holds no search: `archer search start {self.name} --base …` begins one")
        return plan_of(self.name, read_plan(self.path / PLAN, self.path))

    def run_folder(self, run: str) -> Path:
        """Of a trial's run."""
        return self.path / run

    def take(self) -> None:
        """Makes the folder, where there is none, and takes it until :meth:`give_back`, or the process ends.

        Raises:
            FolderInUseError: another process works on this search.
            UserError: the folder is something else's, or cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.exists and any(entry.name != LOCK for entry in self.path.iterdir()):
                raise UserError(f"{self.path} is there and holds no search: give the search another name")
            self._lock = open_to_append(self.path / LOCK)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in (RECORDS, LOGS, PROCESSES):
                refuse_link(self.path / folder, folder=True)
                (self.path / folder).mkdir(exist_ok=True)
        except BlockingIOError:
            raise FolderInUseError(
                f"another process works on search {self.name} in {self.path}: wait for it, or stop it; "
                f"`archer search show {self.name}` shows how far it is"
            ) from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror}): set OUTPUT_DIR to another") from None

    def give_back(self) -> None:
        """Lets another process have it."""
        if self._lock is not None:
            self._lock.close()

    def keep(self, plan: Plan) -> None:
        """Writes the plan down."""
        write_atomically(self.path / PLAN, plan_text(plan))

    def keep_record(self, run: str, text: str) -> None:
        """Writes a trial's experiment down."""
        write_atomically(self.path / RECORDS / f"{run}.yaml", text)

    def last_words(self, run: str) -> str:
        """The last line of a run's output; empty where there is none."""
        from recipes.archer.reading.regular import read_bytes

        try:
            lines = read_bytes(self.path / LOGS / f"{run}.log", inside=self.path).decode(errors="replace").split("\n")
        except UnreadableError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
