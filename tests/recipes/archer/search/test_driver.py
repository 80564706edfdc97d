"""A search from end to end, its runs a stand-in's: what is run, what is pruned, and what a kill changes: nothing."""

import itertools
import os
import signal
import threading
from contextlib import suppress

import pytest
import yaml

from recipes.archer.ending import FolderInUseError
from recipes.archer.experiments.records import parse_record
from recipes.archer.search import driver as driver_module
from recipes.archer.search.executors import LocalExecutor
from recipes.archer.search.study import Study
from searching import KL, LR, outcome, wait_for

TWO = {LR: "1e-4..1e-3:log", KL: "0,0.005"}


def test_trials_run_one_after_the_other_the_base_first(searches):
    search = searches.run()
    assert searches.started == [f"trial-{number:03d}" for number in range(4)]
    assert search.study.trials[0].params == {LR: 2e-4}
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 4
    best = search.study.complete[0]
    assert best.value == max(trial.value for trial in search.study.trials)
    assert any(f"best so far: trial {best.number}" in line for line in searches.told)
    assert list(best.intermediate_values) == [2, 4, 6]


def test_a_grid_has_as_many_trials_as_points(searches):
    grid = searches.run(set={LR: "1e-4,3.2e-4", KL: "0,0.005"}, sampler="grid", trials=None)
    assert len(grid.study.trials) == grid.plan.trials == 4
    assert grid.study.complete[0].params == {LR: "3.2e-4", KL: "0"}


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_again_and_again_the_same_trials_come_to_the_same_end(searches, monkeypatch, where):
    """Each process is killed at its first, second … write to the journal or start of a run."""
    straight = outcome(searches.run("straight", set=TWO, trials=4, pruner="median"))
    searches.starts.unlink()
    left = [0]

    class Killed(BaseException):
        pass

    def deadly(cls, name):
        real = getattr(cls, name)

        def call(*arguments, **more):
            left[0] -= 1
            now = left[0] == 0  # here, not in a call that this one makes
            if where == "before" and now:
                raise Killed
            result = real(*arguments, **more)
            if where == "after" and now:
                raise Killed
            return result

        monkeypatch.setattr(cls, name, call)

    for cls, name in ((Study, "add"), (Study, "note"), (Study, "report"), (Study, "end"), (LocalExecutor, "begin")):
        deadly(cls, name)
    for kills in itertools.count():
        left[0] = 1 + kills % 4 + (where == "before")
        search = searches.make("killed", set=TWO, trials=4, pruner="median")
        try:
            search.run()
            break
        except Killed:
            search.folder.give_back()
    assert kills >= 6
    assert outcome(search) == straight
    assert searches.started == [f"trial-{number:03d}" for number in range(4)]
    assert not any("lost" in line for line in searches.told)


class Running:
    """A search in a thread, whose first run waits."""

    def __init__(self, searches, monkeypatch, tmp_path, **options):
        self.go = tmp_path / "go"
        monkeypatch.setenv("WAIT", str(self.go))
        self.searches, self.options = searches, options
        self.search = searches.make(**options)
        self.killed = threading.Event()
        real = driver_module.Driver._fill

        def fill(driver):
            if self.killed.is_set():
                raise SystemExit
            real(driver)

        monkeypatch.setattr(driver_module.Driver, "_fill", fill)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        wait_for(lambda: (self.folder / "metrics.jsonl").exists())

    def _run(self):
        with suppress(SystemExit):
            self.search.run()

    @property
    def folder(self):
        return self.searches.output / "s" / "trial-000"

    @property
    def pid(self) -> int:
        return int((self.searches.output / "s" / "processes" / "trial-000.1.pid").read_text())

    def kill(self):
        """The search dies; its run goes on."""
        self.killed.set()
        self.thread.join()
        self.search.folder.give_back()
        self.killed.clear()


