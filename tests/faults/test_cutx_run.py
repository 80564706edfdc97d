"""Runs over two Ray nodes, each a machine of its own as far as the kernel can make one (``namespaces.py``)."""

import json
import os
import re
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from injecting import Plan, Point
from launching import Launch, lasting, steps_logged, tensors
from namespaces import ADDRESS, connect, cut, two_nodes, why_not

NOT_HERE = why_not()
pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),
    pytest.mark.skipif(NOT_HERE is not None, reason=f"no namespaces can be made: {NOT_HERE}"),
]
BOTH = "trainer.nnodes=2"


@pytest.fixture(scope="module")
def expected(short_run) -> Launch:
    """Two workers on one machine, to which nothing happens."""
    run = short_run("one-node", "trainer.n_gpus_per_node=2")
    assert run.code == 0, run.output[-3000:]
    return run


@contextmanager
def machines(plan: Plan | None = None, **others):
    """Both, with the second one's workers following a plan."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "JOB_", "RAY_"))}
    with two_nodes(clean, plan.environment() if plan else {}, **others) as nodes:
        yield nodes


@pytest.fixture
def run_on(short_run):
    """Runs the driver on the head, in whose name the command is started."""

    def run(head, name: str, *overrides: str, **conditions) -> Launch:
        conditions = {"RAY_ADDRESS": ADDRESS, "OMP_NUM_THREADS": "1"} | conditions
        return short_run(name, BOTH, *overrides, within=head.inside, **conditions)

    return run


def assert_same(run: Launch, expected: Launch) -> None:
    """Metrics and every tensor of the last checkpoint."""
    assert run.code == 0, run.output[-3000:]
    assert lasting(run.rows) == lasting(expected.rows)
    got, wanted = (tensors(one.folder / "global_step_4") for one in (run, expected))
    assert got.keys() == wanted.keys() and len(wanted) > 30
    assert not [name for name in wanted if not torch.equal(wanted[name], got[name])]


def errors_of(run: Launch) -> list[str]:
    return [line for line in run.output.splitlines() if line.startswith("error:")]


def stop_driver(launcher: int) -> None:
    """As a scheduler would; the launcher's process is that of ``nsenter``, which passes nothing on."""
    (driver,) = psutil.Process(launcher).children()
    driver.terminate()


def test_two_nodes_train_save_and_resume(run_on, expected):
    """As two workers of one machine do, bit for bit; no library's word is on the terminal."""
    with machines() as (head, _):
        first = run_on(head, "two-nodes", until=lambda folder: steps_logged(folder) >= 2, then=stop_driver)
        assert first.code == 143, first.output[-3000:]
        run = run_on(head, "two-nodes")
    assert re.search(r"continuing after step [23] from", run.output)
    assert_same(run, expected)
    said = first.output + run.output
    assert not [word for word in ("c10d", "Loading safetensors", "(WorkerDict", "Traceback") if word in said]


def test_a_node_without_the_shared_folder_is_named(run_on, output):
    """Under its name it has a folder of its own: at the start, before anything is trained."""
    with machines(hidden=output) as (head, second):
        run = run_on(head, "not-shared")
    assert run.code == 2, run.output[-3000:]
    (line,) = errors_of(run)
    assert re.match(
        rf"error: trainer.default_local_dir={run.folder} is not one folder for all machines: "
        rf"worker rank 1 on {second.name} does not write into it",
        line,
    )
    assert run.rows == []


ACTOR = "recipes.archer.workers.actor:ArcherActor"
# where the second node's worker is when its machine goes down: it stands still there, and its peer waits for it
STAGES = {
    "rollout": Point("recipes.archer.rollout.engine:SeededRollout.generate_sequences", call=3, fault="stop"),
    "update": Point(f"{ACTOR}.update_policy", call=3, fault="stop"),
    "save": Point("recipes.archer.checkpoints.shards:save_shards", call=1, fault="stop"),
}


def wait_for(what, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def has_restarted(folder: Path) -> bool:
    return bool(json.loads((folder / "run.json").read_text()).get("restarts"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_machine_that_goes_down_is_named_and_the_run_goes_on_once_it_is_back(
    stage, run_on, planned, expected, output
):
    name, plan = f"down-in-{stage}", planned(f"down-in-{stage}", [STAGES[stage]])
    with machines(plan) as (head, second):

        def down_and_back(_):
            second.kill()
            wait_for(lambda: has_restarted(output / "Archer-tiny" / name))
            second.start()

        run = run_on(head, name, until=lambda _: plan.num_fired == 1, then=down_and_back)
    assert_same(run, expected)
    (line,) = errors_of(run)
    assert re.match(rf"error: worker rank 1 of 2 on {second.name} \(.*\) died: Ray or the machine under it", line)


def test_a_network_that_is_cut_for_a_while_costs_nothing(run_on, planned, expected):
    """20 s, while both have responses to draw."""
    plan = planned("cut-for-a-while", [Point(STAGES["rollout"].place, call=3, fault="mark")])
    with machines(plan) as (head, second):

        def cut_for_a_while(_):
            cut(second)
            time.sleep(30)
            connect(second, head)

        run = run_on(head, "cut-for-a-while", until=lambda _: plan.num_fired == 1, then=cut_for_a_while)
    assert_same(run, expected)
    assert "restarts" not in run.run, run.output[-3000:]


def test_a_network_that_is_cut_for_longer_than_the_deadline(run_on, planned, expected, output):
    """The machine behind the cut is named; Ray has given it up by then, so it starts anew."""
    plan = planned("cut-for-long", [Point(STAGES["rollout"].place, call=3, fault="mark")])
    with machines(plan) as (head, second):

        def cut_for_long(_):
            cut(second)
            wait_for(lambda: has_restarted(output / "Archer-tiny" / "cut-for-long"), 200)
            second.kill()
            connect(second, head)
            second.start()

        deadline = "actor_rollout_ref.rollout.deadline_s=40"
        run = run_on(head, "cut-for-long", deadline, until=lambda _: plan.num_fired == 1, then=cut_for_long)
    assert_same(run, expected)
    (line,) = errors_of(run)
    assert f"worker rank 1 on {second.name} " in line or f"worker rank 1 of 2 on {second.name} " in line


def test_the_head_goes_down_and_the_same_command_continues(run_on, expected):
    """The driver goes with it; so does, once it has noticed, Ray on the other machine."""
    with machines() as nodes:
        head, second = nodes
        first = run_on(head, "head-down", until=lambda folder: steps_logged(folder) >= 3, then=lambda _: head.kill())
        assert first.code != 0
        second.kill()
        for node in nodes:
            node.start()
        run = run_on(head, "head-down")
    assert "continuing after step 2 from" in run.output
    assert_same(run, expected)
