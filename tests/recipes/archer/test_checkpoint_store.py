"""Checkpoints on disk: whole or not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.archer.checkpoint_store import CheckpointStore, read, verify, write_atomically


def _save(store: CheckpointStore, step: int):
    partial = store.begin(step)
    (partial / "weights.bin").write_bytes(bytes(range(256)) * 4)
    (partial / "model_config").mkdir()
    (partial / "model_config" / "config.json").write_text('{"a": 1}')
    return store.commit(partial, step, {"step": step, "stream": {"position": 3 * step}})


def _steps(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def test_what_was_saved_is_found(tmp_path):
    store = CheckpointStore(tmp_path / "run", keep_last=3)
    path = _save(store, 20)
    checkpoint, skipped = store.newest_whole()
    assert (checkpoint.path, checkpoint.step, skipped) == (path, 20, [])
    assert checkpoint.state == {"step": 20, "stream": {"position": 60}}
    assert read(path) == checkpoint
    assert (path / "model_config" / "config.json").read_text() == '{"a": 1}'
    assert (tmp_path / "run" / "latest_checkpointed_iteration.txt").read_text() == "20"


def test_nothing_saved_yet(tmp_path):
    assert CheckpointStore(tmp_path / "absent").newest_whole() == (None, [])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a missing file": (lambda p: (p / "weights.bin").unlink(), "weights.bin is missing"),
    "a missing file further down": (
        lambda p: (p / "model_config/config.json").unlink(),
        "model_config/config.json is missing",
    ),
    "a truncated file": (
        lambda p: os.truncate(p / "weights.bin", 1000),
        "weights.bin has 1000 bytes instead of 1024",
    ),
    "an altered bit": (lambda p: _flip(p / "weights.bin"), "weights.bin does not have the hash it was written with"),
    "a file that became empty": (lambda p: (p / "state.json").write_text(""), "state.json has 0 bytes instead of"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing, so it was never finished"),
    "a torn manifest": (lambda p: os.truncate(p / "manifest.json", 40), "manifest.json is damaged"),
    "a manifest of zeros": (lambda p: (p / "manifest.json").write_bytes(bytes(300)), "manifest.json is damaged"),
    "a manifest that is a list": (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    "a manifest without files": (lambda p: (p / "manifest.json").write_text("{}"), "manifest.json is damaged"),
    "a manifest without hashes": (
        lambda p: (p / "manifest.json").write_text('{"files": {"state.json": {"size": 3}}}'),
        "manifest.json is damaged",
    ),
    "a manifest without the state": (
        lambda p: (p / "manifest.json").write_text('{"files": {}}'),
        "manifest.json does not list state.json",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, kind):
    store = CheckpointStore(tmp_path)
    _save(store, 9)
    newest = _save(store, 10)  # by number, not by name: global_step_9 sorts after it
    damage, problem = DAMAGE[kind]
    assert verify(newest) is None
    damage(newest)
    checkpoint, skipped = store.newest_whole()
    assert checkpoint.step == 9
    assert len(skipped) == 1
    assert skipped[0].startswith(f"skipped checkpoint {newest}: {problem}")
    with pytest.raises(ValueError, match=problem.split(",")[0]):
        read(newest)


def test_nothing_whole_is_left(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        (_save(store, step) / "weights.bin").unlink()
    checkpoint, skipped = store.newest_whole()
    assert checkpoint is None
    named = [line.split(":")[0] for line in skipped]
    assert named == [f"skipped checkpoint {tmp_path}/global_step_{step}" for step in (2, 1)]


def test_the_last_ones_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2)
    for step in (8, 9, 10, 11):
        _save(store, step)
    assert _steps(tmp_path) == ["global_step_10", "global_step_11"]
    assert store.newest_whole()[0].step == 11


def test_what_a_run_just_saved_outlives_the_attempt_it_went_back_behind(tmp_path):
    """Resumed at 20 of a run that had gone on to 80: its own checkpoints count, the later ones are gone."""
    for step in (20, 40, 60, 80):
        _save(CheckpointStore(tmp_path, keep_last=9), step)
    store = CheckpointStore(tmp_path, keep_last=3)
    _save(store, 30)
    assert store.newest_whole()[0].step == 30
    assert _steps(tmp_path) == ["global_step_20", "global_step_30"]


def test_a_step_saved_again_replaces_the_first(tmp_path):
    store = CheckpointStore(tmp_path)
    first = _save(store, 5)
    (first / "weights.bin").write_bytes(b"old")
    _save(store, 5)
    assert store.newest_whole()[0].step == 5
    assert _steps(tmp_path) == ["global_step_5"]


def test_leftovers_of_an_interrupted_save_are_not_seen_and_then_removed(tmp_path):
    store = CheckpointStore(tmp_path)
    _save(store, 1)
    interrupted = store.begin(2)
    (interrupted / "weights.bin").write_bytes(b"half")
    assert store.newest_whole()[0].step == 1
    _save(store, 3)
    assert _steps(tmp_path) == ["global_step_1", "global_step_3"]
    again = store.begin(4)
    (again / "weights.bin").write_bytes(b"half")
    assert list(store.begin(4).iterdir()) == []


KILLED = """
import os, sys
from recipes.archer import checkpoint_store
from recipes.archer.checkpoint_store import CheckpointStore
store, calls = CheckpointStore(sys.argv[1]), [0]

def dying(function):
    def call(*arguments, **keywords):
        calls[0] += 1
        if calls[0] == int(sys.argv[2]):
            os._exit(9)
        return function(*arguments, **keywords)
    return call

os.replace, os.fsync = dying(os.replace), dying(os.fsync)
partial = store.begin(2)
(partial / "weights.bin").write_bytes(b"x" * 100)
store.commit(partial, 2, {"step": 2})
print("done", calls[0])
"""


def test_a_kill_at_any_point_of_a_save_leaves_a_whole_newest_checkpoint(tmp_path):
    """At every flush and rename of the commit, one process each (0.1 s): there is no moment without a checkpoint."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    for point in range(1, 40):
        folder = tmp_path / str(point)
        _save(CheckpointStore(folder), 1)
        command = [sys.executable, "-c", KILLED, str(folder), str(point)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        checkpoint, skipped = CheckpointStore(folder).newest_whole()
        assert skipped == []
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
        assert checkpoint.step in (1, 2)
    assert point > 5
    assert checkpoint.step == 2


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trainer.keep_last=0: keep at least 1 checkpoint"):
        CheckpointStore(tmp_path, keep_last=0)


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "pointer.txt"
    write_atomically(path, "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, "2")
    assert path.read_text() == "1"
    write_atomically(path, json.dumps({"step": 2}))
    assert json.loads(path.read_text()) == {"step": 2}