def test_a_run_that_outlives_its_search_is_followed_again_and_not_run_twice(searches, monkeypatch, tmp_path):
    running = Running(searches, monkeypatch, tmp_path, trials=2)
    running.kill()
    threading.Timer(0.2, running.go.touch).start()
    search = searches.run(trials=2)
    assert "trial-000 is running still, and is followed again" in searches.told
    assert searches.started == ["trial-000", "trial-001"]
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE", "COMPLETE"]


def test_a_run_that_ended_while_nobody_looked_is_judged_as_if_somebody_had(searches, monkeypatch, tmp_path):
    running = Running(searches, monkeypatch, tmp_path, trials=2)
    running.kill()
    running.go.touch()
    wait_for(lambda: '"finished"' in (running.folder / "run.json").read_text())
    search = searches.run(trials=2)
    assert search.study.trials[0].intermediate_values.keys() == {2, 4, 6}
    assert searches.started == ["trial-000", "trial-001"]


def test_a_run_that_is_lost_is_told_and_begun_once_more(searches, monkeypatch, tmp_path):
    running = Running(searches, monkeypatch, tmp_path, trials=2)
    os.kill(running.pid, signal.SIGKILL)
    wait_for(lambda: "trial-000 is lost: it is begun once more" in searches.told)
    running.go.touch()
    running.thread.join()
    assert searches.started == ["trial-000", "trial-000", "trial-001"]
    assert running.search.study.trials[0].state.name == "COMPLETE"


def test_one_that_is_lost_again_has_failed(searches, monkeypatch, tmp_path):
    running = Running(searches, monkeypatch, tmp_path, trials=2)
    os.kill(running.pid, signal.SIGKILL)
    second = searches.output / "s" / "processes" / "trial-000.2.pid"
    wait_for(lambda: second.exists() and second.read_text() and len(searches.started) == 2)
    os.kill(int(second.read_text()), signal.SIGKILL)
    wait_for(lambda: "trial-000 failed: lost 2 times" in searches.told)
    running.go.touch()
    running.thread.join()
    assert [trial.state.name for trial in running.search.study.trials] == ["FAIL", "COMPLETE"]


def test_a_search_that_is_told_to_stop_takes_its_runs_along_and_goes_on_with_them(searches, monkeypatch, tmp_path):
    running = Running(searches, monkeypatch, tmp_path, trials=2)
    running.killed.set()
    running.thread.join()
    running.search.stop()
    assert not running.search.executor.alive("trial-000")
    running.search.folder.give_back()
    running.killed.clear()
    running.go.touch()
    search = searches.run(trials=2)
    assert not any("lost" in line for line in searches.told)
    assert searches.started == ["trial-000", "trial-000", "trial-001"]
    assert search.study.trials[0].state.name == "COMPLETE"


def test_a_search_is_one_process_s(searches):
    first = searches.make()
    with pytest.raises(FolderInUseError, match="another process works on search s"):
        searches.make()
    first.folder.give_back()


def test_a_trial_that_collapses_is_pruned_with_its_reason(searches):
    search = searches.run(set={LR: "3e-4,2e-2"}, trials=2, steps=6)
    (bad,) = (trial for trial in search.study.trials if trial.params[LR] == "2e-2")
    assert (bad.state.name, bad.user_attrs["outcome"]) == ("PRUNED", "guard: bad since step 1: entropy_explosion")
    assert search.study.complete[0].params[LR] == "3e-4"


@pytest.mark.parametrize(("pruner", "step"), [("median", 4), ("hyperband", 4)])
def test_what_is_behind_at_a_validation_is_pruned(searches, pruner, step):
    values = {LR: "3e-4,2.9e-4,2.8e-4,3e-3"}
    search = searches.run(set=values, sampler="grid", trials=None, pruner=pruner)
    last = search.study.trials[3]
    assert last.state.name == "PRUNED" and last.user_attrs["pruned"]["step"] == step
    assert list(last.intermediate_values) == list(range(2, step + 1, 2))  # also where the run had gone on to its end
    assert pruner in last.user_attrs["outcome"]


