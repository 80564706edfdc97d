"""From a run to a model: where it goes, and what a run leaves at its end."""

import os

import pytest
from omegaconf import OmegaConf

from exporting import model, save_checkpoint, save_run
from recipes.archer.ending import DISK, EMPTY, FAILED, FINISHED, GUARD, NOT_FINITE, TERMINATED, Ending
from recipes.archer.export.making import export_target, leave_model


@pytest.fixture
def run(tmp_path):
    """Its step 2 was the best."""
    folder, made = save_run(tmp_path / "run", {}), model()
    for step, accuracy in {2: 0.75, 4: 0.5}.items():
        row = {"val/accuracy": accuracy}
        save_checkpoint(folder / f"global_step_{step}", made.state_dict(), config=made.config, step=step, row=row)
    return folder


def _trainer(run, export="best"):
    return OmegaConf.create({"default_local_dir": str(run), "export": export})


def _end(code: int) -> Ending:
    return Ending("finished", "over", code)


@pytest.mark.parametrize(("export", "step"), [("best", 2), ("last", 4)])
def test_a_run_leaves_its_model_and_says_how_to_load_it(run, export, step):
    lines, problem = leave_model(_trainer(run, export), _end(FINISHED))
    assert problem is None and f"step {step} in {run}/model" in lines[0]
    assert len(lines) == 4 and "from_pretrained" in lines[-1]
    assert f"step {step}" in (run / "model/README.md").read_text()


def test_where_no_best_is_kept_it_is_the_last(run):
    (run / "config.yaml").write_text("trainer: {keep_best: {metric: null}}")
    assert "step 4" in leave_model(_trainer(run), _end(FINISHED))[0][0]


def test_started_again_it_replaces_its_own(run):
    leave_model(_trainer(run), _end(FINISHED))
    lines, problem = leave_model(_trainer(run, "last"), _end(FINISHED))
    assert problem is None and "step 4" in lines[0]


@pytest.mark.parametrize("code", [FINISHED, GUARD, EMPTY, NOT_FINITE])
def test_a_run_that_is_over_leaves_one(run, code):
    assert leave_model(_trainer(run), _end(code))[0]


@pytest.mark.parametrize("code", [FAILED, DISK, TERMINATED])
def test_a_run_that_goes_on_leaves_none(run, code):
    assert leave_model(_trainer(run), _end(code)) == ([], None) and not (run / "model").exists()


def test_none_is_left_where_none_is_wanted(run):
    assert leave_model(_trainer(run, None), _end(FINISHED)) == ([], None)


@pytest.mark.parametrize("case", ["no checkpoint", "mine", "a bug"])
def test_what_goes_wrong_is_a_warning(run, monkeypatch, case):
    if case == "no checkpoint":
        os.rename(run / "global_step_2", run / "a")
        os.rename(run / "global_step_4", run / "b")
    elif case == "mine":
        (run / "model/notes").mkdir(parents=True)
    else:
        monkeypatch.setattr("recipes.archer.export.making.export_model", lambda *_, **__: 1 / 0)
    lines, problem = leave_model(_trainer(run), _end(FINISHED))
    assert lines == [] and problem.startswith("no model was exported") and "\n" not in problem


def test_by_hand_it_goes_beside_the_checkpoints(run, tmp_path):
    chosen, exported = export_target(run / "global_step_4")
    assert exported.folder == run / "model" and chosen.checkpoint.step == 4
    assert export_target(run, tmp_path / "else", step="4")[1].folder == tmp_path / "else"
