"""The embedded job from its launcher: what it leaves, and that a killed run ends as one that never was."""

import json
import re
import signal

import pytest
import torch

from launching import lasting, launch, left_behind_by, steps_logged, tensors
from listening import survey
from metrics_page import PAGE, SOURCE, documented

TINY = "run_archer2.0_qwen3_tiny_cpu.sh"
SHORT = ("trainer.total_training_steps=4", "trainer.save_freq=2", "trainer.test_freq=4", "trainer.samples_freq=2")
# a control that acts from the second step on, and a reference that has moved before the kill
SHORT += ("control.entropy.actuator=advantage", "control.entropy.unit=nats", "control.entropy.band=[0.5,0.6]")
SHORT += ("control.entropy.warmup_steps=0", "actor_rollout_ref.ref.refresh.every=2")
TRACKED = "trainer.logger=[console,tensorboard,wandb]"
pytestmark = pytest.mark.e2e

# what others build on
KEYS = {
    "actor/entropy",
    "actor/kl_loss",
    "actor/grad_norm",
    "critic/score/mean",
    "response_length/mean",
    "timing_s/step",
    "batch/solve_none",
    "batch/solve_all",
    "batch/valid",
    "response_length/pos/mean",
    "response_length/neg/mean",
    "logical_connectives/mean",
    "logical_connectives/pos/mean",
    "logical_connectives/neg/mean",
    "logical_connectives/per_100_words",
    "repetition/ratio/mean",
    "reward/accuracy/mean",
    "reward/overlong/mean",
    "reward/timeout",
    "reward/no_answer",
    "reward/unparseable",
    "val/accuracy",
}


@pytest.fixture(scope="session")
def surveys():
    """What was seen of a run's sockets after its first step."""
    return []


@pytest.fixture(scope="session")
def straight(tiny, output, surveys):
    """Four steps without a disturbance, but that after the first a stranger knocks at every port."""
    return launch(
        TINY, *SHORT, TRACKED, "trainer.experiment_name=straight", output=output, name="Archer-tiny/straight",
        until=lambda folder: steps_logged(folder) >= 1, then=lambda driver: surveys.append(survey(driver)),
        TINY_DIR=str(tiny),
    )  # fmt: skip


@pytest.fixture(scope="session")
def interrupted(tiny, output):
    """The same four steps, killed after the third and started again with the same command."""
    arguments = (*SHORT, "trainer.logger=[console]", "trainer.experiment_name=interrupted")
    arguments += ("trainer.val_before_train=false",)  # of which no row knows
    where = {"output": output, "name": "Archer-tiny/interrupted", "TINY_DIR": str(tiny)}
    first = launch(TINY, *arguments, until=lambda folder: steps_logged(folder) >= 3, **where)
    return first, launch(TINY, *arguments, **where)


def test_the_run_ends_well_and_says_so(straight):
    assert straight.code == 0, straight.output[-3000:]
    assert straight.run["status"] == "finished" and straight.run["exit_code"] == 0
    assert "accuracy" in straight.output and "archer report" in straight.output


def test_every_step_is_there_with_every_key(straight):
    rows = straight.rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert len({frozenset(row) for row in rows}) == 1, "rows differ in their keys"
    assert not KEYS - set(rows[0])


def test_the_page_explains_the_keys_of_a_run_and_no_others(straight):
    prefix, interval = "val/accuracy/", {"val/accuracy/low", "val/accuracy/high"}
    row = straight.rows[0]
    keys = {prefix + SOURCE if key.startswith(prefix) and key not in interval else key for key in row}
    assert keys == set(documented(PAGE.read_text(encoding="utf-8")))


def test_metrics_are_consistent(straight):
    for row in straight.rows:
        assert row["batch/solve_none"] + row["batch/solve_all"] + row["batch/valid"] == row["batch/prompts"] == 16
        assert 0 < row["reward/accuracy/mean"] < 1 and row["actor/entropy"] > 0
        assert row["rollout/log_ratio/abs_max"] < 1e-3, "engine and trainer disagree about the policy"


