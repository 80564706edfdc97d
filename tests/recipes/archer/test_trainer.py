"""One training step, the trainer's own: who is trained on, with which advantages, and what the row says of it all."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recipes.archer.ending import EMPTY, GUARD, NOT_FINITE, Cause, Ending
from recipes.archer.session.signals import StopRequested
from trainer_cases import CAP, PROMPT, RIGHT, UNREADABLE, WRONG, N, make_trainer, step_of

POLICY_KEYS = ("actor/entropy", *(f"rollout/log_ratio/{name}" for name in ("mean", "abs_mean", "abs_max")))
SEVERAL_UPDATES = {"actor_rollout_ref__actor__ppo_epochs": 2}
FILTER = {"reward__overlong_filter": "true"}


def mixed(prompt: int, sample: int) -> tuple[str, int]:
    """Of four prompts, one is solved by all, one by none, two by some; lengths from 0 to the cap."""
    right = {0: True, 1: False}.get(prompt % 4, sample < prompt % 4 - 1)
    if sample == 3 and not right:
        return WRONG, 0
    return RIGHT if right else WRONG, 1 + (3 * prompt + 5 * sample) % CAP


def never(prompt: int, sample: int) -> tuple[str, int]:
    return WRONG, 2 + sample


def one_truncated(prompt: int, sample: int) -> tuple[str, int]:
    """All wrong, one of each group cut at the cap."""
    return WRONG, CAP if sample == 1 else 3


# -- which groups are trained on -------------------------------------------------------------------------------


def test_groups_with_right_and_wrong_responses_are_trained_on():
    trainer = make_trainer(mixed)
    row = step_of(trainer)
    assert (row["batch/solve_all"], row["batch/solve_none"], row["batch/valid"], row["batch/trained"]) == (1, 1, 2, 2)
    (update,) = trainer.calls.updates
    assert update.non_tensor_batch["prompt_number"].tolist().count(2) == N
    assert set(update.non_tensor_batch["prompt_number"].tolist()) == {2, 3}


@pytest.mark.parametrize("bound", [1, 2, 3, 5])
def test_refilling_stops_when_the_batch_is_full_or_at_the_bound(bound):
    """Two of four prompts are valid, so that four take two rounds."""
    trainer = make_trainer(mixed, algorithm__group_filter__max_gen_batches=bound)
    row = step_of(trainer)
    rounds = min(bound, 2)
    assert row["batch/gen_batches"] == rounds and row["batch/prompts"] == 4 * rounds
    assert row["batch/solve_none"] + row["batch/solve_all"] + row["batch/valid"] == row["batch/prompts"]
    assert row["batch/trained"] == 2 * rounds


def test_surplus_prompts_come_first_in_the_next_step():
    """Three of four prompts are valid: the second round has two groups too many."""

    def most(prompt, sample):
        return (RIGHT if sample and prompt % 4 else WRONG), 3

    trainer = make_trainer(most, algorithm__group_filter__max_gen_batches=9)
    row = step_of(trainer)
    assert (row["batch/valid"], row["batch/trained"]) == (6, 4)
    assert set(trainer.calls.updates[0].non_tensor_batch["prompt_number"].tolist()) == {1, 2, 3, 5}
    step_of(trainer)
    assert trainer.calls.prompts[8:12] == [6, 7, 8, 9]
    assert not {1, 2, 3, 5} & set(trainer.calls.prompts[8:])


def test_a_prompt_that_comes_again_in_a_refill_gets_other_responses():
    trainer = make_trainer(never, prompts=4, algorithm__group_filter__max_gen_batches=3)
    step_of(trainer)
    assert trainer.calls.prompts == [0, 1, 2, 3] * 3
    assert len(set(trainer.calls.seeds)) == 12 * N


def test_epochs_that_refilling_used_up_end_with_a_validation():
    """Planned are two steps; the first takes both batches of the only epoch."""
    refilled = {"algorithm__group_filter__max_gen_batches": 2, "trainer__total_epochs": 1}
    trainer = make_trainer(mixed, prompts=8, trainer__total_training_steps="null", **refilled)
    assert trainer.total_training_steps == 2
    assert trainer.fit().reason == "all 1 epochs done"
    (row,) = trainer.report.rows
    assert row["val/accuracy"] is not None


def test_without_the_filter_everything_is_trained_on():
    """Defect of others: with the filter off, no batch was left."""
    trainer = make_trainer(mixed, algorithm__group_filter__enable="false", algorithm__group_filter__max_gen_batches=3)
    row = step_of(trainer)
    assert (row["batch/trained"], row["batch/gen_batches"], row["batch/valid"]) == (4, 1, 2)
    assert len(trainer.calls.updates[0]) == 4 * N


def test_a_group_with_an_unreadable_ground_truth_is_not_trained_on():
    def damaged(prompt, sample):
        return (UNREADABLE, 3) if prompt == 2 and sample == 3 else mixed(prompt, sample)

    for enable in ("true", "false"):
        trainer = make_trainer(damaged, algorithm__group_filter__enable=enable)
        row = step_of(trainer)
        assert 2 not in trainer.calls.updates[0].non_tensor_batch["prompt_number"]
        assert row["reward/unparseable"] == 1


# -- the phantom gradient --------------------------------------------------------------------------------------


def test_by_the_shaped_reward_wrong_answers_are_praised():
    trainer = make_trainer(
        one_truncated,
        algorithm__group_filter__metric="reward",
        reward__overlong_buffer_len=2,
    )
    row = step_of(trainer)
    assert (row["batch/valid"], row["batch/trained"], row["reward/accuracy/mean"]) == (0, 4, 0)
    batch = trainer.calls.updates[0].batch
    praised = batch["advantages"][batch["response_mask"].bool()] > 0.4  # of n = 4; of 16 it would be 0.25
    assert praised.float().mean() > 0.5


def test_by_accuracy_they_are_not_trained_on():
    trainer = make_trainer(one_truncated, reward__overlong_buffer_len=2)
    row = step_of(trainer)
    assert (row["batch/valid"], row["batch/solve_none"], row["batch/trained"]) == (0, 4, 0)
    assert trainer.calls.updates == []
    assert row["reward/overlong/mean"] == -0.25 and row["reward/accuracy/mean"] == 0  # apart from each other


def test_a_later_round_may_have_longer_responses():
    """Columns that end with the response are padded to the longest; the prompts' own column is not."""

    def longer_later(prompt: int, sample: int) -> tuple[str, int]:
        outcome, _ = mixed(prompt, sample)
        return outcome, 2 if prompt < 4 else CAP

    trainer = make_trainer(longer_later, algorithm__group_filter__max_gen_batches=2)
    row = step_of(trainer)
    assert (row["batch/prompts"], row["batch/trained"], row["response_length/max"]) == (8, 4, CAP)
    batch = trainer.calls.updates[0].batch
    assert batch["prompts"].shape[1] == PROMPT
    assert batch["input_ids"].shape[1] == batch["attention_mask"].shape[1] == PROMPT + CAP


