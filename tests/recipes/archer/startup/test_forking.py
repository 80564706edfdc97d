"""Where a new run may begin: at another one's whole checkpoint of the same architecture."""

import json

import pytest
from omegaconf import OmegaConf

from exporting import save_run
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.ending import UserError
from recipes.archer.startup.forking import fork_of

OURS = {"model": {"hidden_size": 64, "head_dim": None}, "weights": "ours"}


@pytest.fixture
def output(tmp_path):
    """With a run whose step 2 was its best."""
    save_run(tmp_path / "output" / "project" / "other", {2: 0.75, 4: 0.5})
    return tmp_path / "output"


@pytest.fixture
def fork(output):
    def forked(name, optimizer=False, kl=True):
        trainer = {"fork_from": name, "fork_optimizer": optimizer, "output_dir": str(output)}
        trainer["default_local_dir"] = str(output / "project" / "own")
        config = {"trainer": trainer, "actor_rollout_ref": {"actor": {"use_kl_loss": kl, "kl_loss_coef": 0.001}}}
        return fork_of(OmegaConf.create(config), OURS)

    return forked


def _identity(folder, **identity) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"identity": identity}))
    (folder / "manifest.json").unlink()  # or it would list itself
    write_manifest(folder)


def test_without_the_setting_there_is_none(fork):
    assert fork(None) is None


@pytest.mark.parametrize(("name", "step"), [("other", 2), ("project/other", 2), ("FOLDER/global_step_4", 4)])
def test_a_run_by_name_or_a_checkpoint(fork, output, name, step):
    found = fork(name.replace("FOLDER", f"{output}/project/other"), optimizer=True)
    assert found.checkpoint.step == step and found.lineage["forked_from"] == {
        "run": "a run",
        "step": step,
        "optimizer": True,
        "checkpoint": f"{output}/project/other/global_step_{step}",
    }
    assert str(found).startswith(f"beginning with the parameters and moments of step {step} of a run")


def test_another_architecture_is_refused(fork, output):
    _identity(output / "project/other/global_step_2", model={"hidden_size": 128, "head_dim": 32})
    with pytest.raises(UserError, match="holds another model than .*: hidden_size=128 instead of 64$"):
        fork("other")


def test_other_weights_are_said_where_the_loss_measures_from_them(fork, output, capsys):
    _identity(output / "project/other/global_step_2", model=OURS["model"], weights="theirs")
    fork("other", kl=False)
    assert capsys.readouterr().err == ""
    fork("other")
    assert "was trained from other weights" in capsys.readouterr().err


def test_its_own_folder_is_no_other(fork, output):
    own = save_run(output / "project" / "own", {2: 0.5})
    for target in (own, own / "global_step_2"):
        with pytest.raises(UserError, match="is this run's own folder"):
            fork(str(target))


def test_a_damaged_or_absent_one_is_refused(fork, output):
    (output / "project/other/global_step_2/__0_0.distcp").write_bytes(b"")
    with pytest.raises(UserError, match="__0_0.distcp has 0 bytes"):
        fork(f"{output}/project/other/global_step_2")
    with pytest.raises(UserError, match="neither a path nor a run"):
        fork("nowhere")
