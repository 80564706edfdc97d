"""What the user sees: a progress bar on a terminal, a line a step elsewhere, and at the end table, picture and path."""

import io
import json
import sys
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import FINISHED, TERMINATED, Ending
from recipes.archer.reports.live import Report, summary
from recipes.archer.runs.log import RunLog

STEPS = 4
ROW = {
    "reward/accuracy/mean": 0.5,
    "val/accuracy": None,
    "actor/entropy": 1.25,
    "response_length/mean": 31.6,
    "batch/valid": 9,
    "actor/kl_loss": 0.01,
    "actor/grad_norm": 0.4,
    "timing_s/step": 1.34,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A report on a run of four steps, and what its standard output shows; finished afterwards."""
    reports = []

    def start(out: io.StringIO, logger=("console",), console_metrics="main"):
        monkeypatch.setattr(sys, "__stdout__", out)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "xterm")
        log = RunLog(tmp_path / "run")
        log.open(OmegaConf.create({}), {}, 0)
        trackers = SimpleNamespace(log=lambda row, step: None, finish=lambda code, grace_s: None)
        settings = {"logger": list(logger), "experiment_name": "name", "samples_freq": 100, "samples_per_step": 0}
        settings = OmegaConf.create(settings | {"tracker_grace_s": 0, "console_metrics": console_metrics})
        reports.append(Report(log, trackers, settings, STEPS))
        return reports[-1]

    yield start
    for report in reports:
        report.broke_off()


def steps(report, number: int) -> None:
    for step in range(1, number + 1):
        report.step(step, ROW | {"step": step, "reward/accuracy/mean": step / 10, "actor/entropy": 2 - step / 10}, [])


def test_the_figures_that_matter_without_those_that_do_not_exist():
    assert summary(ROW) == "acc 0.50  entropy 1.25  len 32  valid 9  kl 0.010  grad 0.40  s/step 1.3"


def test_elsewhere_than_on_a_terminal_each_step_is_a_line(start):
    out = io.StringIO()
    steps(start(out), 2)
    lines = out.getvalue().splitlines()
    assert [line[:18] for line in lines] == ["step 1/4  acc 0.10", "step 2/4  acc 0.20"], "and no other"
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_there_is_a_bar_with_the_last_steps_figures(start):
    out = Terminal()
    report = start(out)
    steps(report, 2)
    report.say("something happened")
    report.broke_off()
    shown = out.getvalue()
    assert "2/4" in shown and "acc 0.20" in shown and "something happened" in shown
    assert "step 2/4  acc" not in shown, "the line is for where there is no bar"


def test_what_libraries_print_does_not_come_between(start):
    out, notes = Terminal(), io.StringIO()
    with redirect_stdout(notes):
        report = start(out)
        print("a library says")
        steps(report, 1)
    assert "a library says" in notes.getvalue() and "a library says" not in out.getvalue()


@pytest.mark.parametrize(("out", "shown"), [(io.StringIO, "all"), (Terminal, "all"), (io.StringIO, "auto")])
def test_every_metric_that_exists_is_in_a_log_and_on_a_terminal_where_that_is_asked_for(start, out, shown):
    out = out()
    steps(start(out, console_metrics=shown), 1)
    (line,) = (line for line in out.getvalue().splitlines() if "actor/grad_norm=" in line)
    row = ROW | {"step": 1, "reward/accuracy/mean": 0.1, "actor/entropy": 1.9}
    expected = {f"{key}={value}" for key, value in row.items() if value is not None}
    assert set(line.split()[-len(expected) :]) == expected


@pytest.mark.parametrize(("out", "shown"), [(io.StringIO, "main"), (Terminal, "main"), (Terminal, "auto")])
def test_otherwise_the_figures_that_matter_are_enough(start, out, shown):
    out = out()
    steps(start(out, console_metrics=shown), 1)
    assert "actor/grad_norm=" not in out.getvalue()


def test_without_the_console_steps_are_silent(start):
    out = Terminal()
    steps(start(out, logger=["tensorboard"]), 2)
    assert out.getvalue() == ""


def test_the_end_is_a_table_a_picture_and_where_to_look_next(start, tmp_path):
    out = io.StringIO()
    report = start(out)
    steps(report, STEPS)
    report.end(Ending("finished", "all 4 steps are done", FINISHED))
    shown = out.getvalue()
    for heading in ("first", "best", "last"):
        assert heading in shown
    cells = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.count("│") > 2}
    for name, first, last in (("accuracy, training", "0.100", "0.400"), ("entropy", "1.90", "1.60")):
        assert first in cells[name] and last in cells[name]
    assert "response length" in cells
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "finished: all 4 steps are done" in shown and f"archer report {tmp_path}/run" in shown


def test_what_goes_wrong_at_the_end_does_not_change_how_the_run_ended(start, tmp_path, monkeypatch, capsys):
    report = start(io.StringIO())
    steps(report, 1)
    monkeypatch.setattr(report.log, "rows", lambda: [{}["step"]])
    report.end(Ending("stopped", "SIGTERM received", TERMINATED))
    assert capsys.readouterr().err == "warning: the end could not be shown (KeyError: 'step')\n"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["exit_code"] == TERMINATED