# -- steps without anything to learn from ----------------------------------------------------------------------


def test_an_empty_step_is_a_row_with_every_key():
    full, empty = step_of(make_trainer(mixed)), step_of(make_trainer(never))
    assert list(empty) == list(full)
    assert empty["actor/num_updates"] == 0 and empty["actor/grad_norm"] is None
    assert empty["actor/entropy"] > 0 and empty["rollout/log_ratio/abs_max"] > 0
    assert empty["response_length/pos/mean"] is None and empty["response_length/neg/mean"] == 3.5
    assert empty["actor/entropy/kept"] is None


def _skipping(trainer, counts: list[tuple[int, int, int]]):
    """Has the updates of each step say (applied, skipped, of these in a row at the end)."""
    names, said, update = ("updates", "skipped", "skipped_last"), iter(counts), trainer.calls.update

    def as_said(batch):
        return update(batch) | {f"actor/num_{name}": n for name, n in zip(names, next(said), strict=True)}

    trainer.calls.update = as_said
    return trainer


@pytest.mark.parametrize(
    ("counts", "steps", "since"),
    [
        ([(0, 12, 12)], 1, 1),  # twelve updates a step: the bound is on updates, not on steps
        ([(1, 0, 0), (7, 5, 3), (0, 6, 6), (0, 1, 1)], 4, 2),
        ([(4, 8, 8), (11, 1, 1), (0, 9, 9)], 3, 2),  # in a row: one that is applied starts the count anew
    ],
)
def test_updates_skipped_in_a_row_end_a_run_and_one_that_goes_on_from_it(counts, steps, since):
    trainer = _skipping(make_trainer(mixed, trainer__max_skipped_updates=10), counts)
    ending = trainer.fit()
    assert ending.exit_code == NOT_FINITE and "updates in a row (trainer.max_skipped_updates)" in ending.reason
    assert ending.cause == Cause("trainer.max_skipped_updates", "actor/grad_norm", since)
    assert len(trainer.report.rows) == steps
    again = make_trainer(mixed, trainer__max_skipped_updates=10)
    again.load_state_dict(trainer.state_dict())
    assert again.fit() == ending and again.report.rows == [], "it trained on"


def test_a_guard_that_says_stop_ends_the_run_after_that_step_with_its_state_saved():
    trainer = make_trainer(mixed)

    def check(row):
        trainer.rules.guard.reason = "bad since step 2" if row["step"] == 3 else None

    trainer.rules.guard.check.side_effect = check
    ending = trainer.fit()
    assert (ending.status, ending.reason, ending.exit_code) == ("stopped", "guard: bad since step 2", GUARD)
    assert [row["step"] for row in trainer.report.rows] == [1, 2, 3]
    assert trainer.saver.save.call_args.args[0]["step"] == 3


