"""Checkpoints on disk: whole or not there."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashing import Crash, Crashing
from recipes.archer.checkpoints.manifest import problem_of
from recipes.archer.checkpoints.reading import read
from recipes.archer.checkpoints.store import BestBy, CheckpointStore
from recipes.archer.ending import UserError
from recipes.archer.files import write_atomically

ACCURACY = BestBy("val/accuracy")


def _save(store: CheckpointStore, step: int, row: dict | None = None, **state):
    partial = store.begin(step)
    (partial / "weights.bin").write_bytes(bytes(range(256)) * 4)
    (partial / "model_config").mkdir()
    (partial / "model_config" / "config.json").write_text('{"a": 1}')
    path = store.commit(partial, step, {"step": step, "stream": {"position": 3 * step}, **state, "row": row})
    store.settle(step)
    return path


def _steps(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def test_what_was_saved_is_found(tmp_path):
    store = CheckpointStore(tmp_path / "run", keep_last=3)
    path = _save(store, 20)
    checkpoint, skipped = store.newest_whole()
    assert (checkpoint.path, checkpoint.step, skipped) == (path, 20, [])
    assert checkpoint.state == {"step": 20, "stream": {"position": 60}, "row": None}
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
    "a manifest that is a list": (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json is no JSON object"),
    "a manifest without files": (lambda p: (p / "manifest.json").write_text("{}"), "manifest.json is damaged"),
    "a manifest without hashes": (
        lambda p: (p / "manifest.json").write_text('{"format": 2, "files": {"state.json": {"size": 3}}}'),
        "manifest.json is damaged",
    ),
    "a manifest without the state": (
        lambda p: (p / "manifest.json").write_text('{"format": 2, "files": {}}'),
        "manifest.json does not list state.json",
    ),
    "a folder in the place of a file": (
        lambda p: (p / "manifest.json").unlink() or (p / "manifest.json").mkdir(),
        "manifest.json is no regular file",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, kind):
    store = CheckpointStore(tmp_path)
    _save(store, 9)
    newest = _save(store, 10)  # by number, not by name: global_step_9 sorts after it
    damage, problem = DAMAGE[kind]
    assert problem_of(newest) is None
    damage(newest)
    checkpoint, skipped = store.newest_whole()
    assert checkpoint.step == 9
    assert len(skipped) == 1
    assert skipped[0].startswith(f"skipped checkpoint {newest}: {problem}")
    with pytest.raises(ValueError, match=re.escape(problem.split(",")[0])):
        read(newest)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_goes_unnoticed(data):
    """A bit, a byte cut off, a file gone, anywhere: the one before is taken, or all that counts is unharmed."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        _save(store, 9)
        newest = _save(store, 10)
        file = data.draw(st.sampled_from(sorted(p for p in newest.rglob("*") if p.is_file())))
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["bit", "cut", "gone"]))
        if kind == "bit":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(content)
        elif kind == "cut":
            os.truncate(file, place)
        else:
            file.unlink()
        expected = {"step": 10, "stream": {"position": 30}, "row": None}
        try:
            checkpoint, skipped = store.newest_whole()
        except UserError as refusal:  # the bit was in the number of the format
            assert file.name == "manifest.json" and "has format" in str(refusal)
            return
        if checkpoint.step == 10:
            assert file.name == "manifest.json" and (checkpoint.state, skipped) == (expected, [])
            assert (newest / "weights.bin").read_bytes() == bytes(range(256)) * 4
        else:
            assert checkpoint.step == 9 and skipped[0].startswith(f"skipped checkpoint {newest}: ")


def test_what_a_later_version_wrote_is_refused_and_not_passed_over(tmp_path):
    """Passed over, an older one would be continued, and this one removed at the next save."""
    store = CheckpointStore(tmp_path)
    _save(store, 1)
    newest = _save(store, 2)
    manifest = json.loads((newest / "manifest.json").read_text())
    (newest / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match=f"checkpoint {newest} has format 99, this code reads up to 3: continue with"):
        store.newest_whole()


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


