"""The guard: warns once, stops when told to, and is never what ends a healthy run."""

import json
import logging

import pytest
from omegaconf import OmegaConf

from monitor_streams import stream, tiny_stream
from recipes.archer.ending import UserError
from recipes.archer.experiments.registry import load_record
from recipes.archer.monitoring.guard import Guard
from recipes.archer.monitoring.monitor import Monitor
from recipes.archer.settings.configuration import compose

MACHINE = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]


def collapsing(num_steps=80, start=40):
    """The embedded job, dead from a step on."""
    rows = tiny_stream(num_steps)
    for row in rows[start - 1 :]:
        row |= {"reward/accuracy/mean": 0.0, "batch/valid": 0, "batch/solve_none": 16, "batch/solve_all": 0}
    return rows


def run(guard, rows):
    """The step at which it stops, and all verdicts told on the way."""
    told = []
    for row in rows:
        decision = guard.check(row)
        told += decision.verdicts
        if decision.stop:
            return row["step"], told, decision.reason
    return None, told, None


def test_stop_ends_a_collapsing_run_and_says_why():
    guard = Guard("stop", Monitor(load_record("tiny_collapse")))
    step, told, reason = run(guard, collapsing())
    assert step == 44
    assert reason.startswith("bad since step 40") and "optim.lr=2e-4" in reason
    assert any(v.status == "bad" for v in told)
    summary = guard.summary()
    assert summary["overall"] == "bad" and summary["exit_code"] == 20 and json.dumps(summary, allow_nan=False)


def test_warn_tells_each_thing_once_and_goes_on():
    step, told, _ = run(Guard("warn", Monitor(load_record("tiny"))), collapsing())
    assert step is None
    assert len({(v.criterion, v.status) for v in told}) == len(told) > 0


def test_off_judges_nothing():
    guard = Guard("off", Monitor())
    assert run(guard, collapsing()) == (None, [], None)
    assert guard.summary() is None and guard.monitor.step is None


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_left_in_peace(seed):
    assert run(Guard("stop", Monitor(load_record("tiny"))), tiny_stream(seed=seed)) == (None, [], None)
    assert run(Guard("stop", Monitor()), stream(300, seed=seed)) == (None, [], None)


def test_what_turns_bad_again_is_told_again():
    rows = stream(200)
    for row in rows[50:60] + rows[150:160]:
        row["actor/kl_loss"] = 9.5
    _, told, _ = run(Guard("warn", Monitor()), rows)
    assert [v.step for v in told if v.status == "bad"] == [57, 157]  # a median of 5 for 5 steps


def test_a_row_of_trouble_that_is_over_at_once_is_not_told():
    rows = stream(100)
    rows[50]["actor/entropy"] = 0.2
    assert run(Guard("warn", Monitor(load_record("v3"))), rows)[1] == []


def test_the_state_survives_a_resume_at_any_step():
    rows = collapsing()
    expected = run(Guard("stop", Monitor(load_record("tiny"))), rows)
    for cut in (1, 10, 41, 43):
        first, second = (Guard("stop", Monitor(load_record("tiny"))) for _ in range(2))
        _, told, _ = run(first, rows[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        step, told_later, reason = run(second, rows[cut:])
        assert (step, told + told_later, reason) == expected


def test_a_run_that_was_stopped_stops_again_when_it_is_resumed():
    rows = collapsing()
    first, second = (Guard("stop", Monitor(load_record("tiny"))) for _ in range(2))
    step, _, _ = run(first, rows)
    second.load_state_dict(first.state_dict())
    assert second.reason == first.reason is not None, "it need not train a step to know"
    assert second.check(rows[step]).stop
    lenient = Guard("warn", Monitor(load_record("tiny")))
    lenient.load_state_dict(first.state_dict())
    assert lenient.reason is None


def test_a_failing_monitor_is_logged_once_and_stops_nothing(caplog):
    class Broken(Monitor):
        def observe(self, row):
            raise ZeroDivisionError("the monitor's own fault")

    with caplog.at_level(logging.WARNING):
        assert run(Guard("stop", Broken()), stream(5)) == (None, [], None)
    assert len([r for r in caplog.records if "the monitor failed" in r.message]) == 1


def test_a_guard_comes_from_the_run_s_configuration():
    guard = Guard.from_config(compose(["experiment=v3", *MACHINE]))
    assert guard.action == "warn" and guard.monitor.record == load_record("v3")
    plain = OmegaConf.to_container(compose(["experiment=tiny_collapse", "device=cpu", *MACHINE]), resolve=True)
    guard = Guard.from_config(plain)
    assert guard.action == "stop" and guard.monitor.record == load_record("tiny_collapse")
    assert Guard.from_config(compose(MACHINE)).monitor.record is None


@pytest.mark.parametrize(
    "override, words",
    [
        ("guard.action=panic", "guard.action=panic"),
        ("+guard.detectors.score_lost.best=1", "guard.detectors.score_lost.best"),
        ("record.criteria=[{metric: m}]", r"config: record.criteria\[0\]"),
        ("record.hypothesis=null", "record.hypothesis is missing"),
    ],
)
def test_a_monitor_that_cannot_start_says_so_before_training(override, words):
    with pytest.raises(UserError, match=words):
        Guard.from_config(compose(["experiment=v3", *MACHINE, override]))


def test_thresholds_can_be_set_for_one_run():
    config = compose(["experiment=v3", *MACHINE, "+guard.detectors.score_lost.lost=0.3"])
    assert Guard.from_config(config).monitor.detectors["score_lost"].lost == 0.3
