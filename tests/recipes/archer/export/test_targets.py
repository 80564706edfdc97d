"""Which models a name means, and where the results of evaluating them go."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from recipes.archer.ending import UserError
from recipes.archer.export import targets
from recipes.archer.export.targets import find_targets
from run_folders import write_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with checkpoints of three steps, of which one is not whole; 8 is the best."""
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path / "output/p/r", [{"step": 1}])
    for step in (2, 8, 12):
        (folder / f"global_step_{step}" / "model_config").mkdir(parents=True)
        (folder / f"global_step_{step}" / "manifest.json").write_text(f"of {step}")
        (folder / f"global_step_{step}" / "model_config" / "config.json").write_text("{}")

    def choose(path, step=None):
        number = {None: "8", "best": "8", "last": "12"}.get(step, step)
        if number not in ("8", "12"):
            raise UserError(f"checkpoint of step {number} is not whole")
        checkpoint = SimpleNamespace(path=folder / f"global_step_{number}", step=int(number))
        return SimpleNamespace(checkpoint=checkpoint, run=SimpleNamespace(folder=folder))

    monkeypatch.setattr(targets, "choose", choose)
    return folder


@pytest.mark.parametrize(
    ("steps", "found"), [(None, [8]), ("best", [8]), ("last", [12]), ("all", [8, 12]), ("12, 8", [12, 8]), ("12", [12])]
)
def test_the_steps_of_a_run(run, steps, found):
    for name in ("r", "p/r", str(run)):
        chosen = find_targets([name], steps, None)
        assert [target.step for target in chosen] == found
        assert [target.home for target in chosen] == [run / "evaluations" / f"step_{step}" for step in found]
        assert chosen[0].folder == run / f"global_step_{found[0]}" / "model_config"


def test_what_is_named_twice_is_evaluated_once(run):
    assert [target.step for target in find_targets(["r", str(run)], "all", None)] == [8, 12]


def test_two_runs_with_one_checkpoint_are_two(run, tmp_path, monkeypatch):
    """A run that was forked begins with another's checkpoint; its own course has it, too, wherever results go."""
    other = write_run(tmp_path / "other/r", [{"step": 1}])
    kept = targets.choose(run, "8")

    def choose(path, step=None):
        return SimpleNamespace(checkpoint=kept.checkpoint, run=SimpleNamespace(folder=path))

    monkeypatch.setattr(targets, "choose", choose)
    for out in (None, tmp_path / "out"):
        found = find_targets([str(run), str(other), "r"], "8", out)
        assert [target.run.folder for target in found] == [run, other]


def test_elsewhere_results_have_the_runs_name(run, tmp_path):
    (target,) = find_targets(["r"], "last", tmp_path / "out")
    assert target.home == tmp_path / "out" / "r-step_12" and target.name == "r step 12"


def test_a_step_that_is_not_whole_is_refused_where_it_is_named(run):
    with pytest.raises(UserError, match="step 2 is not whole"):
        find_targets(["r"], "2,8", None)


def test_a_checkpoint_without_a_models_settings_is_refused(run):
    (run / "global_step_8" / "model_config" / "config.json").unlink()
    with pytest.raises(UserError, match="holds no settings of a model"):
        find_targets(["r"], None, None)


def test_an_export_beside_the_results_goes_with_the_next_evaluation_of_this_node(run, tmp_path):
    """Whether that one uses a cluster or not; another node's stays, whose processes are not known here."""
    (target,) = find_targets([str(run)], None, None)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    own, foreign = (target.home / f"archer-model-{node}-{ended.pid}-abc" for node in (os.uname().nodename, "elsewhere"))
    for folder in (own, foreign):
        (folder / "model").mkdir(parents=True)
    target.remove_leftovers()
    assert list(target.home.iterdir()) == [foreign]