def test_a_run_without_a_right_answer_ends_with_a_reason_and_every_step_on_record():
    trainer = make_trainer(never, trainer__max_empty_steps=3)
    ending = trainer.fit()
    assert ending.exit_code == EMPTY and "no valid group in 3 steps" in ending.reason
    assert ending.cause == Cause("trainer.max_empty_steps", "batch/valid", 1)
    assert not trainer.state_dict()["sound"]
    assert [row["step"] for row in trainer.report.rows] == [1, 2, 3]
    assert trainer.calls.prompts == list(range(12))  # each step takes further prompts
    assert trainer.calls.updates == []


# -- advantages and the overlong filter ------------------------------------------------------------------------


def advantages_of(trainer) -> dict[tuple[int, int], float]:
    """(prompt, place among the update's rows) to the advantage of a row's first token."""
    batch = trainer.calls.updates[0]
    order = np.argsort(batch.batch["row"].numpy())
    prompts = batch.non_tensor_batch["prompt_number"]
    return {(int(prompts[i]), int(batch.batch["row"][i]) % N): float(batch.batch["advantages"][i, 0]) for i in order}


def half_truncated(prompt: int, sample: int) -> tuple[str, int]:
    """Sample 0 is right; of prompt 0 all but it are cut, of prompt 1 all, of the others none."""
    return (RIGHT if sample == 0 else WRONG), CAP if prompt == 1 or (prompt == 0 and sample) else 3


def test_truncated_responses_stay_in_their_groups_baseline_but_give_no_gradient():
    with_filter, without = make_trainer(half_truncated, **FILTER), make_trainer(half_truncated)
    row, _ = step_of(with_filter), step_of(without)
    assert advantages_of(with_filter) == advantages_of(without)
    # the only response left of a group of four: not its raw reward, 1, but one right of four
    assert advantages_of(with_filter)[0, 0] == pytest.approx(0.75 / 0.5, rel=1e-5)
    lengths = with_filter.calls.updates[0].batch["response_mask"].sum(-1)
    assert lengths.tolist().count(0) == 3 + 4 and lengths.max() == 3
    assert row["response/truncated/mean"] == 7 / 16


def test_a_filter_that_removes_everything_leaves_finite_figures():
    """Defect of others: a division by zero."""

    def cut(prompt, sample):
        return (RIGHT if sample else WRONG), CAP

    for settings in ({}, SEVERAL_UPDATES):
        row = step_of(make_trainer(cut, **FILTER, **settings))
        assert row["actor/entropy"] > 0 and row["actor/kl_loss"] is None and row["critic/advantages/mean"] is None
        assert not [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]


@pytest.mark.parametrize("settings", [{}, SEVERAL_UPDATES])
def test_a_run_in_which_every_response_is_cut_ends_with_a_reason_too(settings):
    """With the filter on nothing is updated, though the groups are valid."""

    def cut(prompt, sample):
        return (RIGHT if sample else WRONG), CAP

    trainer = make_trainer(cut, trainer__max_empty_steps=3, **FILTER, **settings)
    ending = trainer.fit()
    assert ending.exit_code == EMPTY and "only truncated responses (reward.overlong_filter) in 3" in ending.reason
    assert [(row["batch/valid"], row["actor/num_updates"]) for row in trainer.report.rows] == [(4, 0)] * 3


# -- figures of the policy, over everything generated ----------------------------------------------------------


def by_hand(trainer, rounds) -> dict[str, float]:
    """Means over all tokens generated."""
    values = []
    for r in rounds:
        mask = r.batch.batch["response_mask"].bool()
        values.append(trainer.calls.figures(r.batch.batch["responses"])[:, mask])
    log_prob, entropy, engine = torch.cat(values, dim=1)
    ratio = log_prob - engine
    figures = (entropy.mean(), ratio.mean(), ratio.abs().mean(), ratio.abs().max())
    return dict(zip(POLICY_KEYS, map(float, figures), strict=True))


@pytest.mark.parametrize("settings", [{}, FILTER, SEVERAL_UPDATES, SEVERAL_UPDATES | FILTER])
@pytest.mark.parametrize("script", [mixed, never, half_truncated])
def test_figures_of_the_policy_are_over_everything_generated(monkeypatch, script, settings):
    """In a one-update step the update measures the rows trained on and a pass of its own the others."""
    trainer = make_trainer(script, algorithm__group_filter__max_gen_batches=2, **settings)
    rounds = []
    monkeypatch.setattr(trainer, "_measure", lambda step, *rest: (rounds.extend(step.rounds), measure(step, *rest)))
    measure = type(trainer)._measure.__get__(trainer)
    row = step_of(trainer)
    assert {key: row[key] for key in POLICY_KEYS} == pytest.approx(by_hand(trainer, rounds), rel=1e-6)


