"""A run that dies, goes back and goes on changed; killed at each point of that, it ends like an undisturbed one."""

import json
import signal
import time

import pytest

from comparing import REAPED_S
from injecting import Point
from launching import lasting, left_behind_by

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]

GOING_BACK, HISTORY = "recipes.archer.control.going_back", "recipes.archer.runs.history"
STORE, TRAINER = "recipes.archer.checkpoints.store:CheckpointStore", "recipes.archer.trainer:ArcherTrainer"
# the schedule begins at 0, so that the second update destroys the policy: the steps from the third on are empty
DYING = (
    "guard.action=rollback",
    "trainer.max_empty_steps=3",
    "trainer.total_training_steps=7",
    "trainer.save_freq=1",
    "trainer.keep_last=2",
    "trainer.test_freq=-1",
    "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.val_kwargs.n=1",
    "algorithm.group_filter.max_gen_batches=1",
    "actor_rollout_ref.actor.optim.lr=3e-2",
    "record=null",
    "guard.rollback.courses=[['actor_rollout_ref.actor.optim.lr=2e-4']]",
)
KILLS = {
    "before anything is decided": [Point(f"{GOING_BACK}:GoingBack.after", fraction=0.0)],
    "while it is decided, and while it is moved": [
        Point(f"{GOING_BACK}:GoingBack.after", fraction=0.9),
        Point(f"{HISTORY}:branch_off", fraction=0.3),
    ],
    "while rows and checkpoints are moved, and before the new course has saved": [
        Point(f"{HISTORY}:branch_off", fraction=0.8),
        Point(f"{STORE}.go_back", fraction=0.5),
        Point("recipes.archer.startup.opening:on_course", fraction=0.5),
        Point(f"{TRAINER}._measure", call=1),
    ],
}
PLACES = sorted({point.place for points in KILLS.values() for point in points})


@pytest.fixture(scope="module")
def gone_back(short_run, planned):
    return short_run("rollback", *DYING, plan=planned("rollback", [], watched=PLACES))


def _branches(folder) -> dict[str, list[dict]]:
    rows = {path.parent.name: path.read_text().splitlines() for path in folder.glob("branches/*/metrics.jsonl")}
    return {name: lasting([json.loads(line) for line in lines]) for name, lines in rows.items()}


def _courses(run) -> list[dict]:
    return [{name: value for name, value in course.items() if name != "at"} for course in run.run["courses"]]


def _assert_gone(run) -> None:
    deadline = time.monotonic() + REAPED_S
    while (found := left_behind_by(run)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found == []


def test_it_goes_back_and_ends_as_planned(gone_back):
    assert gone_back.code == 0, gone_back.output[-3000:]
    (course,) = gone_back.run["courses"]
    assert (course["from"], course["back_to"], course["cause"]) == (5, 1, "trainer.max_empty_steps")
    assert course["overrides"] == ["actor_rollout_ref.actor.optim.lr=2e-4"]
    assert [row["step"] for row in gone_back.rows] == list(range(1, 8))
    left = _branches(gone_back.folder)["1"]
    assert [row["step"] for row in left] == [2, 3, 4, 5]
    assert gone_back.rows[-1]["actor/lr"] == pytest.approx(2e-4) and left[0]["actor/lr"] > 5e-3
    assert gone_back.run["status"] == "finished" and gone_back.rows[-1]["batch/valid"] > 0
    _assert_gone(gone_back)


@pytest.mark.parametrize("number, where", enumerate(KILLS), ids=[name.replace(" ", "-") for name in KILLS])
def test_killed_on_the_way_it_ends_like_an_undisturbed_one(number, where, gone_back, short_run, planned):
    plan = planned(f"rollback-{number}", KILLS[where])
    for fired in range(1, len(KILLS[where]) + 1):
        run = short_run(f"rollback-{number}", *DYING, plan=plan)
        assert (run.code, plan.num_fired) == (-signal.SIGKILL, fired), run.output[-3000:]
    run = short_run(f"rollback-{number}", *DYING, plan=plan)
    assert run.code == 0, run.output[-3000:]
    assert lasting(run.rows) == lasting(gone_back.rows)
    assert _branches(run.folder) == _branches(gone_back.folder) and _courses(run) == _courses(gone_back)
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    _assert_gone(run)


def test_told_to_stop_while_it_goes_back_it_goes_on_by_the_same_command(gone_back, short_run, planned):
    plan = planned("rollback-stop", [Point(f"{HISTORY}:branch_off", fault="term", fraction=0.0)])
    run = short_run("rollback-stop", *DYING, plan=plan)
    assert (run.code, run.run["status"]) == (143, "stopped"), run.output[-3000:]
    run = short_run("rollback-stop", *DYING, plan=plan)
    assert run.code == 0 and lasting(run.rows) == lasting(gone_back.rows), run.output[-3000:]
