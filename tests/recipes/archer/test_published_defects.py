"""The defects of the published Archer2.0 code, looked for one by one in ours.

The number in a test's name is the defect's in docs/algorithms.md. Wider tests of the same parts are in their own files;
here each test is the defect, as small as it can be shown.
"""

import time
from dataclasses import fields

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from loss_cases import random_batch, unpadded, with_gradient
from objective_cases import make_batch, value_of
from recipes.archer.ending import EMPTY
from recipes.archer.grading.grader import GradingPool
from recipes.archer.losses.aggregation import aggregate, denominator
from recipes.archer.losses.constants import LossConfig, loss_config_from, setting_name
from recipes.archer.losses.kl import kl_token_loss
from recipes.archer.losses.objective import step_loss
from recipes.archer.losses.policy import (
    archer_token_loss,
    aspo_policy_loss,
    low_entropy_mask,
    policy_token_loss,
    vanilla_token_loss,
)
from recipes.archer.losses.token_stats import merge_stats
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.reward.manager import token_level
from recipes.archer.session.secrets import run_id
from recipes.archer.settings.configuration import compose
from recipes.archer.text.metrics import text_metrics
from trainer_cases import CAP, RIGHT, WRONG, N, make_trainer, step_of

BASE = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
REWARD = """
def score(data_source, solution_str, ground_truth, extra_info=None):
    return 1 / ("7" not in solution_str)
"""
TIMEOUT_S = 1.0


def actor_config(*overrides: str):
    return compose([*BASE, *overrides]).actor_rollout_ref.actor


@pytest.fixture(scope="module")
def pool():
    with GradingPool(1, TIMEOUT_S) as pool:
        yield pool


def test_01_aspo_takes_a_step_with_integer_masks():
    batch = with_gradient(unpadded(1, dtype=torch.float32))
    masks = {name: batch[name].long() for name in ("response_mask", "low_entropy")}
    value, _ = aspo_policy_loss(**batch | masks)
    value.backward()
    assert batch["log_prob"].grad.abs().sum() > 0


def test_02_every_constant_of_the_loss_is_a_setting_that_exists():
    config = compose(BASE)
    for field in fields(LossConfig):
        parent, _, key = setting_name(field.name).rpartition(".")
        assert key in OmegaConf.select(config, parent), setting_name(field.name)


def test_03_validation_goes_through_the_reward_manager():
    trainer = make_trainer(lambda prompt, sample: (RIGHT if sample else WRONG, 3), trainer__test_freq=1)
    assert step_of(trainer)["val/accuracy"] == 0.5  # of two samples a prompt


def test_04_no_filter_leaves_a_batch_and_a_filter_that_leaves_none_divides_by_nothing():
    everything = make_trainer(lambda *_: (WRONG, 3), algorithm__group_filter__enable="false")
    step_of(everything)
    assert len(everything.calls.updates[0]) == 4 * N
    row = step_of(make_trainer(lambda _, sample: (RIGHT if sample else WRONG, CAP), reward__overlong_filter="true"))
    assert row["actor/num_updates"] == 0  # it did leave none
    assert all(np.isfinite(value) for value in row.values() if value is not None)
    nothing = torch.zeros(2, 3)
    assert aggregate(nothing, nothing, "token-mean", total=denominator(nothing, "token-mean")) == 0


# the losses, one after another, in which a constant is tried, and what it is set to
USED = {
    "clip_ratio_low": ("vanilla", 0.01),
    "clip_ratio_high": ("vanilla", 0.01),
    "clip_ratio_c": ("vanilla archer", 1.05),
    "clip_low_entropy": ("aspo", [0.01, 0.01]),
    "clip_high_entropy": ("aspo", [0.01, 0.01]),
    "ratio_cap": ("aspo", 1.05),
    "token_entropy_quantile": ("aspo", 0.3),
    "token_class_from": ("archer", "rollout"),
    "loss_agg_mode": ("aspo", "seq-mean-token-mean"),
    "entropy_coeff": ("aspo", 0.1),
    "use_kl_loss": ("aspo", False),
    "kl_loss_coef": ("aspo", 0.5),
    "kl_loss_high_entropy_scale": ("aspo", 0.5),
    "kl_loss_type": ("aspo", "mse"),
    "rollout_is_threshold": ("aspo", 1.01),
    "clip_cov_ratio": ("clip-cov", 0.01),
    "clip_cov_lb": ("clip-cov", -5.0),
    "clip_cov_ub": ("clip-cov", 1.1),
    "kl_cov_ratio": ("kl-cov", 0.9),
    "ppo_kl_coef": ("kl-cov", 5.0),
    "policy_loss": ("vanilla", "aspo"),
}


