"""What is on disk of an evaluation that was interrupted is what it goes on with, whatever the interruption tore."""

import errno
import json

import pytest

from recipes.archer.ending import DISK, DiskFullError, UserError
from recipes.archer.evaluation.responses import RESPONSES, SCORES, Response, ResponseFile, rewrite_scores, write_result

PLACES = {("a", 0): None, ("a", 1): None, ("b", 0): None, ("b", 1): None}.keys()


def row(question: str, sample: int, text: str = "so \\boxed{1}\n") -> Response:
    return Response(question, "ab".index(question), sample, text, 5, True, "correct", "1")


ALL = [row("b", 1), row("a", 1, "²\ud800\u2028"), row("a", 0), row("b", 0)]


def written(folder) -> bytes:
    with ResponseFile(folder, PLACES) as file:
        file.append([row for row in ALL if (row.question, row.sample) not in file.rows])
        assert len(file.finish()) == 4
    return (folder / RESPONSES).read_bytes()


def test_cut_at_any_byte_it_ends_with_the_same_file(tmp_path):
    with ResponseFile(tmp_path / "cut", PLACES) as file:
        file.append(ALL)
    content, whole = (tmp_path / "cut" / RESPONSES).read_bytes(), written(tmp_path / "whole")
    assert [json.loads(line)["sample"] for line in whole.splitlines()] == [0, 1, 0, 1]
    for length in range(0, len(content), 7):
        (tmp_path / "cut" / RESPONSES).write_bytes(content[:length])
        assert written(tmp_path / "cut") == whole


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 50 + b"\n",
        b'{"question": "a"}\n',
        b"[1]\n",
        b'{"question": "a", "row": 0, "sample": true, "text": "", "tokens": 1, "ended": true, "outcome": "wrong", '
        b'"answer": null}\n',
        b'{"question": "c", "row": 0, "sample": 0, "text": "", "tokens": 1, "ended": true, "outcome": "wrong", '
        b'"answer": null}\n',
        b'{"question": "a", "row": 0, "sample": 0, "text": "", "tokens": 1, "ended": true, "outcome": "fine", '
        b'"answer": null}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_that_is_not_this_evaluations_is_left_out(tmp_path, damage):
    whole = written(tmp_path / "whole")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / RESPONSES).write_bytes(damage + whole[: whole.index(b"\n") + 1] + damage)
    assert written(tmp_path / "damaged") == whole


def test_only_one_process_writes_into_a_folder(tmp_path):
    with ResponseFile(tmp_path, PLACES), pytest.raises(UserError, match="another process"):
        ResponseFile(tmp_path, PLACES)
    ResponseFile(tmp_path, PLACES).__exit__()


def test_a_full_disk_costs_nothing_that_was_there(tmp_path):
    class Full:
        def __init__(self, file):
            self.file, self.room = file, 200

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken, self.room = data[: self.room], self.room - len(data[: self.room])
            return self.file.write(taken)

        def __getattr__(self, name):
            return getattr(self.file, name)

    with ResponseFile(tmp_path, PLACES) as file:
        file._file = Full(file._file)
        with pytest.raises(DiskFullError, match="start the same command again") as raised:
            file.append(ALL)
        assert raised.value.exit_code == DISK
    lines = (tmp_path / RESPONSES).read_bytes()
    assert lines.count(b"\n") == 1 and lines.endswith(b"\n")
    assert written(tmp_path) == written(tmp_path / "other")


def test_a_folder_that_cannot_be_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*name another folder"):
        ResponseFile(tmp_path / "file" / "folder", PLACES)


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    """Also of what is finished, whose scores are written again where it is compared; nothing else is."""
    whole = written(tmp_path)
    torn = [tmp_path / f".{name}.4194305.tmp" for name in (RESPONSES, SCORES)]
    kept = tmp_path / ".notes.4194305.tmp"
    for begin in (lambda: written(tmp_path), lambda: rewrite_scores(tmp_path, {})):
        for path in (*torn, kept):
            path.write_bytes(whole[:20])
        begin()
        assert {path.name for path in tmp_path.iterdir()} - {SCORES} == {RESPONSES, kept.name}


def test_a_disk_that_has_no_room_for_a_result_is_said_in_one_line(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recipes.archer.evaluation.responses.write_atomically", full)
    with pytest.raises(DiskFullError, match="the disk is full; the responses so far are kept"):
        write_result(tmp_path / "sums.png", b"picture")
