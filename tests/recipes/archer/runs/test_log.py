"""Writing a run folder: rows, provenance, samples, the lock, and going on after a kill."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipes.archer import main
from recipes.archer.cluster.job import FINAL_CODES
from recipes.archer.ending import DISK, FINISHED, FOLDER, TERMINATED, WRONG_CALL, Ending, UserError
from recipes.archer.files import LinkError
from recipes.archer.runs import log as log_module
from recipes.archer.runs.history import go_on_after
from recipes.archer.runs.log import RunLog, open_notes
from recipes.archer.runs.times import seconds_at_work
from recipes.archer.startup.opening import take_folder

ROOT = Path(__file__).resolve().parents[4]
CONFIG = OmegaConf.create({"seed": 1, "trainer": {"name": "a", "folder": "output/${trainer.name}"}})
FACTS = {"project": "p", "name": "a", "seed": 1, "device": "cpu", "world_size": 1}


def _start(folder: Path, last_step: int = 0) -> RunLog:
    log = RunLog(folder)
    log.open(CONFIG, FACTS, last_step)
    return log


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _run(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_each_row_is_on_disk_at_once(tmp_path):
    log = _start(tmp_path)
    log.write({"step": 1, "actor/entropy": 0.5, "val/accuracy": None, "actor/grad_norm": math.nan})
    assert _lines(tmp_path)[0]["val/accuracy"] is None
    assert math.isnan(_lines(tmp_path)[0]["actor/grad_norm"])
    log.write({"step": 2, "actor/entropy": 0.4})
    assert [row["step"] for row in _lines(tmp_path)] == [row["step"] for row in log.rows()] == [1, 2]


def test_run_json_says_what_ran_and_how_it_ended(tmp_path):
    log = _start(tmp_path)
    running = _run(tmp_path)
    assert [running[key] for key in ("status", "reason", "exit_code", "finished")] == ["running", None, None, None]
    assert running | FACTS == running
    assert running["versions"]["torch"] and running["versions"]["python"].startswith("3.")
    assert (running["git"] is not None) == (ROOT / ".git").exists()
    log.note(val_before={"val/accuracy": 0.1})
    log.write({"step": 1})
    log.close(Ending("finished", "all 1 steps done", FINISHED))
    ended = _run(tmp_path)
    assert (ended["status"], ended["exit_code"], ended["steps"]) == ("finished", 0, 1)
    assert ended["val_before"] == {"val/accuracy": 0.1}
    assert ended["started"] <= ended["finished"]


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert log_module.provenance()["git"] is None


def test_config_is_resolved(tmp_path):
    _start(tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").trainer.folder == "output/a"


def test_going_on_drops_what_will_be_done_again(tmp_path):
    first = _start(tmp_path)
    first.note(val_before={"val/accuracy": 0.1})
    for step in range(1, 6):
        first.write({"step": step, "attempt": 1})
        first.samples(step, [{"step": step, "response": "ä"}])
    first.close(Ending("stopped", "SIGTERM received", TERMINATED))
    started = _run(tmp_path)["started"]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "att')  # torn by a kill

    second = _start(tmp_path, last_step=3)
    assert [row["step"] for row in _lines(tmp_path)] == [1, 2, 3]
    second.write({"step": 4, "attempt": 2})
    assert [row["attempt"] for row in _lines(tmp_path)] == [1, 1, 1, 2]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step_1.jsonl", "step_2.jsonl", "step_3.jsonl"]
    run = _run(tmp_path)
    assert (run["attempts"], run["status"], run["reason"], run["exit_code"]) == (2, "running", None, None)
    assert run["started"] == started
    assert run["val_before"] == {"val/accuracy": 0.1}  # it is measured once, before the first step


def test_a_new_run_in_the_folder_starts_empty(tmp_path):
    first = _start(tmp_path)
    first.write({"step": 1})
    first.note(val_before={"val/accuracy": 0.1})
    first.close(Ending("finished", "done", FINISHED))
    _start(tmp_path)
    assert _lines(tmp_path) == []
    assert _run(tmp_path)["attempts"] == 1
    assert "val_before" not in _run(tmp_path)


def test_a_restart_in_this_process_goes_on_with_what_it_knows(tmp_path):
    log = _start(tmp_path)
    started = log.run["started"]
    for step in (1, 2, 3):
        log.write({"step": step, "attempt": 1})
    log.note(restarts=[{"step": 3}])
    log.open(CONFIG, FACTS, 0)  # there was no checkpoint
    log.write({"step": 1, "attempt": 2})
    assert _lines(tmp_path) == [{"step": 1, "attempt": 2}]
    run = _run(tmp_path)
    assert (run["attempts"], run["started"], run["restarts"]) == (2, started, [{"step": 3}])


def test_the_time_between_two_attempts_is_not_counted(tmp_path, monkeypatch):
    """Two hours, stopped for the night; one hour, killed half an hour after its last row; then again."""
    clock = [datetime(2026, 1, 1, 18, tzinfo=UTC)]
    monkeypatch.setattr(log_module, "now", lambda: clock[0].isoformat())

    def later(hours):
        clock[0] += timedelta(hours=hours)

    first = _start(tmp_path)
    first.write({"step": 1})
    later(2)
    first.close(Ending("stopped", "SIGTERM received", TERMINATED))
    later(12)
    second = _start(tmp_path, last_step=1)
    assert (_run(tmp_path)["earlier_s"], _run(tmp_path)["started"][:13]) == (7200, "2026-01-01T18")
    second.write({"step": 2})
    second._lock.close()  # killed
    later(1)
    for name in ("metrics.jsonl", "run.json"):
        os.utime(tmp_path / name, (clock[0].timestamp(), clock[0].timestamp()))
    later(5)
    third = _start(tmp_path, last_step=1)
    later(0.5)
    third.close(Ending("finished", "done", FINISHED))
    assert _run(tmp_path)["earlier_s"] == 3 * 3600
    assert seconds_at_work(_run(tmp_path)) == 3.5 * 3600


@pytest.mark.parametrize("ending", [None, Ending("stopped", "SIGTERM received", TERMINATED)])
def test_a_run_that_begins_again_before_its_first_checkpoint_keeps_its_time(tmp_path, monkeypatch, ending):
    begun = datetime(2026, 1, 1, 18, tzinfo=UTC)
    monkeypatch.setattr(log_module, "now", lambda: begun.isoformat())
    first = _start(tmp_path)
    first.note(val_before={"val/accuracy": 0.1}, restarts=[{"step": 0}])
    first.write({"step": 1})
    monkeypatch.setattr(log_module, "now", lambda: (begun + timedelta(hours=2)).isoformat())
    first.close(ending) if ending else first._lock.close()
    for name in ("metrics.jsonl", "run.json"):
        os.utime(tmp_path / name, (begun.timestamp() + 7200,) * 2)
    monkeypatch.setattr(log_module, "now", lambda: (begun + timedelta(hours=9)).isoformat())
    _start(tmp_path)
    run = _run(tmp_path)
    assert (run["attempts"], run["earlier_s"], run["started"]) == (2, 7200, begun.isoformat())
    assert run["restarts"] == [{"step": 0}] and "val_before" not in run and _lines(tmp_path) == []


@pytest.mark.parametrize("other", [{"seed": 2}, {"name": "b"}, {"last_checkpoint": 5}, {"exit_code": 20}])
def test_another_run_in_the_folder_has_its_own_time(tmp_path, other):
    first = _start(tmp_path)
    first.note(attempt_started="2026-01-01T00:00:00+00:00", **other)
    first._lock.close()
    _start(tmp_path)
    assert (_run(tmp_path)["attempts"], _run(tmp_path)["earlier_s"]) == (1, 0)


def test_a_restart_in_this_process_is_time_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "now", lambda: datetime.fromtimestamp(1e9, UTC).isoformat())
    log = _start(tmp_path)
    monkeypatch.setattr(log_module.time, "time", lambda: 1e9 + 600)
    log.open(CONFIG, FACTS, 0)
    assert _run(tmp_path)["earlier_s"] == 600


def test_an_ending_is_recorded_while_the_folder_is_still_held(tmp_path, impatient):
    log = _start(tmp_path)
    log.ended(Ending("stopped", "SIGTERM received", TERMINATED))
    assert _run(tmp_path)["exit_code"] == TERMINATED
    with pytest.raises(UserError, match="another run is using"):
        RunLog(tmp_path)


def test_a_damaged_run_json_does_not_stop_the_next_attempt(tmp_path):
    _start(tmp_path).close(Ending("stopped", "", TERMINATED))
    (tmp_path / "run.json").write_text('{"attem')
    log = _start(tmp_path, last_step=1)
    assert log.run["attempts"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"step": 1}\n{"step": 2}\n{"ste',
        '{"step": 1}\n{"step": 2}',
        '{"step": 1}\n\n{"step": 2}\n3\n{"other": 1}\n{"step": null}\n{"step": 9}\n',
    ],
)
def test_rows_up_to_a_step(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert go_on_after(tmp_path, 2) == ([1, 2] if text else [])
    assert path.read_text() == ('{"step": 1}\n{"step": 2}\n' if text else "")


def test_a_torn_row_may_hold_any_bytes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "a\xff\x00\x80')
    assert go_on_after(tmp_path, 2) == [1]
    assert path.read_text() == '{"step": 1}\n'


def test_notes_are_not_worth_a_run():
    with open_notes(Path("/dev/full")) as notes:
        print("x" * 100_000, file=notes, flush=True)


def test_no_file_yet(tmp_path):
    assert go_on_after(tmp_path, 5) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def impatient(monkeypatch):
    """A clock on which waiting takes no time."""
    now = [0.0]
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(log_module.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))


def test_a_second_run_is_refused_while_the_first_lives(tmp_path, impatient):
    first = _start(tmp_path)
    first.write({"step": 1})
    with pytest.raises(UserError, match=rf"another run is using {tmp_path}; .*trainer.experiment_name"):
        RunLog(tmp_path)
    assert [row["step"] for row in _lines(tmp_path)] == [1]
    first.close(Ending("finished", "done", FINISHED))
    RunLog(tmp_path)


@pytest.mark.parametrize(
    ("refusal", "code", "said"),
    [
        (None, FOLDER, "another run is using "),
        (OSError(errno.ENOLCK, "No locks available"), FOLDER, "[Errno 37] No locks available"),
        (OSError(errno.ENOSPC, "No space left on device"), DISK, "[Errno 28] No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), WRONG_CALL, "[Errno 13] Permission denied"),
    ],
)
def test_a_folder_that_cannot_be_had_is_one_line_and_may_be_tried_again_where_that_helps(
    tmp_path, monkeypatch, capsys, impatient, refusal, code, said
):
    """The pod that a cluster replaces may hold it for a while."""
    first = _start(tmp_path)
    if refusal is not None:
        monkeypatch.setattr(log_module.fcntl, "flock", lambda *_: (_ for _ in ()).throw(refusal))
    monkeypatch.setattr(main, "_open", lambda config: take_folder(tmp_path))
    assert main.run(CONFIG) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")
    assert FOLDER not in FINAL_CODES and DISK in FINAL_CODES
    first._lock.close()


HOLDER = """
import sys, time
from recipes.archer.runs.log import RunLog
log = RunLog(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_does_not_outlive_its_holder(tmp_path, impatient):
    """Held by another process, refused; that process killed without a chance to clean up, taken at once."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run is using"):
            RunLog(tmp_path)
        holder.send_signal(signal.SIGKILL)
    _start(tmp_path).write({"step": 1})
    assert (tmp_path / ".lock").exists()
    assert [row["step"] for row in _lines(tmp_path)] == [1]


def test_samples_are_one_object_a_line(tmp_path):
    log = _start(tmp_path)
    rows = [{"step": 3, "response": "one\ntwo\u2028ゆ", "answer": None}, {"step": 3, "response": "", "answer": "4"}]
    log.samples(3, rows)
    lines = (tmp_path / "samples" / "step_3.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == ""


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", "config.yaml", "samples", "setup.log", ".lock", "wandb"])
def test_a_run_does_not_write_through_the_links_of_a_folder(tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "theirs").write_text("kept")
    (folder / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(LinkError, match=f"{name} is a link"):
        RunLog(folder)
    assert (tmp_path / "theirs").read_text() == "kept"
    with pytest.raises(LinkError, match="is a link"):
        open_notes(folder / name)


@pytest.mark.parametrize("earlier", [{"attempts": "x", "all_saves_s": [], "restarts": 3}, [], "torn"])
def test_what_an_earlier_attempt_left_is_data(tmp_path, earlier):
    (tmp_path / "run.json").write_text("{" if earlier == "torn" else json.dumps(earlier))
    log = RunLog(tmp_path)
    log.open(OmegaConf.create({}), {}, 3)
    assert log.run["attempts"] == 1 and not {"all_saves_s", "restarts"} & log.run.keys()
