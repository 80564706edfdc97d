"""Runs of the stack that something goes wrong in; as in tests/e2e, each is started by a launcher."""

import pytest

from launch_fixtures import output, tiny  # noqa: F401  (fixtures)
from launching import launch

TINY = "run_archer2.0_qwen3_tiny_cpu.sh"
SHORT = (
    "trainer.total_training_steps=4",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "trainer.val_before_train=false",
    "trainer.logger=[console,tensorboard]",
)


@pytest.fixture(scope="session")
def short_run(tiny, output):  # noqa: F811
    """Four steps of the embedded job; a name for the run, overrides, and what is done to it on its way."""

    def run(name: str, *overrides: str, **conditions):
        arguments = (*SHORT, f"trainer.experiment_name={name}", *overrides)
        return launch(TINY, *arguments, output=output, name=f"Archer-tiny/{name}", TINY_DIR=str(tiny), **conditions)

    return run


@pytest.fixture(scope="session")
def straight(short_run):
    """Without a disturbance."""
    return short_run("undisturbed")
