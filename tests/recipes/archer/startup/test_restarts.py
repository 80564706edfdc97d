"""How often a run starts itself again."""

import json

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import FAILED
from recipes.archer.runs.log import RunLog
from recipes.archer.startup.restarts import Restarts

FAULT = RuntimeError("worker rank 1 of 2 died: it was killed")


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path)
    log.open(OmegaConf.create({}), {}, 0)
    yield log
    log._lock.close()


def _again(log: RunLog, last_step: int) -> None:
    log.open(OmegaConf.create({}), {}, last_step)


def test_each_restart_is_said_and_recorded(log, capsys):
    log.write({"step": 1})
    restarts = Restarts(3, log)
    assert restarts.after(FAULT) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {FAULT}; restart 1 of 3 (trainer.max_restarts), from the last whole checkpoint"
    _again(log, 0)
    (entry,) = json.loads((log.folder / "run.json").read_text())["restarts"]
    assert (entry["step"], entry["cause"]) == (1, str(FAULT)) and entry["at"]


def test_the_last_one_ends_the_run_and_names_the_setting(log):
    restarts = Restarts(2, log)
    assert restarts.after(FAULT) is None
    assert restarts.after(FAULT) is None
    ending = restarts.after(FAULT)
    assert (ending.status, ending.exit_code) == ("failed", FAILED)
    assert ending.reason == f"{FAULT}; trainer.max_restarts=2 used up without a new checkpoint"
    assert len(log.run["restarts"]) == 2


def test_a_new_checkpoint_resets_the_count(log):
    restarts = Restarts(1, log)
    for step in (10, 20, 30):
        log.note(last_checkpoint=step)
        assert restarts.after(FAULT) is None
        _again(log, step)
    assert restarts.after(FAULT) is not None  # none since step 30
    assert len(log.run["restarts"]) == 3


def test_never(log):
    assert Restarts(0, log).after(FAULT).reason == f"{FAULT}; trainer.max_restarts=0 used up"
    assert "restarts" not in log.run