def test_the_run_is_steered_and_its_reference_moves(straight):
    """Of four steps, α moves from the second on, and the reference of the last two is the policy after the second."""
    alphas = [row["control/entropy/alpha"] for row in straight.rows]
    assert alphas == pytest.approx([0, 0.1, 0.2, 0.3])
    policy, reference = (tensors(straight.folder / "global_step_2" / part) for part in (".", "reference"))
    shared = [name for name in reference if name.startswith(".model.") and name in policy]
    assert len(shared) > 10 and all(torch.equal(policy[name], reference[name]) for name in shared)
    assert straight.rows[2]["actor/kl_loss"] < straight.rows[1]["actor/kl_loss"]


def test_the_run_folder_is_whole(straight):
    folder = straight.folder
    for name in ("config.yaml", "run.json", "curves.png", "samples/step_2.jsonl", "global_step_4/manifest.json"):
        assert (folder / name).is_file(), name
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    sample = json.loads((folder / "samples/step_2.jsonl").read_text().splitlines()[0])
    assert {"prompt", "response", "ground_truth", "answer", "outcome", "score", "length"} <= set(sample)


def test_the_run_leaves_a_model_and_its_last_lines_load_it(straight):
    """What they load has the checkpoint's parameters and the run's stop tokens."""
    lines = straight.output.rstrip().splitlines()[-4:]
    assert lines[0].startswith("model of step 4 in") and "from transformers import" in lines[1]
    found = {}
    exec("\n".join(line.strip() for line in lines[1:]), found)
    saved = tensors(straight.folder / "global_step_4")
    saved[".model.lm_head.weight"] = saved[".model.model.embed_tokens.weight"]  # tied, and written once
    for name, tensor in found["model"].state_dict().items():
        assert torch.equal(tensor, saved[f".model.{name}"]), name
    assert found["model"].generation_config.eos_token_id and found["tokenizer"].chat_template


def test_every_tracker_gets_every_metric(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    existing = {name for row in straight.rows for name, value in row.items() if value is not None} - {"step"}
    board = EventAccumulator(str(straight.folder / "tensorboard")).Reload()
    assert existing <= set(board.Tags()["scalars"])
    (wandb_file,) = straight.folder.rglob("*.wandb")  # offline: no key
    content = wandb_file.read_bytes()
    assert not [name for name in existing if name.encode() not in content]


def test_a_run_listens_on_loopback_only_and_answers_nobody_else(straight, surveys):
    (seen,) = surveys
    assert (
        len(seen.open_to_user) >= 5
    )  # control server, raylet (two), driver, worker: the survey looks in the right place
    assert [listener for listener in seen.listeners if listener.address not in ("127.0.0.1", "::1")] == []
    assert seen.open_to_anyone == []
    assert not [port for port, answer in seen.answers.items() if answer.startswith(("2", "3"))], seen.answers
    assert seen.folder_mode == 0o700


def test_a_killed_run_ends_like_an_uninterrupted_one(straight, interrupted):
    first, second = interrupted
    assert first.code == -signal.SIGKILL and second.code == 0, second.output[-3000:]
    assert "continuing after step 2" in second.output

    assert lasting(second.rows) == lasting(straight.rows), "not the same numbers, bit for bit"


@pytest.mark.parametrize("part", [".", "reference"])
def test_a_killed_run_has_the_same_parameters_bit_for_bit(straight, interrupted, part):
    expected, got = (tensors(run.folder / "global_step_4" / part) for run in (straight, interrupted[1]))
    assert expected.keys() == got.keys() and len(expected) > 10
    for name in expected:
        assert torch.equal(expected[name], got[name]), name


def test_nothing_stays_behind(straight, interrupted):
    assert left_behind_by(straight, *interrupted) == []
    assert not re.search(r"Traceback", straight.output)