@pytest.mark.parametrize("kind", ["link", "cannot be removed"])
def test_an_abandoned_one_that_stays_on_the_disk_never_comes_back(tmp_path, monkeypatch, kind):
    folder, elsewhere, rmtree = tmp_path / "run", tmp_path / "elsewhere", shutil.rmtree
    abandoned = _save(CheckpointStore(folder), 60)
    if kind == "link":  # moved to a larger disk by hand
        abandoned.rename(elsewhere)
        abandoned.symlink_to(elsewhere)
    else:
        monkeypatch.setattr(shutil, "rmtree", lambda path, **_: "60" in Path(path).name or rmtree(path))
    store = CheckpointStore(folder, keep_last=1)
    for step in (30, 40, 50):  # 30 makes room for 40
        _save(store, step)
        assert store.newest_whole()[0].step == step
    assert "global_step_60" not in _steps(folder)
    assert read(elsewhere).step == 60 if kind == "link" else any("60" in name for name in _steps(folder))


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


def test_of_equal_values_the_first_is_the_best_and_others_make_room(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2, best_by=ACCURACY)
    for step, accuracy in enumerate((0.3, 0.7, 0.5, 0.7, None, math.nan, 0.6), start=1):
        _save(store, step, {"val/accuracy": accuracy, "actor/entropy": 9.0})
    assert _steps(tmp_path) == ["global_step_2", "global_step_6", "global_step_7"]
    assert (tmp_path / "best_checkpoint.txt").read_text() == "global_step_2\n"
    store = CheckpointStore(tmp_path, keep_last=2, best_by=ACCURACY)  # a resumed run finds it on disk
    _save(store, 8, {"val/accuracy": 0.8})
    assert _steps(tmp_path) == ["global_step_7", "global_step_8"]
    assert (tmp_path / "best_checkpoint.txt").read_text() == "global_step_8\n"


def test_the_least_may_be_the_best(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, best_by=BestBy("actor/kl_loss", "min"))
    for step, value in ((1, 0.5), (2, -1.0), (3, 0.1), (4, math.inf)):
        _save(store, step, {"actor/kl_loss": value})
    assert _steps(tmp_path) == ["global_step_2", "global_step_4"]


def test_a_best_one_that_is_damaged_does_not_count(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, best_by=ACCURACY)
    best = _save(store, 1, {"val/accuracy": 0.9})
    _save(store, 2, {"val/accuracy": 0.5})
    os.truncate(best / "weights.bin", 3)
    _save(store, 3, {"val/accuracy": 0.4})
    assert (tmp_path / "best_checkpoint.txt").read_text() == "global_step_2\n"
    assert _steps(tmp_path) == ["global_step_2", "global_step_3"]


def test_without_a_best_one_no_pointer_is_left(tmp_path):
    _save(CheckpointStore(tmp_path, 1, ACCURACY), 1, {"val/accuracy": 0.5})
    _save(CheckpointStore(tmp_path, 1), 2, {"val/accuracy": 0.4})
    assert not (tmp_path / "best_checkpoint.txt").exists()
    assert _steps(tmp_path) == ["global_step_2"]


def test_damaged_ones_do_not_push_whole_ones_out(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2)
    for step in (1, 2, 3):
        (_save(store, step) / "weights.bin").unlink() if step > 1 else _save(store, step)
    _save(store, 4)
    assert _steps(tmp_path) == [f"global_step_{step}" for step in (1, 2, 3, 4)]
    _save(store, 5)
    assert _steps(tmp_path) == ["global_step_4", "global_step_5"]


VALUES = st.sampled_from([None, math.nan, 0.1, 0.2, 0.3, 1])


@settings(max_examples=40, deadline=None)
@given(
    saves=st.lists(st.tuples(st.integers(1, 9), VALUES), min_size=1, max_size=8),
    keep_last=st.integers(1, 3),
    mode=st.sampled_from(["max", "min"]),
)
def test_what_is_kept_whatever_the_order_of_saves(saves, keep_last, mode):
    """Steps may go back, as after a resume from an earlier checkpoint; each save by a store of its own."""
    kept: dict[int, float | None] = {}
    for_best = max if mode == "max" else min
    with tempfile.TemporaryDirectory() as folder:
        for step, value in saves:
            _save(CheckpointStore(Path(folder), keep_last, BestBy("m", mode)), step, {"m": value})
            kept = {s: v for s, v in kept.items() if s < step} | {step: value}
            finite = {s: v for s, v in kept.items() if v is not None and not math.isnan(v)}
            best = [s for s in sorted(finite) if finite[s] == for_best(finite.values())][:1]
            kept = {s: v for s, v in kept.items() if s in sorted(kept)[-keep_last:] + best}
            assert _steps(Path(folder)) == sorted(f"global_step_{s}" for s in kept)
            pointer = Path(folder) / "best_checkpoint.txt"
            assert (pointer.read_text() if pointer.exists() else None) == (f"global_step_{best[0]}\n" if best else None)


