"""A disk that fills in the middle of a save, and gradients that are not finite, in whole runs."""

import json
from contextlib import suppress

import pytest
import torch

from comparing import assert_nothing_stays_behind, assert_same_end, newest_step
from injecting import Point
from launching import tensors

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

OPTIMIZER_STEP = "verl.workers.actor.dp_actor:DataParallelPPOActor._optimizer_step"
SAVE_SHARDS = "recipes.archer.checkpoints.shards:save_shards"


def test_a_full_disk_costs_no_earlier_checkpoint_and_training_goes_on_for_a_while(short_run, planned, straight, room):
    """It fills while the second checkpoint is being written; room is made only after the run has ended."""
    filler = room / "filler"
    points = [Point(SAVE_SHARDS, call=2, fault="fill", file=str(filler))]
    settings = ("full-disk", "trainer.save_freq=1", "trainer.max_failed_saves=2")
    run = short_run(*settings, plan=planned("full-disk", points), output=room)
    assert run.code == 23, run.output[-3000:]
    warnings = [line for line in run.output.splitlines() if line.startswith("warning: checkpoint of step ")]
    assert [line.split()[4] for line in warnings] == ["2", "3"], "it went on after the first failure"
    assert " free when it failed); 1 in a row, trainer.max_failed_saves=2" in warnings[0]
    assert "it needs " in warnings[1] and warnings[1].endswith("2 in a row, trainer.max_failed_saves=2")
    assert "the newest whole one is of step 1; make room in" in run.output
    assert newest_step(run.folder) == 1 and not list(run.folder.glob(".global_step_*"))
    assert "Traceback" not in run.output
    assert_nothing_stays_behind()
    _fill_up(filler)
    full = short_run(*settings, output=room)
    assert full.code == 23, full.output[-3000:]
    assert "error: [Errno 28] No space left on device" in full.output and "Traceback" not in full.output
    assert_nothing_stays_behind()
    filler.unlink()
    again = short_run(*settings, output=room)
    assert "continuing after step 1 from" in again.output
    assert_same_end(again, straight)


def _fill_up(filler) -> None:
    """Takes what little the end of the run has freed."""
    with open(filler, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64))


def test_a_gradient_that_is_not_finite_changes_nothing_and_too_many_of_them_end_the_run(short_run, planned):
    """Of the updates of six steps the second is spoilt, and from the fourth on all are."""
    points = [Point(OPTIMIZER_STEP, call=call, fault="nan") for call in (2, 2, 1, 1)]
    settings = (
        "not-finite",
        "trainer.total_training_steps=9",
        "trainer.max_skipped_updates=3",
        "trainer.save_freq=1",
        "trainer.keep_last=9",
        "trainer.test_freq=-1",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=9",
    )
    run = short_run(*settings, plan=planned("not-finite", points))
    assert run.code == 22, run.output[-3000:]
    assert (run.run["status"], run.run["exit_code"], run.run["steps"]) == ("stopped", 22, 6)
    assert run.run["reason"] == "no finite gradient in 3 updates in a row (trainer.max_skipped_updates)"
    counted = [(row["actor/num_updates"], row["actor/num_skipped"]) for row in run.rows]
    assert counted == [(1, 0), (0, 1), (1, 0), (0, 1), (0, 1), (0, 1)]
    rates = [row["actor/lr"] for row in run.rows]
    moved = [later > earlier for earlier, later in zip(rates, rates[1:], strict=False)]
    assert moved == [True, False, True, False, False], "the schedule stands still after a skipped update"
    saved = [tensors(run.folder / f"global_step_{step}") for step in range(1, 7)]
    changed = [any(not torch.equal(b[name], a[name]) for name in a) for a, b in zip(saved, saved[1:], strict=False)]
    assert changed == [False, True, False, False, False]
    assert all(torch.isfinite(tensor).all() for tensor in saved[-1].values() if tensor.is_floating_point())
    assert_nothing_stays_behind()

    before = (run.folder / "metrics.jsonl").read_bytes()
    again = short_run(*settings)
    assert again.code == 22, "the same command ends the same way"
    assert (run.folder / "metrics.jsonl").read_bytes() == before
    assert json.loads((run.folder / "global_step_6" / "state.json").read_text())["skipped_updates"] == 3
