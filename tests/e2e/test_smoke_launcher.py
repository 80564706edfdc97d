"""The smoke launcher of the real job, on CPU with two workers: FSDP2 shards, gloo, one engine each."""

import pytest

from launching import launch

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def smoke(tiny, output):
    return launch(
        "run_archer2.0_qwen3_0.6b_math_smoke_4gpu.sh",
        "trainer.experiment_name=smoke",
        "trainer.logger=[console]",
        "actor_rollout_ref.rollout.repetition_penalty=1.2",
        output=output,
        name="Archer2.0/smoke",
        DEVICE="cpu",
        N_GPUS="2",
        MODEL_PATH=str(tiny / "model"),
        TRAIN_FILE=str(tiny / "train.json"),
        VAL_FILE=str(tiny / "val.json"),
    )


def test_two_steps_on_two_workers(smoke):
    assert smoke.code == 0, smoke.output[-3000:]
    assert [row["step"] for row in smoke.rows] == [1, 2]
    assert smoke.run["world_size"] == 2
    for row in smoke.rows:
        # 2 mini-batches, 3 epochs
        assert row["actor/num_updates"] == 6 and row["actor/num_skipped"] == 0
        assert row["actor/kl_loss"] is not None and row["batch/prompts"] == 8


def test_the_checkpoint_has_a_share_of_each_worker(smoke):
    names = {path.name for path in (smoke.folder / "global_step_2").iterdir()}
    assert {"__0_0.distcp", "__1_0.distcp", "host_0.json", "host_1.safetensors"} <= names
