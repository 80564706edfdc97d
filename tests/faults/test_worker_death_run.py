"""A worker that dies or hangs: one line that says who and why, and the run goes on from its last checkpoint."""

import os
import re
import signal
import time

import pytest
import torch

from injecting import Point
from launching import lasting, launch, left_behind, left_behind_by, steps_logged, tensors, workers_of

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]


def _kill(rank: int):
    return lambda driver: os.kill(workers_of(driver)[rank], signal.SIGKILL)


def _kill_when_there(driver: int) -> None:
    deadline = time.monotonic() + 60
    while not (workers := workers_of(driver)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)


def _errors(run) -> list[str]:
    return [line for line in run.output.splitlines() if line.startswith("error:")]


@pytest.fixture(scope="module")
def killed(short_run):
    """Its worker is killed after the third step; the last checkpoint is of the second."""
    return short_run("worker-killed", until=lambda folder: steps_logged(folder) >= 3, then=_kill(0))


def test_it_goes_on_and_says_in_one_line_why_it_had_to(killed):
    assert killed.code == 0, killed.output[-3000:]
    (line,) = _errors(killed)
    assert re.fullmatch(
        r"error: worker rank 0 of 1 \(actor, rollout, reference, process \d+\) died: it was killed \(SIGKILL\), "
        r"or ended without a word; restart 1 of 3 \(trainer.max_restarts\), from the last whole checkpoint",
        line,
    )
    assert not re.search(r"Traceback|raylet|ray\.exceptions|RayTaskError", killed.output)
    assert "continuing after step 2" in killed.output
    (restart,) = killed.run["restarts"]
    assert restart["step"] == 3 and restart["cause"] in line
    assert (killed.run["status"], killed.run["steps"], killed.run["attempts"]) == ("finished", 4, 2)


def test_its_last_words_are_kept(killed):
    assert re.search(r"--- worker rank 0, worker-\w+-\d+-\d+\.err", (killed.folder / "setup.log").read_text())


def test_nothing_is_lost_and_nothing_is_there_twice(killed, straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert lasting(killed.rows) == lasting(straight.rows)
    board = EventAccumulator(str(killed.folder / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("actor/entropy")] == [1, 2, 3, 4]
    expected, got = (tensors(run.folder / "global_step_4") for run in (straight, killed))
    assert expected.keys() == got.keys() and len(expected) > 10
    assert not [name for name in expected if not torch.equal(expected[name], got[name])]
    assert left_behind() == []


def _two_workers(tiny, output, name: str, *overrides: str, then):
    """Two steps of two workers, to one of which something happens after the first."""
    return launch(
        "run_archer2.0_qwen3_0.6b_math_smoke_4gpu.sh",
        f"trainer.experiment_name={name}",
        "trainer.logger=[console]",
        "trainer.val_before_train=false",
        "trainer.save_freq=1",
        *overrides,
        output=output,
        name=f"Archer2.0/{name}",
        until=lambda folder: steps_logged(folder) >= 1,
        then=then,
        DEVICE="cpu",
        N_GPUS="2",
        MODEL_PATH=str(tiny / "model"),
        TRAIN_FILE=str(tiny / "train.json"),
        VAL_FILE=str(tiny / "val.json"),
    )


def test_the_one_of_two_that_hangs_is_named_and_not_the_one_that_waits_for_it(tiny, output):
    """Whichever stage it is stopped in: both owe an answer then."""
    stages = ("load", "scoring", "update", "validation", "save")
    deadlines = [f"trainer.deadlines_s.{stage}=60" for stage in stages]
    run = _two_workers(
        tiny,
        output,
        "one-hangs",
        "actor_rollout_ref.rollout.deadline_s=60",
        *deadlines,
        then=lambda driver: os.kill(workers_of(driver)[1], signal.SIGSTOP),
    )
    assert run.code == 0, run.output[-3000:]
    (line,) = _errors(run)
    assert re.match(r"error: hung in \w+: no answer from worker rank 1 within ", line)
    assert [row["step"] for row in run.rows] == [1, 2]
    assert left_behind_by(run) == []


def test_one_of_two_workers_is_named_by_rank(tiny, output):
    """The other one then hangs in a collective, or fails in it with an error of its own."""
    run = _two_workers(tiny, output, "killed", then=_kill(1))
    assert run.code == 0, run.output[-3000:]
    (line,) = _errors(run)
    assert line.startswith("error: worker rank 1 of 2 (actor, rollout, reference, process ")
    assert [row["step"] for row in run.rows] == [1, 2]
    assert "Traceback" not in run.output


def test_a_death_during_set_up_ends_a_run_without_restarts(short_run):
    """Killed as soon as it exists: before it has told anybody that it does."""
    run = short_run(
        "set-up-killed",
        "trainer.max_restarts=0",
        until=lambda folder: (folder / "setup.log").exists(),
        then=_kill_when_there,
    )
    assert run.code == 1, run.output[-3000:]
    assert (run.run["status"], run.run["exit_code"]) == ("failed", 1)
    assert re.search(r"worker rank 0 of 1 .* died: .*; trainer.max_restarts=0 used up$", run.run["reason"])
    assert _errors(run) == [f"error: {run.run['reason']}"]
    assert "Traceback" not in run.output
    assert left_behind() == []


ACTOR, SHARDS = "recipes.archer.workers.actor:ArcherActor", "recipes.archer.checkpoints.shards"
GENERATE = "recipes.archer.rollout.engine:SeededRollout.generate_sequences"
BEFORE_A_LOAD = Point(f"{ACTOR}.update_policy", call=3, fault="kill", fraction=0.0)
# of each stage: where its worker stops, and its deadline in seconds, more than it takes on a busy machine
HANGS = {
    "set_up": ([Point("recipes.archer.workers.worker:ArcherWorker.init_model", fault="stop")], 120),
    "validation": ([Point(GENERATE, fault="stop")], 40),
    "rollout": ([Point(GENERATE, call=3, fault="stop")], 40),
    "scoring": ([Point(f"{ACTOR}.compute_log_prob", call=2, fault="stop")], 40),
    "update": ([Point(f"{ACTOR}.update_policy", call=3, fault="stop")], 40),
    "save": ([Point(f"{SHARDS}:save_shards", fault="stop")], 40),
    "load": ([BEFORE_A_LOAD, Point(f"{SHARDS}:load_shards", fault="stop")], 40),
}


@pytest.mark.parametrize("stage", HANGS)
def test_a_worker_that_hangs_is_named_and_the_run_goes_on(stage, short_run, planned, straight):
    """It is stopped inside the stage, so that it never answers."""
    points, seconds = HANGS[stage]
    setting = f"trainer.deadlines_s.{stage}" if stage != "rollout" else "actor_rollout_ref.rollout.deadline_s"
    plan = planned(f"hung-{stage}", points)
    first = f"trainer.val_before_train={str(stage == 'validation').lower()}"
    run = short_run(f"hung-{stage}", f"{setting}={seconds}", first, plan=plan)
    assert run.code == 0, run.output[-3000:]
    assert plan.num_fired == len(points)
    named = (
        f"error: hung in {stage.replace('_', '-')}: no answer from worker rank 0 within {setting}={seconds}; restart "
    )
    assert [line for line in _errors(run) if line.startswith(named)] == _errors(run)[-1:], run.output[-3000:]
    assert len(run.run["restarts"]) == len(points)
    assert lasting(run.rows) == lasting(straight.rows)
    assert left_behind_by(run) == []
