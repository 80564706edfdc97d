"""Signals to whole runs: what is saved, how soon they leave, and that nothing stays behind."""

import json
import os
import signal
import time
from contextlib import suppress

import pytest
import torch

from launching import lasting, left_behind, steps_logged, tensors, workers_of

pytestmark = pytest.mark.fault

TERM_TO_ALL = {"then": lambda driver: os.killpg(driver, signal.SIGTERM)}  # as `timeout` and a terminal do


@pytest.fixture
def clock():
    """When the signal was sent."""
    sent: list[float] = []

    def send(action):
        def then(driver):
            sent.append(time.monotonic())
            action(driver)

        return then

    send.seconds = lambda: time.monotonic() - sent[0]
    return send


def test_during_set_up_it_leaves_without_waiting_for_the_workers(short_run, clock):
    def when_workers_start(driver):
        while not workers_of(driver):
            time.sleep(0.01)
        clock(lambda _: os.kill(driver, signal.SIGTERM))(driver)

    run = short_run("set-up-stopped", until=lambda folder: (folder / "setup.log").exists(), then=when_workers_start)
    assert run.code == 143, run.output[-3000:]
    assert clock.seconds() < 15
    assert run.run["reason"] == "SIGTERM received during set-up; continue with the same command"
    assert "Traceback" not in run.output
    assert left_behind() == []


def test_stopped_and_continued_is_as_if_never_stopped(short_run, straight):
    """The checkpoint belongs to the last step that is logged, whatever the signal interrupted."""
    arguments = ("stopped", "trainer.save_freq=-1")
    first = short_run(*arguments, until=lambda folder: steps_logged(folder) >= 1, **TERM_TO_ALL)
    assert first.code == 143, first.output[-3000:]
    saved = first.run["last_checkpoint"]
    assert 1 <= saved < 4 and [row["step"] for row in first.rows] == list(range(1, saved + 1))
    assert left_behind() == []
    second = short_run(*arguments)
    assert second.code == 0 and f"continuing after step {saved}" in second.output
    assert lasting(second.rows) == lasting(straight.rows)
    expected, got = (tensors(run.folder / "global_step_4") for run in (straight, second))
    assert not [name for name in expected if not torch.equal(expected[name], got[name])]


def test_a_long_rollout_is_abandoned(short_run, clock):
    """Of tokens by chance, of which few end a response: the step takes much longer than the stop."""
    run = short_run(
        "long-rollout",
        "trainer.save_freq=-1",
        "actor_rollout_ref.rollout.temperature=100",
        "data.max_response_length=900",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=3072",
        "reward.overlong_buffer_len=0",
        until=lambda folder: steps_logged(folder) >= 1,
        then=clock(lambda driver: (time.sleep(1.0), os.kill(driver, signal.SIGINT))),
        deadline_s=1200,  # the first step is done in full
    )
    assert run.code == 130, run.output[-3000:]
    assert run.run["last_checkpoint"] == 1
    seconds = clock.seconds()
    step = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert seconds < 1.0 + 0.5 * step["timing_s/gen"] + 10, (seconds, step["timing_s/gen"])
    assert left_behind() == []


def test_the_second_signal_leaves_at_once(short_run, clock):
    def twice(driver):
        with suppress(ProcessLookupError):
            for _ in range(5):  # two that come before the first is looked at are one
                os.kill(driver, signal.SIGTERM)
                time.sleep(0.2)

    run = short_run("twice", until=lambda folder: steps_logged(folder) >= 1, then=clock(twice))
    assert run.code == 143, run.output[-3000:]
    assert clock.seconds() < 5
    assert run.run["reason"] == ("SIGTERM received, second SIGTERM: leaving at once; continue with the same command")
    deadline = time.monotonic() + 10
    while left_behind() and time.monotonic() < deadline:  # the reaper works after the driver has gone
        time.sleep(0.1)
    assert left_behind() == []