def _earlier(folder: Path, *steps: int) -> None:
    for step in steps:
        _save(CheckpointStore(folder, 9, ACCURACY), step, {"val/accuracy": 1 / step}, attempt=1)


# name: earlier steps, the step saved, what may be the newest afterwards
SCENES = {
    "the next step": ((1, 2), 3, {(2, 1), (3, 2)}),
    "the only step, again": ((5,), 5, {(5, 1), (5, 2)}),
    "a step, again": ((4, 5), 5, {(5, 1), (5, 2)}),
    "back behind later ones": ((20, 40, 60), 30, {(60, 1), (30, 2)}),
    "back behind later ones, at one of them": ((20, 40, 60), 40, {(60, 1), (40, 2)}),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_crash_between_any_two_calls_leaves_the_old_or_the_new_one(tmp_path, monkeypatch, scene):
    earlier, step, allowed = SCENES[scene]
    _earlier(tmp_path / "before", *earlier)
    for at in range(1, 200):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(at))
        with monkeypatch.context() as patch:
            crashing = Crashing(patch, at)
            try:
                _save(CheckpointStore(folder, 1, ACCURACY), step, {"val/accuracy": 0.01}, attempt=2)
                died = False
            except Crash:
                died = True
        checkpoint, skipped = CheckpointStore(folder).newest_whole()
        assert skipped == []
        assert (checkpoint.step, checkpoint.state["attempt"]) in allowed, f"call {at}"
        if scene == "the next step":
            best = folder / (folder / "best_checkpoint.txt").read_text().strip()
            assert read(best).state["row"]["val/accuracy"] == 1.0
        # and the run goes on, with nothing of the crash left behind
        _save(CheckpointStore(folder, 1), 70, attempt=3)
        left = sorted(p.name for p in folder.iterdir())
        assert left == ["global_step_70", "latest_checkpointed_iteration.txt"], f"call {at}"
        if not died:
            break
    assert not died and crashing.calls > 8, "the crash was never there"


def test_a_kill_in_the_middle_of_mending_loses_nothing(tmp_path, monkeypatch):
    """Two were put aside, then the process died, twice."""
    for at in range(1, 30):
        folder = tmp_path / str(at)
        _earlier(folder, 5, 80)
        for step, by in ((5, 5), (80, 5)):
            (folder / f"global_step_{step}").rename(folder / f".global_step_{step}.behind_{by}")
        with monkeypatch.context() as patch:
            Crashing(patch, at)
            try:
                CheckpointStore(folder).begin(90)
                died = False
            except Crash:
                died = True
        checkpoint, skipped = CheckpointStore(folder).newest_whole()
        assert (checkpoint.step, skipped) == (80, [])
        if not died:
            break
    assert _steps(folder) == [".global_step_90.partial", "global_step_5", "global_step_80"]


KILLED = """
import os, sys
from recipes.archer.checkpoints.store import CheckpointStore
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
store.settle(2)
print("done", calls[0])
"""


@pytest.mark.parametrize("pointer", ["latest_checkpointed_iteration.txt", "best_checkpoint.txt"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text(""), lambda path: path.write_text("7")])
def test_pointers_are_right_again_without_a_save(tmp_path, pointer, spoil):
    _earlier(tmp_path, 20, 40, 60)
    spoil(tmp_path / pointer)
    CheckpointStore(tmp_path, 1, ACCURACY).repair()
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "60"
    assert (tmp_path / "best_checkpoint.txt").read_text() == "global_step_20\n"
    assert _steps(tmp_path) == ["global_step_20", "global_step_40", "global_step_60"], "nothing makes room here"


