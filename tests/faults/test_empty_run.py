"""A run in which every answer is wrong: it ends by itself, with a reason, every step of it on record."""

import pytest

from launching import launch

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return 0.0
"""


@pytest.fixture(scope="module")
def empty(tiny, output, tmp_path_factory):
    script = tmp_path_factory.mktemp("reward") / "nothing_right.py"
    script.write_text(REWARD)
    return launch(
        "run_archer2.0_qwen3_tiny_cpu.sh",
        f"custom_reward_function.path={script}",
        "trainer.max_empty_steps=3",
        "trainer.val_before_train=false",
        "trainer.total_training_steps=10",
        "trainer.logger=[console]",
        "trainer.experiment_name=empty",
        output=output,
        name="Archer-tiny/empty",
        TINY_DIR=str(tiny),
    )


def test_it_stops_with_a_reason(empty):
    assert empty.code == 21, empty.output[-3000:]
    assert empty.run["status"] == "stopped" and "no valid group in 3 steps" in empty.run["reason"]


def test_every_step_is_logged_and_nothing_was_updated(empty):
    assert [row["step"] for row in empty.rows] == [1, 2, 3]
    for row in empty.rows:
        assert row["batch/solve_none"] == row["batch/prompts"] and row["batch/valid"] == 0
        assert row["actor/num_updates"] == 0 and row["actor/grad_norm"] is None
        assert row["actor/entropy"] > 0, "the collapse must stay visible"
