"""A wrong command line is explained in one line, with the remedy."""

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import WRONG_CALL
from recipes.archer.settings.command_line import exit_code_of, explain
from recipes.archer.settings.configuration import compose

COEFFICIENT = "actor_rollout_ref.actor.entropy_coeff"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("experiment=v9", "experiment=v9 is not known; use archer or aspo or tiny"),
        ("device=tpu", "device=tpu is not known; use cpu or cuda"),
        ("expriment=v3", "expriment: there is no such setting; did you mean experiment?"),
        (f"{COEFFICIENT[:-1]}=0.1", f"there is no such setting; did you mean {COEFFICIENT}?"),
        ("entropy_coeff=0.1", f"entropy_coeff: there is no such setting; did you mean {COEFFICIENT}?"),
        ("zzz.qqq=1", "zzz.qqq: there is no such setting; DRY_RUN=1 prints"),
        ("seed.x=3", "seed.x: there is no such setting; did you mean seed?"),
        ("seed 3", "seed 3 is no Hydra override; write name=value"),
        ("trainer.project_name=a=b", "a value with = in it needs quotation marks: 'trainer.project_name=\"a=b\"'"),
        ("data.train_files=/x/k=v/a.json", "a value with = in it needs quotation marks: 'data.train_files=\"/x/k=v"),
        ("data.train_files=[a", "data.train_files=[a is no Hydra override"),
        ("+seed=3", "An item is already at 'seed'. Either remove + prefix: 'seed=3'"),
        ("seed=1,2", "use key=[value1,value2]"),
    ],
)
def test_each_mistake_is_one_line_with_a_remedy(override, problem):
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose([override])
    line = explain(caught.value)
    assert problem in line and "\n" not in line


def test_a_checkout_without_upstreams_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ARCHER_VERL_CONFIG", str(tmp_path / "config"))
    assert exit_code_of(lambda: pytest.fail("not asked")) == WRONG_CALL
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}/config is missing, so verl is not unpacked; run: make setup\n"


def test_the_exit_code_is_the_entry_points_own_or_a_wrong_calls(capsys, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def entry(code):
        raise SystemExit(code)

    assert [exit_code_of(lambda code=code: entry(code)) for code in (0, 20, None)] == [0, 20, None]
    assert exit_code_of(lambda: None) == 0
    assert exit_code_of(lambda: compose(["experiment=v9"])) == WRONG_CALL
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: experiment=v9 is not known")


@pytest.mark.parametrize(("cap", "code"), [("0.5", WRONG_CALL), ("2.0", 0)])
def test_a_configuration_that_is_only_printed_is_judged_too(monkeypatch, capsys, cap, code):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    setting = "actor_rollout_ref.actor.ratio_cap"
    monkeypatch.setattr("sys.argv", ["main", "experiment=archer", f"{setting}={cap}", "--cfg", "job", "--resolve"])
    assert exit_code_of(lambda: None) == code
    assert capsys.readouterr().err.startswith(f"error: {setting} is 0.5: " if code else "")


@pytest.mark.parametrize(
    ("words", "code"), [(["~actor_rollout_ref.actor.use_kl_loss"], WRONG_CALL), (["--config-name=archer"], 0)]
)
def test_it_is_judged_by_all_overrides_and_by_nothing_else(monkeypatch, words, code):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("sys.argv", ["main", "experiment=archer", *words, "--cfg", "job"])
    assert exit_code_of(lambda: None) == code


def test_an_error_of_the_program_is_not_taken_for_one_of_the_caller():
    def broken():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        exit_code_of(broken)