@pytest.mark.parametrize("scene", SCENES)
def test_a_run_with_nothing_left_to_save_ends_what_a_crash_interrupted(tmp_path, monkeypatch, scene):
    earlier, step, allowed = SCENES[scene]
    _earlier(tmp_path / "before", *earlier)
    for at in range(1, 200):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(at))
        with monkeypatch.context() as patch:
            Crashing(patch, at)
            try:
                _save(CheckpointStore(folder, 9, ACCURACY), step, {"val/accuracy": 0.01}, attempt=2)
                died = False
            except Crash:
                died = True
        store = CheckpointStore(folder, 9, ACCURACY)
        store.repair()
        newest = store.newest_whole()[0]
        assert (newest.step, newest.state["attempt"]) in allowed
        assert (folder / "latest_checkpointed_iteration.txt").read_text() == str(newest.step), f"call {at}"
        assert (folder / (folder / "best_checkpoint.txt").read_text().strip()).is_dir()
        assert [p.name for p in folder.glob(".*")] == [], f"call {at}"
        if not died:
            break
    assert not died


def test_there_is_nothing_to_repair_in_a_folder_without_checkpoints(tmp_path):
    CheckpointStore(tmp_path).repair()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_gone_at_once_leaves_a_whole_newest_checkpoint(tmp_path):
    """The same without any of Python's own clean-up: at every second flush or rename, a process each (0.1 s)."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    for point in range(1, 40, 2):
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


def test_everything_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    """Files and folders of the checkpoint, the rename, the run folder, the pointer; only then an old one goes."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append(f"{a} -> {b}") or replace(a, b))
    store = CheckpointStore(tmp_path)
    partial = store.begin(7)
    (partial / "model_config").mkdir()
    (partial / "model_config" / "config.json").write_text("{}")
    store.commit(partial, 7, {"step": 7})
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: calls.append(f"remove {path}"))
    (tmp_path / "global_step_6").mkdir()
    store.keep_last = 1
    store.settle(7)
    *flushed, renamed = calls[: len(calls) - 5]
    names = ("", "/manifest.json", "/state.json", "/model_config", "/model_config/config.json")
    assert sorted(flushed) == sorted(f"{partial}{name}" for name in names)
    assert renamed == f"{partial} -> {tmp_path}/global_step_7"
    pointer = tmp_path / "latest_checkpointed_iteration.txt"
    temporary = tmp_path / f".{pointer.name}.{os.getpid()}.tmp"
    replaced = [str(temporary), f"{temporary} -> {pointer}"]
    assert calls[-5:] == [str(tmp_path), *replaced, str(tmp_path), f"remove {tmp_path}/global_step_6"]


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
    assert [p.name for p in tmp_path.iterdir()] == ["pointer.txt"], "what a full disk did not take is in the way"
    write_atomically(path, json.dumps({"step": 2}))
    assert json.loads(path.read_text()) == {"step": 2}


def test_what_a_run_may_have_to_go_back_to_outlives_the_rotation(tmp_path):
    """Two: what is bad from the step after the newest on began in the newest itself."""
    store = CheckpointStore(tmp_path, keep_last=1, keep_sound=True)
    for step, sound in ((2, True), (4, True), (6, True), (8, False), (10, False), (12, False)):
        _save(store, step, sound=sound)
    assert _steps(tmp_path) == ["global_step_12", "global_step_4", "global_step_6"]
    assert store.sound_before(8).step == 6 and store.sound_before(7).step == 4
    assert store.sound_before(5) is None, "that of step 4 shows in step 5"
    _save(CheckpointStore(tmp_path, keep_last=1), 14, sound=False)
    assert _steps(tmp_path) == ["global_step_14"], "without guard.action=rollback there is nothing to go back to"


def test_a_checkpoint_that_does_not_say_that_it_is_sound_is_not(tmp_path):
    store = CheckpointStore(tmp_path, keep_sound=True)
    for step, state in ((1, {}), (2, {"sound": 1}), (3, {"sound": "true"})):
        _save(store, step, **state)
    assert store.sound_before(9) is None
