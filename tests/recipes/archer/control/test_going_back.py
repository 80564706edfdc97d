"""A run that goes back: where to, with what, how often; and killed at every change of the disk on the way."""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configurations import configuration
from crashing import Crash, Crashing
from recipes.archer.checkpoints.store import BestBy, CheckpointStore
from recipes.archer.control.going_back import GoingBack, settle
from recipes.archer.ending import EMPTY, FINISHED, GUARD, Cause, Ending
from recipes.archer.runs import history
from recipes.archer.runs.courses import COURSES, read_courses
from recipes.archer.runs.folder import read_branches, read_run
from recipes.archer.runs.log import RunLog

LR = "actor_rollout_ref.actor.optim.lr"


def _config(*settings):
    return configuration("guard.action=rollback", "record=null", *settings)


def _ending(since: int, name: str = "entropy_collapse", metric: str = "actor/entropy") -> Ending:
    return Ending("stopped", f"guard: bad since step {since}: {name}", GUARD, Cause(name, metric, since))


def _row(step: int, course: int = 0) -> dict:
    return {"step": step, "course": course, "val/accuracy": 0.9 if step == 6 else 0.1 * step % 0.8}


def _save(store: CheckpointStore, step: int, sound: bool = True, course: int = 0) -> None:
    partial = store.begin(step)
    (partial / "weights.bin").write_bytes(bytes(64))
    store.commit(partial, step, {"step": step, "sound": sound, "row": _row(step, course)})
    store.settle(step)


def _log(folder: Path, last_step: int) -> RunLog:
    log = RunLog(folder)
    log.open(OmegaConf.create({"seed": 1}), {"name": "run"}, last_step)
    return log


def _store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, keep_last=9, best_by=BestBy("val/accuracy"), keep_sound=True)


@pytest.fixture
def at_8(tmp_path) -> Path:
    """A run that came to step 8, checkpoints at 2, 4, 6 and 8; what is wrong began at 6, the best is that of 6."""
    folder = tmp_path / "run"
    log = _log(folder, 0)
    for step in range(1, 9):
        log.write(_row(step))
        log.samples(step, [{"step": step}])
        if step % 2 == 0:
            _save(_store(folder), step, sound=step < 6)
    log._lock.close()
    return folder


def _turn(folder: Path, ending: Ending, *settings, left: int = 8) -> Ending | None:
    log = RunLog(folder)
    log.run = {"steps": left}
    try:
        return GoingBack(_config(*settings), log).after(ending, _store(folder))
    finally:
        log._lock.close()


def _steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _settled_rightly(folder: Path) -> None:
    """Back at step 4, everything of steps 5 to 8 kept in the branch, and nothing else left."""
    branch = folder / "branches/1"
    assert _steps(folder) == [1, 2, 3, 4] and _steps(branch) == [5, 6, 7, 8]
    assert {p.name for p in (folder / "samples").iterdir()} == {f"step_{s}.jsonl" for s in range(1, 5)}
    assert {p.name for p in (branch / "samples").iterdir()} == {f"step_{s}.jsonl" for s in range(5, 9)}
    assert (branch / "config.yaml").read_text() == "seed: 1\n"
    assert sorted(p.name for p in folder.glob("*global_step_*")) == ["global_step_2", "global_step_4"]
    assert [p.name for p in branch.glob("global_step_*")] == ["global_step_6"], "the best of all"
    store = _store(folder)
    assert store.newest_whole()[0].step == 4 and store.best().name == "global_step_4"
    assert (folder / "latest_checkpointed_iteration.txt").read_text() == "4"
    assert not [p for p in folder.rglob(".*") if p.name != ".lock"]


def test_back_to_the_newest_checkpoint_that_was_sound_and_on_with_a_change(at_8, capsys):
    assert _turn(at_8, _ending(6)) is None
    (course,) = read_courses(at_8).turns
    assert (course.left, course.back_to, course.cause) == (8, 4, "entropy_collapse")
    assert course.overrides == (f"{LR}=0.0001",) and not read_courses(at_8).settled
    assert "going back: course 1, from step 4: " in capsys.readouterr().err
    settle(at_8, _store(at_8))
    _settled_rightly(at_8)
    assert read_courses(at_8).settled and settle(at_8, _store(at_8)) == read_courses(at_8)


@pytest.mark.parametrize(("since", "back_to"), [(9, 4), (6, 4), (5, 2), (4, 2), (3, 0), (2, 0)])
def test_a_checkpoints_policy_shows_in_the_step_after_it(at_8, since, back_to):
    """So where the trouble began in that step, the one before is taken; 6 and 8 are not sound."""
    assert _turn(at_8, _ending(since)) is None
    assert read_courses(at_8).turns[0].back_to == back_to


def test_a_damaged_one_is_passed_over(at_8):
    (at_8 / "global_step_4/weights.bin").write_bytes(bytes(63))
    assert _turn(at_8, _ending(6)) is None and read_courses(at_8).turns[0].back_to == 2