def test_a_run_that_fails_says_why_and_the_search_goes_on(searches, monkeypatch):
    monkeypatch.setenv("FAILS", "trial-001")
    search = searches.run(trials=3)
    assert search.study.trials[1].state.name == "FAIL"
    assert search.study.trials[1].user_attrs["outcome"] == "it cannot be"
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_what_the_cluster_says_has_failed_for_good_is_not_begun_again(searches, monkeypatch):
    real = LocalExecutor.begin

    def begin(executor, run, overrides, slot, start):
        if run != "trial-001":  # whose job never starts
            real(executor, run, overrides, slot, start)

    monkeypatch.setattr(LocalExecutor, "begin", begin)
    monkeypatch.setattr(LocalExecutor, "failed", lambda _, run: "no such image" if run == "trial-001" else None)
    search = searches.run(trials=3)
    assert searches.started == ["trial-000", "trial-002"]
    assert search.study.trials[1].state.name == "FAIL"
    assert search.study.trials[1].user_attrs["outcome"] == "no such image"


def test_a_job_has_the_base_s_nodes_or_the_search_s(searches, monkeypatch):
    from recipes.archer.search.jobs import JobExecutor

    monkeypatch.setattr(JobExecutor, "rehearse", lambda *_: {})
    options = {"base": "v5_mended", "set": {LR: "1e-7..1e-5:log"}, "executor": "kubernetes"}
    for name, more, nodes in (("one", {}, 1), ("two", {"overrides": ["trainer.nnodes=2"]}, 2)):
        search = searches.make(name, **options, **more)
        assert search.executor.nodes == nodes
        search.folder.give_back()


def test_parallel_trials_have_each_their_group_of_gpus(searches, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr("recipes.archer.search.starting.num_gpus", lambda: 4)
    searches.run(base="v5_mended", set={LR: "1e-7..1e-5:log"}, trials=4, parallel=2)
    groups = [line.split()[1] for line in searches.starts.read_text().splitlines()]
    assert len(groups) == 4 and set(groups) == {"0,1", "2,3"}


@pytest.mark.parametrize("paused", [False, True])
def test_no_trial_begins_once_the_hours_are_spent(searches, monkeypatch, paused):
    """The hours are those at work, not those between two attempts."""
    if paused:
        monkeypatch.setenv("PAUSED", "1")
    search = searches.run(hours=0.15)  # each stand-in says that it took 0.1 h
    assert len(search.study.trials) == 2
    assert any("0.20 of 0.15 h" in line for line in searches.told)


def test_the_best_are_run_again_with_the_same_fresh_seeds(searches):
    search = searches.run(confirm=2, seeds=2)
    best = [trial.number for trial in search.study.complete[:2]]
    again = [(trial.user_attrs["of"], trial.user_attrs["seed"]) for trial in search.confirming.trials]
    assert sorted(again) == sorted((of, seed) for of in best for seed in (2, 3))
    assert search.confirming.trials[0].params == search.study.trials[again[0][0]].params
    assert len(search.study.trials) == 4


def test_a_search_may_be_made_larger(searches):
    searches.run(trials=3)
    search = searches.run(trials=5)
    assert searches.started == [f"trial-{number:03d}" for number in range(5)]
    assert search.folder.plan().trials == 5


def test_every_trial_has_an_experiments_record(searches):
    searches.run(trials=2, hypothesis='it\'s "better" at $5')
    data = yaml.safe_load((searches.output / "s" / "records" / "trial-001.yaml").read_text())
    record = parse_record(data["record"], "trial-001")
    assert (record.name, record.parent) == ("s-trial-001", "tiny")
    assert [change.key for change in record.changes] == [LR]
    assert data["actor_rollout_ref"]["actor"]["optim"].keys() == {"lr"}
    assert "better" in record.hypothesis and record.title.startswith("Trial 1 of search s: lr=")
