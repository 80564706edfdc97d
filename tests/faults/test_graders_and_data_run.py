"""Graders that hang, crash or are killed, a clock that jumps back, a stop, malformed data: in whole runs."""

import hashlib
import json

import pytest

from comparing import assert_nothing_stays_behind, assert_same_end, newest_step
from injecting import Point
from launching import lasting

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

REWARD = """
import hashlib, os, signal, time

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    kind = hashlib.sha256(solution_str.encode()).digest()[0]
    if kind < 3:
        time.sleep(3600)
    if kind < 6:
        os.kill(os.getpid(), signal.SIGSEGV)
    return float(kind % 2)
"""


def test_checks_that_hang_or_crash_cost_their_own_row(short_run, tmp_path):
    script = tmp_path / "hostile.py"
    script.write_text(REWARD)
    run = short_run(
        "hostile-grader",
        "trainer.total_training_steps=2",
        "trainer.samples_per_step=999",
        "grading.timeout_s=1",
        f"custom_reward_function.path={script}",
        "trainer.test_freq=-1",
    )
    assert run.code == 0, run.output[-3000:]
    hostile = 0
    for row in run.rows:
        samples = (run.folder / "samples" / f"step_{row['step']}.jsonl").read_text().splitlines()
        for sample in map(json.loads, samples):
            kind = hashlib.sha256(sample["response"].encode()).digest()[0]
            hostile += kind < 6
            assert (sample["outcome"] == "timeout") == (kind < 6), sample
            assert sample["score"] == (0.0 if kind < 6 else kind % 2), sample
        timeouts = sum(json.loads(sample)["outcome"] == "timeout" for sample in samples)
        assert row["reward/timeout"] == timeouts
        assert row["actor/num_updates"] == 1
    assert hostile > 2, "nothing was hostile"
    assert_nothing_stays_behind()


def test_killed_graders_a_clock_that_jumps_back_and_a_stop_change_nothing(short_run, planned, straight):
    """The clock goes back by an hour after the second step; the run is stopped in the third, and continued."""
    hour_back = planned(
        "odds",
        [
            Point("recipes.archer.reward.manager:PendingRewards.result", call=1, fault="kill_graders"),
            Point("recipes.archer.reports.live:Report.step", call=2, fault="clock", seconds=-3600.0),
            Point("recipes.archer.workers.calls:WorkerCalls.add_reference", call=1, fault="term"),
        ],
        clock=True,
    )
    first = short_run("odds", plan=hour_back)
    assert first.code == 143, first.output[-3000:]
    assert (first.run["last_checkpoint"], first.run["steps"]) == (2, 2)
    assert first.run["reason"] == "SIGTERM received; continue with the same command"
    assert_nothing_stays_behind()
    second = short_run("odds", plan=hour_back)
    assert hour_back.num_fired == 3 and "continuing after step 2 from" in second.output
    assert_same_end(second, straight)
    assert_nothing_stays_behind()


BROKEN = {
    "a row cut short": ('{"data_source": "arithmetic", "prompt": [{"role"', "line {line}: not JSON"),
    "no prompt": ('{"data_source": "arithmetic", "reward_model": {"ground_truth": "1"}}', "prompt: is missing"),
}


def test_malformed_rows_in_the_middle_stop_the_run_before_it_has_begun(short_run, straight, tiny, tmp_path):
    """Also one that goes on from a checkpoint, which stays as it was; put right, the file is taken."""
    rows = json.loads((tiny / "train.json").read_text())
    middle = len(rows) // 2
    file = tmp_path / "train.jsonl"
    good = [json.dumps(row) for row in rows]
    file.write_text("\n".join(good) + "\n")
    settings = ("malformed", f"data.train_files={file}")
    first = short_run(*settings, "trainer.total_training_steps=2", "trainer.test_freq=-1")
    assert first.code == 0, first.output[-3000:]
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    for bad, said in BROKEN.values():
        file.write_text("\n".join([*good[:middle], bad, *good[middle:]]) + "\n")
        refused = short_run(*settings)
        assert refused.code == 2, refused.output[-3000:]
        assert f"{file}, line {middle + 1}" in refused.output
        assert said.format(line=middle + 1) in refused.output
        assert "Traceback" not in refused.output
        assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before
    file.write_text("\n".join(good) + "\n")
    last = short_run(*settings)
    assert last.code == 0 and "continuing after step 2 from" in last.output
    assert newest_step(last.folder) == 4
    assert _without_validation(last.rows) == _without_validation(straight.rows)


def _without_validation(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if not key.startswith("val/")} for row in lasting(rows)]
