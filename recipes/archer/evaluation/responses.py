"""The responses of an evaluation on disk: a line each as they come, in their order once all are there."""

import fcntl
import io
import json
import os
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from recipes.archer.ending import DiskFullError, UserError
from recipes.archer.files import is_full, open_to_append, write_atomically
from recipes.archer.grading.grades import OUTCOMES
from recipes.archer.reading.json import parse_json
from recipes.archer.reading.regular import TABLE, DamagedError, read_bytes

RESPONSES, SCORES = "responses.jsonl", "scores.json"
Place = tuple[str, int]  # question and sample


@dataclass(frozen=True)
class Response:
    """One response and its grade.

    Attributes:
        question: key of its question.
        row: of the question in its file, from 0.
        sample: which of the n, from 0.
        text: without special tokens.
        tokens: how many, with the one that ended it.
        ended: whether a stop token did; otherwise it was cut at the cap.
        outcome: the grader's.
        answer: what was graded; None without one.
    """

    question: str
    row: int
    sample: int
    text: str
    tokens: int
    ended: bool
    outcome: str
    answer: str | None

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"


class ResponseFile:
    """``responses.jsonl`` in a folder that one process at a time writes to; a context manager.

    Args:
        folder: of the evaluation; made if absent.
        wanted: the places that the evaluation has; lines of others, and torn ones, are left out.

    Raises:
        UserError: another process is writing there, or the folder cannot be made.
        DiskFullError: there is no room.
    """

    def __init__(self, folder: Path, wanted: Set[Place]):
        self.folder, self.path = folder, folder / RESPONSES
        self.rows: dict[Place, Response] = {}
        self._file: io.FileIO | None = None
        self._held = _hold(folder)
        try:
            self._open(wanted)
        except OSError as error:
            os.close(self._held)
            raise _refused(self.folder, error) from None

    def __enter__(self) -> "ResponseFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        os.close(self._held)

    def append(self, rows: Iterable[Response]) -> None:
        """Writes responses to the disk; with them, or with a part of them, the file is good to continue with.

        Raises:
            DiskFullError: there is no room.
            UserError: the disk refuses otherwise.
        """
        assert self._file is not None  # until finish
        for row in rows:
            line = memoryview((_line(row) + "\n").encode())
            start = self._file.tell()
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError as error:
                with suppress(OSError):
                    self._file.truncate(start)
                raise _refused(self.folder, error) from None
            self.rows[row.question, row.sample] = row

    def finish(self) -> list[Response]:
        """Puts the responses in their order; returns them.

        Raises:
            DiskFullError, UserError: as :meth:`append`.
        """
        rows = sorted(self.rows.values(), key=lambda row: (row.row, row.sample))
        text = "".join(_line(row) + "\n" for row in rows)
        try:
            if read_bytes(self.path, TABLE) != text.encode():
                write_atomically(self.path, text)
        except OSError as error:
            raise _refused(self.folder, error) from None
        return rows

    def _open(self, wanted: Set[Place]) -> None:
        content = read_bytes(self.path, TABLE) if os.path.lexists(self.path) else b""
        lines = content.splitlines(keepends=True)
        kept = []
        for line in lines:
            row = _parsed(line)
            if row is not None and (place := (row.question, row.sample)) in wanted and place not in self.rows:
                self.rows[place] = row
                kept.append(line)
        if len(kept) < len(lines):  # torn by a kill, or not ours
            write_atomically(self.path, b"".join(kept).decode())
        self._file = open_to_append(self.path)  # open as long as the evaluation


def write_scores(folder: Path, scores: dict[str, Any]) -> None:
    """Writes ``scores.json``, by which the evaluation in a folder is known to be finished.

    Raises:
        DiskFullError: there is no room.
        UserError: the disk refuses otherwise.
    """
    write_result(folder / SCORES, json.dumps(scores, indent=1) + "\n")


def write_result(path: Path, content: str | bytes) -> None:
    """Writes a file of results, whole or not at all.

    Raises:
        DiskFullError, UserError: as :func:`write_scores`.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise _refused(path.parent, error) from None


def rewrite_scores(folder: Path, scores: dict[str, Any]) -> None:
    """Replaces the scores of a finished evaluation.

    Raises:
        UserError: as :class:`ResponseFile`.
        DiskFullError: there is no room.
    """
    held = _hold(folder)
    try:
        write_scores(folder, scores)
    finally:
        os.close(held)


def _hold(folder: Path) -> int:
    """A descriptor of the folder, made if absent, while which is open no other process writes there.

    What a process that was killed had half written is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in (RESPONSES, SCORES):
            for torn in folder.glob(f".{name}.*.tmp"):
                torn.unlink()
    except BlockingIOError:
        os.close(held)
        raise UserError(f"{folder}: another process is evaluating into it; wait for it to end") from None
    except OSError as error:
        os.close(held)
        raise _refused(folder, error) from None
    return held


def _refused(folder: Path, error: OSError) -> UserError:
    if is_full(error):
        return DiskFullError(
            f"{folder}: the disk is full; the responses so far are kept: make room, then start the same command again"
        )
    return UserError(f"{folder} cannot be written ({error.strerror}): name another folder with --out")


def _line(row: Response) -> str:
    return json.dumps(asdict(row))


def _parsed(line: bytes) -> Response | None:
    """The response of a line that this file's writer wrote whole; None of any other."""
    try:
        content = parse_json(line, "a response")
        row = Response(**{field.name: content[field.name] for field in fields(Response)})
    except (DamagedError, ValueError, KeyError, TypeError):
        return None
    texts = isinstance(row.question, str) and isinstance(row.text, str) and isinstance(row.answer, str | None)
    numbers = all(type(value) is int and value >= 0 for value in (row.row, row.sample, row.tokens))
    whole = line.endswith(b"\n") and texts and numbers and isinstance(row.ended, bool) and row.outcome in OUTCOMES
    return row if whole else None
