"""A search on the real stack, killed three times on its way, once with the run that it follows; one trial collapses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from launching import ROOT, Launch, environment, left_behind_by
from recipes.archer.monitoring.detector import Detector

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]

LR = "actor_rollout_ref.actor.optim.lr"
SMALL = (
    "trainer.val_before_train=false",
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.kl_loss_coef=0.0",
)
OPTIONS = ("--base", "tiny", "--set", f"{LR}=2e-4,1e-2", "--sampler", "grid", "--steps", "10", "--every", "5")
DEADLINE_S = 900


def start(output, tiny, *words):
    program = "from recipes.archer.commands.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, "search", "start", "killed", *words],
        cwd=ROOT,
        env=environment(output, TINY_DIR=str(tiny), PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path[1:]])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def steps(folder) -> int:
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope="module")
def killed(tiny, output):
    """Exit code, output and folder of a search after three kills: in the first trial, in the second, with its run."""
    folder, said = output / "killed", []
    for trial, with_run in ((0, False), (1, False), (1, True)):
        process = start(output, tiny, *(() if said else (*OPTIONS, "--", *SMALL)))
        deadline, run = time.monotonic() + DEADLINE_S, folder / f"trial-{trial:03d}"
        seen = steps(run)
        while steps(run) <= seen and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
        said.append(process.communicate()[0])
        if with_run:
            os.kill(int((folder / "processes" / f"trial-{trial:03d}.1.pid").read_text()), signal.SIGKILL)
    process = start(output, tiny)
    said.append(process.communicate(timeout=DEADLINE_S)[0])
    return process.returncode, said, folder


def test_the_same_trials_come_to_an_end(killed):
    code, said, folder = killed
    assert code == 0, said[-1][-3000:]
    assert "trial-000 is running still" in said[1] or "trial-000 complete" in said[1]
    assert "trial-001 is lost" in said[3]
    assert sorted(path.name for path in folder.glob("trial-*")) == ["trial-000", "trial-001"]
    starts = sorted(path.name for path in (folder / "processes").glob("*.pid"))
    assert starts == ["trial-000.1.pid", "trial-001.1.pid", "trial-001.2.pid"]  # none twice but the one that was lost


def test_the_one_that_collapses_is_pruned_by_its_verdict(killed):
    _, said, folder = killed
    run = json.loads((folder / "trial-001" / "run.json").read_text())
    worst = run["verdict"]["verdicts"][0]
    assert run["exit_code"] == 20 and worst["status"] == "bad"
    assert run["steps"] - worst["since"] < Detector.sustained  # no later than the detector is sure
    assert f"trial-001 pruned: {run['reason'][:40]}" in said[3]
    assert "best so far: trial 0" in said[3]


def test_nothing_is_left_behind(killed):
    _, _, folder = killed
    pids = [int(path.read_text()) for path in (folder / "processes").glob("*.pid")]
    assert len(pids) == 3 and left_behind_by(*(Launch(0, "", folder, pid) for pid in pids)) == []