def gradient_with(*overrides: str) -> torch.Tensor:
    batch, log_prob, entropy = make_batch(4, padding=0.0)
    torch.manual_seed(0)  # Clip-Cov draws
    # a total of 1 for every mode: by its own, a mode that changes nothing else would still change the scale
    loss, _, _ = step_loss(batch, log_prob, entropy, 1.0, loss_config_from(actor_config(*overrides)))
    gradients = torch.autograd.grad(loss, (log_prob, entropy), allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


@pytest.mark.parametrize("name, loss", [(name, loss) for name in USED for loss in USED[name][0].split()])
def test_05_a_constant_that_is_set_changes_the_gradient(name, loss):
    value = USED[name][1]
    given = [f"{setting_name('policy_loss')}={loss}", f"{setting_name('kl_loss_coef')}=0.1"]
    given += [f"{setting_name('clip_cov_lb')}=0.1", f"{setting_name('clip_cov_ratio')}=0.2"]
    before, after = gradient_with(*given), gradient_with(*given, f"{setting_name(name)}={value}")
    assert before.shape != after.shape or not torch.equal(before, after)


def test_05_no_constant_is_left_out():
    assert set(USED) == {field.name for field in fields(LossConfig)} - {"norm_length"}  # of one mode, and no choice


def test_06_low_entropy_means_low_and_the_wide_clip_is_the_others():
    entropy, ones = torch.tensor([[0.1, 3.0, 0.2, 0.3, 0.1]]), torch.ones(1, 5)
    low = low_entropy_mask(entropy, ones)
    assert low.tolist() == [[True, False, True, True, True]]
    log_prob = torch.full((1, 5), 0.26, requires_grad=True)  # ratio 1.3: outside 1.2, inside 1.4
    loss, stats = archer_token_loss(torch.zeros(1, 5), log_prob, ones, ones, low)
    loss.sum().backward()
    assert (log_prob.grad != 0).tolist() == [[False, True, False, False, False]]
    # so say the figures, and so does the KL that spares the high-entropy tokens
    figures = stats.metrics()
    assert [figures[f"actor/clipfrac/pos/{name}_entropy"] for name in ("low", "high")] == [1.0, 0.0]
    spared = LossConfig(kl_loss_high_entropy_scale=0.0).kl_coefs
    assert torch.equal(kl_token_loss(log_prob, torch.zeros(1, 5), low, *spared) != 0, low)
    # and the usual loss falls back on nothing of the kind
    plain = [vanilla_token_loss(torch.zeros(1, 5), log_prob, ones, ones, classes)[0] for classes in (None, low, ~low)]
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[0], plain[2])
    # nor are its two clips each other's: 1.3 is inside the upper one
    uneven = LossConfig(clip_ratio_low=0.1, clip_ratio_high=0.4)
    loss, _ = policy_token_loss(uneven, torch.zeros(1, 5), log_prob, ones, ones, low)
    assert torch.equal(loss, -log_prob.exp())


def test_07_token_mean_is_one_mean_over_the_step_whatever_the_cut():
    """Micro-batches of one row; the last mini-batch is divided by its own tokens (see test_actor_invariance)."""
    batch = random_batch(5)
    loss, _ = archer_token_loss(**batch)
    mask = batch["response_mask"]
    total = denominator(mask, "token-mean")
    rows = [aggregate(loss[i : i + 1], mask[i : i + 1], "token-mean", total=total) for i in range(len(mask))]
    torch.testing.assert_close(sum(rows), loss[mask].mean())
    of_means = torch.stack([loss[i][mask[i]].mean() for i in range(len(mask)) if mask[i].any()]).mean()
    assert not torch.isclose(sum(rows), of_means)


def test_08_a_set_in_another_order_is_right(pool):
    (grade,) = pool.grade_batch([r"so \boxed{\{1,2\}}"], [r"\{2,1\}"])
    assert grade.score == 1.0


def test_09_only_what_follows_the_last_think_block_is_graded(pool):
    responses = [
        r"<think>\boxed{1}</think> hm </think> so \boxed{2}",
        r"<think>\boxed{2}</think> so it is two",
        r"<think>hm</think> \boxed{2} </think> so it is two",  # the last one, not the first
    ]
    grades = pool.grade_batch(responses, ["2"] * 3)
    assert [grade.outcome for grade in grades] == ["correct", "no_answer", "no_answer"]


ENDLESS = r"\sum_{k=1}^{\infty}\sum_{j=1}^{\infty}\sum_{m=1}^{\infty}\frac{\sin k\cos j}{k^2j^2m^2}"


def test_10_a_hostile_answer_holds_nobody_up(pool):
    pool.wait_until_ready()
    start = time.monotonic()
    # the first is refused unread; the second gets as far as the judge, and the third waits for it in the only process
    pending = pool.submit([rf"\boxed{{{text}}}" for text in ("123456789!", ENDLESS, "2+2")], ["4"] * 3)
    refused, hung, honest = pending.result(10 * TIMEOUT_S)  # or TimeoutError
    assert (refused.score, hung.outcome, hung.score, honest.score) == (0.0, "timeout", 0.0, 1.0)
    assert time.monotonic() - start < 10 * TIMEOUT_S