def test_only_rows_that_no_update_computes_take_a_pass_in_a_one_update_step():
    trainer = make_trainer(mixed)
    step_of(trainer)
    assert trainer.calls.scored == 2 * N
    trainer = make_trainer(mixed, **SEVERAL_UPDATES)
    step_of(trainer)
    assert trainer.calls.scored == 4 * N


def test_entropy_of_the_kept_is_apart():
    for settings in ({}, SEVERAL_UPDATES):
        row = step_of(make_trainer(mixed, **settings))
        assert row["actor/entropy/kept"] != row["actor/entropy"]
    one, several = (step_of(make_trainer(mixed, **settings)) for settings in ({}, SEVERAL_UPDATES))
    assert one["actor/entropy/kept"] == pytest.approx(several["actor/entropy/kept"], rel=1e-6)


@pytest.mark.parametrize("settings", [{}, SEVERAL_UPDATES])
def test_without_the_engines_log_probabilities_there_is_no_ratio(settings):
    row = step_of(make_trainer(mixed, actor_rollout_ref__rollout__calculate_log_probs="false", **settings))
    assert all(row[key] is None for key in POLICY_KEYS[1:]) and row["actor/entropy"] > 0


def test_frozen_token_classes_come_with_the_batch_when_the_policy_moves_within_a_step():
    rollout = {"actor_rollout_ref__actor__token_class_from": "rollout"}
    for settings, there in (({}, False), (SEVERAL_UPDATES, True)):
        trainer = make_trainer(mixed, **rollout, **settings)
        step_of(trainer)
        keys = set(trainer.calls.updates[0].batch.keys())
        assert ({"rollout_entropy", "old_log_probs"} <= keys) is there
        assert bool({"rollout_entropy", "old_log_probs"} & keys) is there


def test_lengths_and_scores_are_of_everything_generated():
    row = step_of(make_trainer(mixed))
    lengths = [mixed(prompt, sample)[1] for prompt in range(4) for sample in range(N)]
    assert row["response_length/mean"] == np.mean(lengths) and row["response_length/min"] == 0
    assert row["critic/score/mean"] == row["reward/accuracy/mean"] == 7 / 16


def test_an_interrupted_save_is_brought_to_its_end_once_the_checkpoint_was_read():
    """Not before: that may be in the folder which is then given its name back."""
    trainer, order = make_trainer([]), []
    state = trainer.state_dict()
    trainer.load_state_dict = lambda state: None
    trainer.actor_rollout_wg.load_state.side_effect = lambda path, is_old, fresh: order.append(path)
    trainer.saver.repair.side_effect = lambda report: order.append(report)
    trainer.resume(SimpleNamespace(path=Path("/behind"), step=1, state=state, is_old=False, fresh_optimizer=False))
    assert order == ["/behind", trainer.report]


def test_a_stop_in_validation_drops_its_figures_and_keeps_the_step():
    trainer = make_trainer(lambda prompt, sample: (RIGHT if sample % 2 else WRONG, 4), trainer__test_freq=1)
    generate = trainer.calls.generate

    def stopped(batch, seeds, validate):
        if validate:  # while the engine answers
            trainer.stop.check.side_effect = StopRequested
        return generate(batch, seeds, validate)

    trainer.calls.generate = stopped
    trainer.stop.ending.return_value = Ending("stopped", "a signal", 143)
    assert trainer.fit().exit_code == 143
    (row,) = trainer.report.rows
    assert row["step"] == 1 and row["actor/grad_norm"] == 1.0 and row["val/accuracy"] is None
    assert trainer.saver.save.call_args.args[0]["step"] == 1


def test_a_stop_in_the_validation_before_training_leaves():
    trainer = make_trainer(lambda prompt, sample: (RIGHT, 4), trainer__val_before_train="true")
    trainer.stop.check.side_effect, trainer.report.before_training = StopRequested, None
    trainer.stop.ending.return_value = Ending("stopped", "a signal", 143)
    assert trainer.fit().exit_code == 143 and trainer.report.rows == []


def test_the_reference_is_looked_after_behind_every_update_and_in_steps_without_one():
    reference = {"actor_rollout_ref__actor__use_kl_loss": "true"}
    for script, updates in ((mixed, 1), (never, 0)):
        trainer = make_trainer(script, **reference)
        trainer.use_reference_policy = True  # which verl reads off the roles
        step_of(trainer), step_of(trainer)
        assert trainer.calls.refreshed == [(1, updates), (2, 2 * updates)]
    trainer = make_trainer(mixed)
    step_of(trainer)
    assert trainer.calls.refreshed == []
