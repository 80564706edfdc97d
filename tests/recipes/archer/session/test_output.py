"""Standard output and standard error that take nothing: the run saves, and ends with the code that it has earned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.archer.session.output import BestEffort

ROOT = Path(__file__).resolve().parents[4]
# a run without Ray: two steps, a signal, a save, the end
RUN = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace

from omegaconf import OmegaConf

from recipes.archer import main
from recipes.archer.reports.live import Report
from recipes.archer.runs.log import RunLog
from recipes.archer.session.signals import StopRequested

folder, kind = Path(sys.argv[1]), sys.argv[2]

def train(config, written, log, stop):
    log.open(OmegaConf.create({}), {}, 0)
    (folder / "samples").touch()  # in the place of a folder: each step has something to warn of
    trackers = SimpleNamespace(log=lambda row, step: None, finish=lambda code, grace_s: None)
    settings = {"logger": ["console"], "experiment_name": "n", "samples_freq": 1, "samples_per_step": 1}
    settings = OmegaConf.create(settings | {"tracker_grace_s": 0, "console_metrics": "all"})
    gone, ours = os.openpty() if kind == "terminal" else os.pipe()
    if kind == "full disk":
        ours = os.open("/dev/full", os.O_WRONLY)
    os.dup2(ours, 1), os.dup2(ours, 2), os.close(ours)
    report = Report(log, trackers, settings, 4)
    os.close(gone)
    try:
        for step in (1, 2, 3, 4):
            report.step(step, {"step": step, "reward/accuracy/mean": 0.5, "timing_s/step": 1.0}, [])
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            stop.check()
    except StopRequested:
        (folder / "saved").touch()
        ending = stop.ending()
    report.end(ending)
    return ending

main._open, main._train = lambda config: RunLog(folder), train
sys.exit(main.run(OmegaConf.create({"trainer": {"grace_s": 30, "export": None}})))
"""


@pytest.mark.parametrize("kind", ["pipe", "terminal", "full disk"])
def test_a_run_that_nobody_hears_saves_and_ends_as_it_should(tmp_path, kind):
    # with buffers, as a run has them: what is left in one is written at the exit of Python
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", RUN, str(tmp_path), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert (tmp_path / "saved").exists()
    rows = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    facts = json.loads((tmp_path / "run.json").read_text())
    assert (rows, facts["status"], facts["exit_code"]) == ([1, 2], "stopped", 143)
    assert (tmp_path / "curves.png").exists(), "the end was shown as far as it could be"


def test_where_something_is_written_to_is_still_known():
    with open(os.devnull, "w", encoding="latin-1") as file:
        out = BestEffort(file)
        assert (out.encoding, out.fileno(), out.isatty()) == ("latin-1", file.fileno(), False)


def test_a_descriptor_that_was_closed_from_the_start():
    assert not BestEffort(None).isatty()
    print("nothing", file=BestEffort(None), flush=True)
