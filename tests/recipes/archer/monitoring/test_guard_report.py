"""What the guard says reaches the terminal, run.json and the trackers."""

import json

import pytest
from omegaconf import OmegaConf

from monitor_streams import tiny_stream
from recipes.archer.ending import FINISHED, GUARD, Ending
from recipes.archer.experiments.registry import load_record
from recipes.archer.monitoring.guard import Guard
from recipes.archer.monitoring.monitor import Monitor
from recipes.archer.reports.live import Report
from recipes.archer.runs.log import RunLog
from recipes.archer.runs.trackers import Trackers

SAMPLES = {"samples_freq": 99, "samples_per_step": 0, "console_metrics": "main"}
SETTINGS = OmegaConf.create(SAMPLES | {"logger": ["tensorboard"], "experiment_name": "x", "tracker_grace_s": 20})


def dying(num_steps=30, start=10):
    rows = tiny_stream(num_steps)
    for row in rows[start - 1 :]:
        row |= {"reward/accuracy/mean": 0.0, "batch/valid": 0, "batch/solve_none": 16, "batch/solve_all": 0}
    return rows


class Attempt:
    """A run as the trainer makes it, without training."""

    def __init__(self, folder, action="stop", last_step=0, state=None):
        self.log, self.guard = RunLog(folder), Guard(action, Monitor(load_record("tiny")))
        self.log.open(OmegaConf.create({}), {}, last_step)
        if state is not None:
            self.guard.load_state_dict(json.loads(json.dumps(state)))
        trackers = Trackers(["tensorboard"], folder, {}, "p", "n", last_step + 1)
        self.report = Report(self.log, trackers, SETTINGS, 10**9)

    def steps(self, rows) -> bool:
        """Whether the guard stopped it."""
        for row in rows:
            self.report.step(row["step"], row, [])
            decision = self.guard.check(row)
            self.report.verdicts(decision, self.guard.summary())
            if decision.stop:
                self.report.end(Ending("stopped", f"guard: {decision.reason}", GUARD))
                return True
        return False


def verdict(folder):
    return json.loads((folder / "run.json").read_text())["verdict"]


def test_a_run_that_is_well_says_so_in_run_json(tmp_path):
    run = Attempt(tmp_path)
    assert not run.steps(tiny_stream(20))
    run.report.end(Ending("finished", "done", FINISHED))
    assert (verdict(tmp_path)["overall"], verdict(tmp_path)["step"]) == ("healthy", 20)


def test_a_stopped_run_says_why_everywhere(tmp_path, capsys):
    assert Attempt(tmp_path).steps(dying())
    found = verdict(tmp_path)
    assert (found["overall"], found["exit_code"]) == ("bad", GUARD)
    assert found["verdicts"][0]["status"] == "bad" and found["verdicts"][0]["contingency"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["exit_code"] == GUARD and run["reason"].startswith("guard: bad since step 10: ")
    assert _scalars(tmp_path)[-1] == (found["step"], GUARD)
    assert "bad since step 10: " in _texts(tmp_path)[-1]


def test_a_resumed_run_keeps_the_verdict_and_goes_on_judging(tmp_path):
    rows = tiny_stream(30)
    first = Attempt(tmp_path)
    first.steps(rows[:20])
    state = first.guard.state_dict()
    first.report.end(Ending("stopped", "SIGTERM", 143))
    second = Attempt(tmp_path, last_step=20, state=state)
    assert verdict(tmp_path)["step"] == 20
    assert second.guard.summary() == first.guard.summary()
    second.steps(rows[20:])
    second.report.end(Ending("finished", "done", FINISHED))
    assert (verdict(tmp_path)["overall"], verdict(tmp_path)["step"]) == ("healthy", 30)


def test_without_the_guard_there_is_no_verdict_not_an_old_one(tmp_path):
    first = Attempt(tmp_path, "warn")
    first.steps(dying())
    first.report.end(Ending("finished", "done", FINISHED))
    assert verdict(tmp_path)["overall"] == "bad"
    second = Attempt(tmp_path, "off", last_step=30)
    second.steps([dying(31)[-1]])
    second.report.end(Ending("finished", "done", FINISHED))
    assert verdict(tmp_path) is None


def test_trackers_hear_news_only(tmp_path):
    run = Attempt(tmp_path, "warn")
    run.steps(dying())
    run.report.end(Ending("finished", "done", FINISHED))
    assert 0 < len(_scalars(tmp_path)) <= 6 < 20


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """The picture at the end takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("recipes.archer.reports.curves.curves_png", lambda *_, **__: b"")


def _events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def _scalars(folder):
    return [(event.step, event.value) for event in _events(folder).Scalars("guard/verdict")]


def _texts(folder):
    tensors = _events(folder).Tensors("guard/reason/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in tensors]
