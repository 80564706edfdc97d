"""kill -9 of the driver at random moments of every stage, and the same command again, until the run is done.

A chain of kills in one run folder: each start goes on from what the kill before it has left. Between some of them
files are damaged as a torn disk would damage them.
"""

import json
import os
import signal

import pytest

from comparing import assert_nothing_stays_behind, assert_same_end, newest_step
from injecting import random_points
from launching import lasting
from recipes.archer.checkpoints.store import CheckpointStore

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

TRAINER, CALLS = "recipes.archer.trainer:ArcherTrainer", "recipes.archer.workers.calls:WorkerCalls"
SAVER, STORE = "recipes.archer.checkpoints.saver:CheckpointSaver", "recipes.archer.checkpoints.store:CheckpointStore"
REPORT = "recipes.archer.reports.live:Report"
SET_UP = ("tokenizer_and_prompts", "ArcherTrainer.init_workers", "ArcherTrainer.resume")  # nothing was said by then
SAVE_FREQ = 2


def _cut(folder, checkpoint, file, share=0.5):
    (path,) = (folder / f"global_step_{checkpoint}").glob(file)
    os.truncate(path, int(path.stat().st_size * share))


def _torn_text(folder):
    """What may stand in the run folder after a power cut: a torn row, half a run.json, an empty pointer."""
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3, "actor/entr\xff\x00\x00')
    (folder / "run.json").write_text('{"name": "half')
    (folder / "latest_checkpointed_iteration.txt").write_text("")


# places with the first and the last call that are sure to come; kill -> what is damaged after it, and what is then said
CHAINS = {
    "before-the-first-checkpoint": (
        [
            ("recipes.archer.startup.inputs:tokenizer_and_prompts", 1, 1),
            (f"{TRAINER}.init_workers", 1, 1),
            (f"{CALLS}.generate", 1, 3),
            (f"{TRAINER}._score_untrained", 1, 2),
            (f"{SAVER}._fill", 1, 1),
        ],
        {4: (_torn_text, None)},
    ),
    "between-checkpoints": (
        [
            (f"{CALLS}.add_reference", 1, 3),
            ("recipes.archer.reward.manager:PendingRewards.result", 1, 3),
            (f"{STORE}.settle", 1, 1),
            (f"{TRAINER}.resume", 1, 1),
            (f"{CALLS}.update", 1, 2),
        ],
        {3: (_torn_text, None)},
    ),
    "at-the-end": (
        [
            (f"{REPORT}.step", 1, 3),
            (f"{TRAINER}._measure", 1, 2),
            (f"{TRAINER}._validate", 1, 1),
            (f"{STORE}.commit", 1, 1),
            (f"{REPORT}.end", 1, 1),
        ],
        {
            2: (lambda folder: _cut(folder, 2, "state.json"), "no checkpoint is whole: training starts"),
            4: (lambda folder: _cut(folder, 4, "__0_0.distcp"), "global_step_4: __0_0.distcp has"),
        },
    ),
}


@pytest.mark.parametrize("seed, name", enumerate(CHAINS))
def test_a_run_killed_again_and_again_ends_like_an_undisturbed_one(seed, name, short_run, planned, straight):
    places, damages = CHAINS[name]
    points = random_points(seed, *places)
    plan = planned(name, points)
    to_say, newest = None, 0
    for number, point in enumerate(points):
        run = short_run(name, plan=plan)
        assert (run.code, plan.num_fired) == (-signal.SIGKILL, number + 1), f"{point}\n{run.output[-3000:]}"
        assert_nothing_stays_behind()
        if point.name not in SET_UP:
            _assert_said(run, newest, to_say)
            _, passed_over = CheckpointStore(run.folder).newest_whole()
            to_say = to_say if passed_over else None  # a kill before the rename leaves a damaged one in its place
        newest = _assert_little_is_lost(run, point, newest, straight)
        if number in damages:
            damage, expected = damages[number]
            damage(run.folder)
            newest, to_say = newest_step(run.folder), expected or to_say
    run = short_run(name, plan=plan)
    _assert_said(run, newest, to_say)
    assert_same_end(run, straight)
    assert_nothing_stays_behind()
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]


def _assert_said(run, newest: int, expected: str | None) -> None:
    """From where it went on, and what it passed over."""
    assert "Traceback" not in run.output
    assert (f"continuing after step {newest} from" in run.output) == (newest > 0), run.output[-3000:]
    assert ("warning: skipped checkpoint" in run.output) == (expected is not None), run.output[-3000:]
    assert expected is None or expected in run.output, run.output[-3000:]


def _assert_little_is_lost(run, point, before: int, straight) -> int:
    """Every row so far is an undisturbed run's, and the last due checkpoint is whole; its step is returned."""
    newest = newest_step(run.folder)
    if not (run.folder / "metrics.jsonl").exists():
        assert newest == before == 0
        return newest
    lines = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    assert lasting(rows) == lasting(straight.rows)[: len(rows)]
    assert len(lines) - len(rows) <= (point.name == "Report.step"), "torn in another stage than that of the row"
    saved = len(rows) // SAVE_FREQ * SAVE_FREQ
    due = {saved, (len(rows) - 1) // SAVE_FREQ * SAVE_FREQ} if len(rows) % SAVE_FREQ == 0 else {saved}
    if point.name not in SET_UP:
        assert newest in due, (point, len(rows), newest)
    assert newest >= before
    assert run.run["status"] == "running" or (point.name, run.run["status"]) == ("Report.end", "finished")
    return newest
