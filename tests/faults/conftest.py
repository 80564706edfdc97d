"""Runs of the stack that something goes wrong in; as in tests/e2e, each is started by a launcher."""

from pathlib import Path

import pytest

from injecting import Plan, Point
from launch_fixtures import output, tiny  # noqa: F401  (fixtures)
from launching import launch

TINY = "run_archer2.0_qwen3_tiny_cpu.sh"
# surplus prompts and a schedule that moves, so that there is something to lose
SHORT = (
    "trainer.n_gpus_per_node=1",
    "trainer.total_training_steps=4",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "trainer.samples_freq=1",
    "trainer.val_before_train=false",
    "trainer.logger=[console,tensorboard]",
    "algorithm.group_filter.max_gen_batches=2",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=3",
)
# measured while nothing is wrong, so that a kill can be timed by the place it is meant for
MEASURED = (
    "recipes.archer.startup.inputs:tokenizer_and_prompts",
    "recipes.archer.trainer:ArcherTrainer.init_workers",
    "recipes.archer.workers.calls:WorkerCalls.generate",
    "recipes.archer.workers.calls:WorkerCalls.add_reference",
    "recipes.archer.workers.calls:WorkerCalls.update",
    "recipes.archer.reward.manager:PendingRewards.result",
    "recipes.archer.trainer:ArcherTrainer._score_untrained",
    "recipes.archer.trainer:ArcherTrainer._measure",
    "recipes.archer.trainer:ArcherTrainer._validate",
    "recipes.archer.reports.live:Report.step",
    "recipes.archer.reports.live:Report.end",
    "recipes.archer.checkpoints.saver:CheckpointSaver._fill",
    "recipes.archer.checkpoints.store:CheckpointStore.commit",
    "recipes.archer.checkpoints.store:CheckpointStore.settle",
    "recipes.archer.workers.worker:ArcherWorker.init_model",
    "recipes.archer.rollout.engine:SeededRollout.generate_sequences",
    "recipes.archer.workers.actor:ArcherActor.compute_log_prob",
    "recipes.archer.workers.actor:ArcherActor.update_policy",
    "recipes.archer.checkpoints.shards:save_shards",
)


@pytest.fixture(scope="session")
def short_run(tiny, output):  # noqa: F811
    """Four steps of the embedded job; a name for the run, overrides, and what is done to it on its way."""

    def run(name: str, *overrides: str, plan: Plan | None = None, **conditions):
        arguments = (*SHORT, f"trainer.experiment_name={name}", *overrides)
        conditions = {"TINY_DIR": str(tiny)} | (plan.environment() if plan else {}) | conditions
        where = {"output": conditions.pop("output", output), "name": f"Archer-tiny/{name}"}
        return launch(TINY, *arguments, **where, **conditions)

    return run


@pytest.fixture(scope="session")
def planned(output):  # noqa: F811
    """Makes a plan of faults; all share what is known of how long a place takes."""

    def make(name: str, points: list[Point], **settings) -> Plan:
        return Plan(output / f"plan-{name}", output / "seconds", points, **settings)

    return make


@pytest.fixture(scope="session")
def straight(short_run, planned):
    """Without a disturbance."""
    return short_run("undisturbed", plan=planned("undisturbed", [], watched=MEASURED))


@pytest.fixture
def room(tmp_path) -> Path:
    """A folder on a disk of its own, of 64 MiB."""
    import subprocess

    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
