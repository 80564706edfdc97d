"""kill -9 of the worker at random moments of every stage: the run restarts itself each time, inside one process."""

import re

import pytest

from comparing import assert_nothing_stays_behind, assert_same_end
from injecting import random_points

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

ACTOR, SHARDS = "recipes.archer.workers.actor:ArcherActor", "recipes.archer.checkpoints.shards"
GENERATE = "recipes.archer.rollout.engine:SeededRollout.generate_sequences"
# places with the first and the last call that are sure to come; the steps after which training goes on
CHAINS = {
    "worker-in-the-first-steps": (
        [
            ("recipes.archer.workers.worker:ArcherWorker.init_model", 1, 1),
            (GENERATE, 1, 3),
            (f"{ACTOR}.compute_log_prob", 1, 3),
            (f"{ACTOR}.update_policy", 1, 2),
            (f"{SHARDS}:save_shards", 1, 1),
        ],
        [],
    ),
    "worker-in-the-last-steps": (
        [
            (f"{ACTOR}.update_policy", 3, 4),
            (f"{SHARDS}:load_shards", 1, 1),
            ("verl.workers.sharding_manager.fsdp_vllm:FSDPVLLMShardingManager.__enter__", 1, 3),
            (f"{SHARDS}:save_shards", 1, 1),
            (f"{ACTOR}.compute_log_prob", 1, 3),
        ],
        [2, 2, 2, 2],
    ),
}


@pytest.mark.parametrize("seed, name", enumerate(CHAINS, start=10))
def test_a_run_whose_worker_dies_again_and_again_ends_like_an_undisturbed_one(seed, name, short_run, planned, straight):
    places, continued = CHAINS[name]
    points = random_points(seed, *places)
    plan = planned(name, points)
    run = short_run(name, "trainer.max_restarts=9", plan=plan, deadline_s=1100)  # six starts of the stack
    assert plan.num_fired == len(points), run.output[-3000:]
    errors = [line for line in run.output.splitlines() if line.startswith("error:")]
    line = re.compile(r"error: worker rank 0 of 1 \(.*, process (\d+)\) died: (.*); restart .*")
    causes = [line.fullmatch(error) for error in errors]
    assert len(errors) == len(points) and all(causes), errors
    died = [int((plan.folder / f"fired_{number}").read_text()) for number in range(len(points))]
    assert [int(cause[1]) for cause in causes] == died, "another process was named"
    assert {cause[2] for cause in causes} == {"it was killed (SIGKILL), or ended without a word"}
    assert len(run.run["restarts"]) == len(points) and run.run["attempts"] == len(points) + 1
    assert not re.search(r"Traceback|raylet|ray\.exceptions|RayTaskError", run.output)
    assert [int(step) for step in re.findall(r"continuing after step (\d+) from", run.output)] == continued
    assert_same_end(run, straight)
    assert_nothing_stays_behind()
