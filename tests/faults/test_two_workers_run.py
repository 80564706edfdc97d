"""Runs of two workers whose peers die, and checkpoints that another number of workers goes on from."""

import re

import pytest
import torch

from comparing import assert_nothing_stays_behind
from injecting import random_points
from launching import lasting, tensors

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

TWO = "trainer.n_gpus_per_node=2"


def test_one_of_two_dies_in_an_update_and_in_a_save(short_run, planned):
    """The other one waits for it in a collective; two workers end as two that nothing happened to, bit for bit."""
    points = random_points(
        20,
        ("recipes.archer.workers.actor:ArcherActor.update_policy", 3, 3),
        ("recipes.archer.checkpoints.shards:save_shards", 1, 1),
    )
    plan = planned("two-workers", points)
    run = short_run("two-workers", TWO, plan=plan)
    assert run.code == 0 and plan.num_fired == 2, run.output[-3000:]
    errors = re.findall(r"^error: worker rank [01] of 2 \(.*, process (\d+)\) died: it was killed", run.output, re.M)
    assert errors == [(plan.folder / f"fired_{number}").read_text() for number in (0, 1)]
    assert re.findall(r"continuing after step (\d+) from", run.output) == ["2", "2"]
    assert_nothing_stays_behind()
    undisturbed = short_run("two-workers-undisturbed", TWO)
    assert lasting(run.rows) == lasting(undisturbed.rows)
    got, expected = (tensors(r.folder / "global_step_4") for r in (run, undisturbed))
    assert got.keys() == expected.keys()
    assert not [name for name in expected if not torch.equal(expected[name], got[name])]


def test_two_workers_go_on_from_one_and_one_from_two(short_run, straight):
    """Three steps by one, two and one worker; a response does not depend on how many there are."""
    for step, workers in ((2, 1), (3, 2), (4, 1)):
        settings = (f"trainer.n_gpus_per_node={workers}", f"trainer.total_training_steps={step}")
        run = short_run("one-two-one", *settings)
        assert run.code == 0, run.output[-3000:]
        if step > 2:
            assert f"it was written with world size {3 - workers}, this run has {workers}" in run.output
            assert f"continuing after step {step - 1} from" in run.output
    assert [row["step"] for row in run.rows] == [1, 2, 3, 4]
    same = ("reward/accuracy/mean", "response_length/mean", "batch/solve_none", "batch/solve_all")
    third, expected = run.rows[2], straight.rows[2]
    assert [third[name] for name in same] == [expected[name] for name in same]
    for name in ("actor/entropy", "actor/grad_norm", "actor/kl_loss"):
        assert third[name] == pytest.approx(expected[name], rel=1e-3), name
    assert_nothing_stays_behind()