@pytest.mark.parametrize(
    ("since", "settings", "why"),
    [
        (1, (), "it was so from the first step on"),
        (2, ("guard.rollback.to_start=false",), r"no checkpoint from before step 2 is sound \(guard.rollback.to_start"),
        (6, ("guard.rollback.courses=[]",), "there is nothing left to change"),
    ],
)
def test_what_cannot_go_back_ends_as_with_stop_and_says_why(at_8, since, settings, why):
    ending = _turn(at_8, _ending(since), *settings)
    assert (ending.status, ending.exit_code) == ("stopped", GUARD)
    assert ending.reason.startswith(f"guard: bad since step {since}") and "; not gone back: " in ending.reason
    assert re.search(why, ending.reason) and not (at_8 / COURSES).exists()


def test_what_is_no_failure_ends_and_so_does_a_run_that_is_only_to_stop(at_8):
    done = Ending("finished", "all 8 steps done", FINISHED)
    assert _turn(at_8, done) is done
    log = RunLog(at_8)
    ending = _ending(6)
    assert GoingBack(configuration("guard.action=stop"), log).after(ending, _store(at_8)) is ending
    log._lock.close()


def test_causes_are_counted_one_by_one(at_8):
    courses = f"guard.rollback.courses=[['{LR}*=0.5'],['{LR}*=0.1'],['{LR}*=0.2']]"
    for _ in range(2):
        assert _turn(at_8, _ending(6), courses, "guard.rollback.max=2") is None
    assert (
        "2 times for this cause (guard.rollback.max)" in _turn(at_8, _ending(6), courses, "guard.rollback.max=2").reason
    )
    empty = Ending("stopped", "no valid group in 3 steps", EMPTY, Cause("trainer.max_empty_steps", "batch/valid", 6))
    assert _turn(at_8, empty, courses, "guard.rollback.max=2") is None
    sources = [(c.cause, c.source[-3:]) for c in read_courses(at_8).turns]
    assert sources == [("entropy_collapse", "[0]"), ("entropy_collapse", "[1]"), ("trainer.max_empty_steps", "[0]")]


def test_to_the_start(at_8):
    assert _turn(at_8, _ending(2)) is None
    settle(at_8, _store(at_8))
    assert _steps(at_8) == [] and _steps(at_8 / "branches/1") == list(range(1, 9))
    assert _store(at_8).newest_whole() == (None, [])
    assert not (at_8 / "latest_checkpointed_iteration.txt").exists() and not (at_8 / "best_checkpoint.txt").exists()


def test_a_second_time(at_8):
    assert _turn(at_8, _ending(6)) is None
    settle(at_8, _store(at_8))
    log = _log(at_8, 4)
    for step in (5, 6, 7):
        log.write(_row(step, course=1))
    log._lock.close()
    _save(_store(at_8), 7, sound=False, course=1)
    assert _turn(at_8, _ending(5), left=7) is None
    settle(at_8, _store(at_8))
    assert (
        _steps(at_8) == [1, 2]
        and _steps(at_8 / "branches/1") == [5, 6, 7, 8]
        and _steps(at_8 / "branches/2") == [3, 4, 5, 6, 7]
    )
    assert [c.back_to for c in read_courses(at_8).turns] == [4, 2]


@pytest.mark.parametrize("already", [False, True], ids=["deciding", "settling"])
def test_killed_at_each_change_of_the_disk(at_8, tmp_path, monkeypatch, already):
    """Until the file is there nothing has happened; from then on a start brings it to its end, killed again or not."""
    if already:
        assert _turn(at_8, _ending(6)) is None
    before = sorted(p.relative_to(at_8) for p in at_8.rglob("*"))
    for at in range(1, 200):
        folder = shutil.copytree(at_8, tmp_path / f"{at}")
        died = False
        with monkeypatch.context() as patch:
            Crashing(patch, at)
            try:
                settle(folder, _store(folder)) if already else _turn(folder, _ending(6))
            except Crash:
                died = True
        if not already and not (folder / COURSES).exists():
            assert died and {p.relative_to(folder) for p in folder.rglob("*") if ".tmp" not in p.name} == set(before)
            assert _turn(folder, _ending(6)) is None  # as the checkpoint of step 8 has it, once more
        if already and died:  # the next start dies as well, at the same place of what is left
            with monkeypatch.context() as patch:
                Crashing(patch, max(1, at // 2))
                with suppress(Crash):
                    settle(folder, _store(folder))
        settle(folder, _store(folder))
        for left in folder.glob(".courses.json.*.tmp"):
            left.unlink()  # goes with the next save
        _settled_rightly(folder)
        if not died:
            break
    assert not died and at > (10 if already else 1)


def test_a_full_disk_in_the_middle_leaves_it_to_the_next_start(at_8, monkeypatch):
    assert _turn(at_8, _ending(6)) is None
    real, calls = history.write_atomically, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(history, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        settle(at_8, _store(at_8))
    assert not read_courses(at_8).settled
    settle(at_8, _store(at_8))
    _settled_rightly(at_8)


def test_the_branch_is_read_with_the_step_it_left(at_8):
    assert _turn(at_8, _ending(6)) is None
    facts = {"courses": settle(at_8, _store(at_8)).facts()}
    log = RunLog(at_8)
    log.open(OmegaConf.create({}), {"name": "run", **facts}, 4)
    log._lock.close()
    (branch,) = read_branches(read_run(at_8))
    assert [row["step"] for row in branch.rows] == [4, 5, 6, 7, 8] and branch.course.back_to == 4
    shutil.rmtree(at_8 / "branches")  # not copied along
    assert read_branches(read_run(at_8))[0].rows == []
