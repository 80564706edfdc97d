"""Run folders to read."""

from pathlib import Path

import pytest

from recipes.archer.ending import Ending
from run_folders import FINISHED, RECORD, STOPPED, collapsing_rows, default_config, healthy_rows, write_run


@pytest.fixture
def healthy_run(tmp_path) -> Path:
    """60 steps, finished, responses of four steps, validation before training."""
    return write_run(
        tmp_path / "output/p/healthy",
        healthy_rows(60),
        sampled=(1, 20, 40, 60),
        facts={"val_before": {"val/accuracy": 0.04}},
        ending=FINISHED,
    )


@pytest.fixture
def collapsing_run(tmp_path) -> Path:
    """60 steps that end in a collapse."""
    config = default_config("collapsing")
    config["actor_rollout_ref"]["actor"] |= {"entropy_coeff": 0.0, "kl_loss_coef": 0.001}
    config["record"] = RECORD
    rows = collapsing_rows(60)
    return write_run(tmp_path / "output/p/collapsing", rows, sampled=(1, 30, 60), config=config, ending=STOPPED)


@pytest.fixture
def two_step_run(tmp_path) -> Path:
    """Still running, two steps, no responses kept."""
    return write_run(tmp_path / "output/p/two", healthy_rows(2))


@pytest.fixture
def empty_run(tmp_path) -> Path:
    """Failed before its first step."""
    ending = Ending("failed", "RuntimeError: no worker", 1)
    return write_run(tmp_path / "output/p/empty", [], ending=ending)


@pytest.fixture
def long_run(tmp_path) -> Path:
    """A thousand steps."""
    rows, config = collapsing_rows(1000), default_config("long") | {"record": RECORD}
    return write_run(tmp_path / "output/p/long", rows, sampled=(10, 1000), config=config, ending=FINISHED)