def test_11_one_bad_row_costs_itself_and_an_unknown_source_is_mathematics(tmp_path):
    script = tmp_path / "reward.py"
    script.write_text(REWARD)
    with GradingPool(1, 5.0, data_sources={"mine": (str(script), "score")}) as pool:
        texts = [rf"\boxed{{{n}}}" for n in (4, 7, 4)]
        grades = pool.grade_batch(texts, ["4"] * 3, data_sources=["mine", "mine", "never heard of"])
    assert [grade.score for grade in grades] == [1.0, 0.0, 1.0]
    assert [grade.failed for grade in grades] == [False, True, False]


def one_truncated(prompt: int, sample: int) -> tuple[str, int]:
    return WRONG, CAP if sample == 5 else 3


def test_12_wrong_answers_of_which_one_was_truncated_teach_nothing():
    settings = {"actor_rollout_ref__rollout__n": 16, "reward__overlong_buffer_len": 2}
    by_reward = make_trainer(one_truncated, algorithm__group_filter__metric="reward", **settings)
    step_of(by_reward)
    batch = by_reward.calls.updates[0].batch
    wrong = batch["response_mask"].sum(-1) == 3
    torch.testing.assert_close(batch["advantages"][wrong, 0], torch.full((4 * 15,), 0.25), rtol=1e-4, atol=0)
    ours = make_trainer(one_truncated, **settings)
    row = step_of(ours)
    assert ours.calls.updates == [] and (row["batch/solve_none"], row["batch/valid"]) == (4, 0)


def test_13_steps_in_which_nothing_is_valid_are_logged_counted_and_end_the_run():
    trainer = make_trainer(lambda *_: (WRONG, 3), trainer__max_empty_steps=3)
    ending = trainer.fit()
    assert [row["step"] for row in trainer.report.rows] == [1, 2, 3]
    assert ending.exit_code == EMPTY and ending.reason
    state = trainer.saver.save.call_args.args[0]  # the final save
    assert state["step"] == 3


def test_14_figures_are_of_everything_generated_and_of_every_micro_batch():
    def script(prompt, sample):
        return (RIGHT if prompt == 0 and sample == 0 else WRONG), 1 + prompt

    row = step_of(make_trainer(script))
    assert row["batch/trained"] == 1 and row["response_length/mean"] == 2.5
    assert row["critic/score/mean"] == 1 / 16 and row["actor/entropy"] != row["actor/entropy/kept"]
    kl = []
    for size in (1, 5):
        parts = []
        for start in range(0, 5, size):
            batch, log_prob, entropy = make_batch(6)
            part = {name: value[start : start + size] for name, value in batch.items()}
            config = LossConfig(use_kl_loss=True)
            parts.append(value_of(part, log_prob[start : start + size], entropy[start : start + size], config)[2])
        kl.append(merge_stats(parts).metrics()["actor/kl_loss"])
    assert kl[0] == pytest.approx(kl[1], rel=1e-12)


def test_15_a_class_that_is_empty_is_null_and_words_have_a_rate():
    row = step_of(make_trainer(lambda *_: (WRONG, 3)))
    for name in ("response_length/pos/mean", "logical_connectives/pos/mean", "actor/clipfrac/pos/low_entropy"):
        assert row[name] is None
    text = "so x is two because y is one "
    once, thrice = (text_metrics([t], [True], [False]) for t in (text, text * 3))
    assert thrice["logical_connectives/mean"] == 3 * once["logical_connectives/mean"]
    assert thrice["logical_connectives/per_100_words"] == once["logical_connectives/per_100_words"]


def test_16_an_empty_response_has_no_reward_in_another_column():
    tensor = token_level(np.array([1.0, -1.0]), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    assert tensor.tolist() == [[0, 1, 0], [-1, 0, 0]]


def test_17_a_run_goes_on_within_its_epoch_and_a_rerun_is_a_run_of_its_own(tmp_path):
    stream = PromptStream(5, seed=1)
    taken = stream.take(7)
    resumed = PromptStream(5, seed=1)
    resumed.load_state_dict(stream.state_dict())
    assert (resumed.epoch, resumed.position) == (1, 2)
    assert sorted(taken[5:] + resumed.take(3)) == list(range(5))
    # the trainer's own state holds it: six prompts, four a step, in the file's order
    first, second = (make_trainer(lambda *_: (WRONG, 3), prompts=6) for _ in range(2))
    step_of(first)
    second.load_state_dict(first.state_dict())
    row = step_of(second)
    assert second.calls.prompts == [4, 5, 0, 1] and (row["step"], row["training/epoch"]) == (2, 1)
    jobs = [{}, {}, *({"JOB_NAME": "archer", "JOB_UUID": digit * 8} for digit in "12")]
    ids = []
    for number, job in enumerate(jobs):
        (tmp_path / str(number)).mkdir()
        ids.append(run_id(job, tmp_path / str(number)))
    assert len(set(ids)) == 4  # also under one job's name
    assert [run_id({}, tmp_path / str(number)) for number in range(4)] == ids
