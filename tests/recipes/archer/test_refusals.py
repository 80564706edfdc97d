"""What is wrong on every machine is refused wherever a configuration comes in: start, dry run, job, new record."""

from pathlib import Path

import pytest

from recipes.archer.cluster.job import build_job
from recipes.archer.cluster.settings import Settings
from recipes.archer.ending import WRONG_CALL, UserError
from recipes.archer.experiments.new import write_new
from recipes.archer.main import _judged
from recipes.archer.settings.command_line import exit_code_of
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.preflight import check, check_anywhere

SETTINGS = {  # one of each kind, and what is said
    "trainer.resume_mode=last": "trainer.resume_mode=last: use auto",  # one of several
    "algorithm.gamma=0.5": "algorithm.gamma=0.5 has no effect here",  # nothing reads it
    "data.train_batch_size=100": "data.train_batch_size=100 is not a multiple of",  # two that do not go together
    "trainer.project_name=lab/grpo": "trainer.project_name='lab/grpo': W&B takes no / in a name",
}


@pytest.mark.parametrize(("setting", "said"), SETTINGS.items())
def test_everywhere(setting, said, monkeypatch, capsys):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    launched = ["experiment=v5", "device=cuda", "data.train_files=a", "data.val_files=b", setting]
    monkeypatch.setattr("sys.argv", ["main", *launched, "--cfg", "job", "--resolve"])
    assert exit_code_of(lambda: None, _judged) == WRONG_CALL  # as DRY_RUN=1
    assert capsys.readouterr().err.startswith(f"error: {said}")
    for refuse in (
        lambda: check(compose(launched)),
        lambda: build_job("v5", [setting], Settings(Path("cluster.toml")), judge=check_anywhere),
        lambda: write_new("v99", "v5", [setting], "none"),
    ):
        with pytest.raises(UserError) as caught:
            refuse()
        assert str(caught.value).startswith(said)


def test_a_threshold_that_is_none_is_refused_by_a_dry_run_and_a_submission(monkeypatch, capsys):
    """The monitor judges its own; a new record cannot name one."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    override, said = "+guard.detectors.score_lost.best=1", "guard.detectors.score_lost.best is no threshold"
    monkeypatch.setattr("sys.argv", ["main", "experiment=v5", override, "--cfg", "job"])
    assert exit_code_of(lambda: None, _judged) == WRONG_CALL
    assert said in capsys.readouterr().err
    with pytest.raises(UserError, match=said):
        build_job("v5", [override], Settings(Path("cluster.toml")), judge=check_anywhere)


def test_a_name_that_looks_like_a_number_is_one_in_a_dry_run(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("sys.argv", ["main", "experiment=v5", "trainer.experiment_name=20261128", "--cfg", "job"])
    seen = []
    assert exit_code_of(lambda: None, lambda config: seen.append(config.trainer.experiment_name)) == 0
    assert seen == ["20261128"]
