"""The training loop: prompts -> rollout groups -> reward -> group filter -> advantage -> actor loss -> metrics.

The only file that imports every stage.  Workers, resource pools and the check of verl's own settings are
``RayPPOTrainer``'s; its ``fit`` is not used.
"""

import numpy as np

from recipes.archer.ending import EMPTY, FINISHED, GUARD, NOT_FINITE, Ending
from recipes.archer.metrics import batch as batch_metrics
from recipes.archer.metrics.row import step_row
from recipes.archer.prompts.dataset import prompt_batch, trim_responses
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.reward.group_filter import judge_groups, rows_of
from recipes.archer.reward.manager import Rewards, token_level
from recipes.archer.reward.overlong import overlong_filter_mask
from recipes.archer.rollout.seeds import response_seeds
from recipes.archer.session.signals import StopRequested
from recipes.archer.startup.inputs import planned_steps
from recipes.archer.step import Round, Step, concatenate
from recipes.archer.text.metrics import text_metrics
from recipes.archer.workers.calls import WorkerCalls
from recipes.archer.workers.deal import dealt
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.trainer.ppo.ray_trainer import RayPPOTrainer


class ArcherTrainer(RayPPOTrainer):
    """Runs the loop on one driver.

    Args:
        config, tokenizer, role_worker_mapping, resource_pool_manager: as verl's trainer.
        train_dataset, val_dataset: ``PromptDataset``.
        reward: ``ArcherRewardManager``.
        report: ``Report``, which writes rows and samples.
        guard: answers, row by row, whether to stop.
        stop: ``StopSignals``.
        saver: ``CheckpointSaver``.
    """

    def __init__(self, config, *, train_dataset, val_dataset, reward, report, guard, stop, saver, **verl_arguments):
        super().__init__(config, train_dataset=train_dataset, val_dataset=val_dataset, **verl_arguments)
        self.reward, self.report, self.guard, self.stop, self.saver = reward, report, guard, stop, saver
        self.n = config.actor_rollout_ref.rollout.n
        self.stream = PromptStream(len(train_dataset), config.data.seed, config.data.shuffle)
        self.step = self.empty_steps = self.skipped_updates = 0
        self.val_sources = sorted({val_dataset.source(i) for i in range(len(val_dataset))})
        actor = config.actor_rollout_ref.actor
        # in a step's only update the policy is still the one that generated: the ratio is 1, token classes of the
        # rollout are the current ones, and what the update computes of its rows needs no pass of its own
        one_update = actor.ppo_epochs == 1 and config.data.train_batch_size == actor.ppo_mini_batch_size
        self.needs_old_log_probs = not one_update

    def _create_dataloader(self, train_dataset, val_dataset, collate_fn, train_sampler):
        """In the place of verl's loaders, whose position cannot be restored: the prompt stream, and totals."""
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.total_training_steps = planned_steps(self.config, len(train_dataset))
        self.config.actor_rollout_ref.actor.optim.total_training_steps = self.total_training_steps

    def init_workers(self) -> None:
        super().init_workers()
        reference = self.ref_policy_wg if self.use_reference_policy and not self.ref_in_actor else None
        self.calls = WorkerCalls(self.config, self.actor_rollout_wg, reference, self.stop)

    def fit(self) -> Ending:
        """Trains until the steps are done, a rule ends the run, or a signal asks for the end."""
        committed = self.state_dict()
        try:
            if self.step == 0 and self.config.trainer.val_before_train:
                self.report.before_training(self._validate(0))
            while (ending := self._ending()) is None:
                self._do_step()
                ending = self._after_step()
                committed = self.state_dict()
                if ending is not None:
                    break
        except StopRequested:
            ending = self.stop.ending()
        self._save(committed)
        return self.saver.closing(ending)

    def _do_step(self) -> None:
        step = Step(self.step + 1)
        with step.timed("step"):
            self._collect(step)
            with step.timed("entropy"):
                rest = self._score_untrained(step)  # before the update: of the policy that generated
            trained = self._train(step)
            self._measure(step, trained, rest)
            # a refilled step takes more prompts than planned, so that the epochs may be over first
            last = step.number == self.total_training_steps or self.stream.epoch >= self.config.trainer.total_epochs
            if last or (self.config.trainer.test_freq > 0 and step.number % self.config.trainer.test_freq == 0):
                with step.timed("testing"):
                    step.metrics.update(self._validate(step.number))
        self.step = step.number
        self.report.step(self.step, step_row(step, self.stream, self.val_sources), step.rounds)

    def _collect(self, step: Step) -> None:
        """Generates and grades, again and again until the batch is full or the bound is met."""
        settings, wanted = self.config.algorithm.group_filter, self.config.data.train_batch_size
        bound = settings.max_gen_batches if settings.enable else 1
        while len(step.rounds) < bound and step.num_kept < wanted:
            step.rounds.append(self._round(step, self.stream.take(wanted)))
            if step.num_kept > wanted:
                self._give_back(step.rounds[-1], step.num_kept - wanted)

    def _give_back(self, last: Round, surplus: int) -> None:
        """Prompts whose groups did not fit go first in line for the next step, with fresh responses."""
        last.kept, unused = last.kept[:-surplus], last.kept[-surplus:]
        self.stream.give_back(last.batch.non_tensor_batch["prompt_number"][unused * self.n].tolist())

    def _round(self, step: Step, prompts: list[int]) -> Round:
        self.stop.check()
        seeds = response_seeds(self.config.seed, step.number, prompts, self.n, step.seen)
        batch = prompt_batch(self.train_dataset, prompts, self.n)
        with step.timed("gen"):
            batch = self._respond(batch, seeds)
        self.stop.check()
        pending = self.reward.start(batch)  # grading runs while the workers compute log-probabilities
        if self.use_reference_policy:
            with step.timed("ref"):
                self.calls.add_reference(batch)
        if self.needs_old_log_probs:
            with step.timed("old_log_prob"):
                self.calls.add_old_log_probs(batch)
        with step.timed("reward_wait"):
            rewards = pending.result()
        settings = self.config.algorithm.group_filter
        verdict = judge_groups(rewards.correct, rewards.total, self.n, settings.metric)
        readable = ~rewards.skip.reshape(-1, self.n).any(axis=1)  # a bad row must not teach its group
        kept = np.flatnonzero(verdict.valid & readable if settings.enable else readable)
        truncated = overlong_filter_mask(batch.batch["response_mask"].sum(-1), self.config.data.max_response_length)
        return Round(batch, rewards, verdict, kept, truncated.tolist())

    def _respond(self, batch: DataProto, seeds: np.ndarray, validate: bool = False) -> DataProto:
        """Responses to a batch of prompts, its columns trimmed to the longest."""
        response = self.calls.generate(batch, seeds, validate)
        return trim_responses(batch.union(response), self.config.data.max_response_length)

    def _train(self, step: Step) -> DataProto | None:
        """Advantages, then the optimizer updates; None when no group is worth training on."""
        parts = [self._kept_rows(r) for r in step.rounds if len(r.kept)]
        if not parts:
            return None
        batch = concatenate(parts)
        with step.timed("adv"):
            tensors = batch.batch
            tensors["advantages"], _ = compute_grpo_outcome_advantage(
                tensors["token_level_rewards"],
                tensors["response_mask"],
                np.arange(len(batch)) // self.n,
                norm_adv_by_std_in_grpo=self.config.algorithm.norm_adv_by_std_in_grpo,
            )
            if self.config.reward.overlong_filter:  # still in its group's baseline, but gives no gradient
                lengths = tensors["response_mask"].sum(-1)
                cut = overlong_filter_mask(lengths, self.config.data.max_response_length)
                tensors["response_mask"] = tensors["response_mask"] * ~cut[:, None]
        self.stop.check()
        with step.timed("update_actor"):
            mini_batch_rows = self.config.actor_rollout_ref.actor.ppo_mini_batch_size * self.n
            step.metrics.update(self.calls.update(dealt(batch, mini_batch_rows, self.calls.dp_size)))
        return batch

    def _kept_rows(self, r: Round) -> DataProto:
        rows = rows_of(r.kept, self.n)
        part = r.batch.select_idxs(rows)
        part.batch["token_level_rewards"] = token_level(r.rewards.total[rows], part.batch["response_mask"])
        return part

    def _measure(self, step: Step, trained: DataProto | None, rest: DataProto | None) -> None:
        """Metrics over everything generated in the step, then those of what was trained on."""
        batch = step.batch()
        rewards = Rewards.concatenate([r.rewards for r in step.rounds])
        cap = self.config.data.max_response_length
        truncated = [cut for r in step.rounds for cut in r.truncated]
        with step.timed("metrics"):
            step.metrics.update(batch_metrics.reward_metrics(rewards))
            step.metrics.update(batch_metrics.length_metrics(batch.batch, rewards.correct, cap))
            step.metrics.update(text_metrics(rewards.texts, rewards.correct.tolist(), truncated))
            step.metrics.update(batch_metrics.group_metrics([r.verdict for r in step.rounds], step.num_kept))
            tensors = trained.batch if trained is not None else {}
            step.metrics.update(
                batch_metrics.advantage_metrics(tensors.get("advantages"), tensors.get("response_mask"))
            )
            step.metrics.update(self._policy(step, batch, tensors, rest))

    def _score_untrained(self, step: Step) -> DataProto | None:
        """The rows that no update will compute, with their log-probabilities and entropies; None when there is none."""
        if self.needs_old_log_probs:
            return None
        batch = step.batch()
        trained = step.trained_rows(self.n, self.config.reward.overlong_filter)
        untrained = np.setdiff1d(np.arange(len(batch)), trained)
        if not len(untrained):
            return None
        rest = batch.select_idxs(untrained)
        self.calls.add_old_log_probs(rest)
        return rest

    def _policy(self, step: Step, batch: DataProto, trained, rest: DataProto | None) -> dict[str, float | None]:
        """Entropy, and engine against trainer, of the policy that generated: over everything; entropy of the kept."""
        if self.needs_old_log_probs:
            kept = batch_metrics.policy_metrics(batch.select_idxs(step.kept_rows(self.n)).batch)
            return batch_metrics.policy_metrics(batch.batch) | {"actor/entropy/kept": kept["actor/entropy"]}
        by_update = step.metrics | {"actor/entropy": step.metrics.get("actor/entropy/kept")}
        parts = [(trained["response_mask"], by_update)] if len(trained) else []
        if rest is not None:
            parts.append((rest.batch["response_mask"], batch_metrics.policy_metrics(rest.batch)))
        return batch_metrics.pooled([(int(mask.sum()), metrics) for mask, metrics in parts])

    def _after_step(self) -> Ending | None:
        """Guard and rules; a due checkpoint is saved."""
        row = self.report.last_row
        attempted = row["actor/num_updates"] + row["actor/num_skipped"]
        self.empty_steps = 0 if attempted else self.empty_steps + 1
        self.skipped_updates = row["actor/num_skipped_last"] + (0 if row["actor/num_updates"] else self.skipped_updates)
        self.report.verdicts(self.guard.check(row), self.guard.summary())
        if (ending := self._rule()) is not None:
            return ending
        save_freq = self.config.trainer.save_freq
        if save_freq > 0 and self.step % save_freq == 0:
            self._save(self.state_dict())
        return self.saver.ending()

    def _rule(self) -> Ending | None:
        """The end that what was done so far asks for; also of a run that goes on from there."""
        trainer = self.config.trainer
        if self.guard.reason is not None:
            return Ending("stopped", f"guard: {self.guard.reason}", GUARD)
        if self.empty_steps >= trainer.max_empty_steps:
            cut = self.report.last_row and self.report.last_row["batch/trained"]
            found = "only truncated responses (reward.overlong_filter)" if cut else "no valid group"
            return Ending("stopped", f"{found} in {self.empty_steps} steps (trainer.max_empty_steps)", EMPTY)
        if self.skipped_updates >= trainer.max_skipped_updates:
            reason = f"no finite gradient in {self.skipped_updates} updates in a row (trainer.max_skipped_updates)"
            return Ending("stopped", reason, NOT_FINITE)
        return None

    def _ending(self) -> Ending | None:
        self.stop.check()
        if (ending := self._rule()) is not None:
            return ending
        if self.step >= self.total_training_steps:
            return Ending("finished", f"all {self.total_training_steps} steps done", FINISHED)
        if self.stream.epoch >= self.config.trainer.total_epochs:
            return Ending("finished", f"all {self.config.trainer.total_epochs} epochs done", FINISHED)
        return None

    def _validate(self, step: int) -> dict[str, float | None]:
        """Accuracy on every held-out prompt."""
        settings = self.config.actor_rollout_ref.rollout.val_kwargs
        numbers = list(range(len(self.val_dataset)))
        batch = prompt_batch(self.val_dataset, numbers, settings.n)
        seeds = response_seeds(self.config.seed, -1 - step, numbers, settings.n)
        batch = self._respond(batch, seeds, validate=True)
        rewards = self.reward.start(batch, evaluation=True).result()
        sources = batch.non_tensor_batch.get("data_source", np.full(len(batch), "all"))
        metrics = {
            "val/accuracy": batch_metrics.mean(rewards.correct),
            "val/response_length/mean": batch_metrics.mean(batch.batch["response_mask"].sum(-1).numpy()),
        }
        for source in sorted(set(sources)):
            metrics[f"val/accuracy/{source}"] = batch_metrics.mean(rewards.correct[sources == source])
        return metrics

    def state_dict(self) -> dict:
        """The driver's whole state after a completed step; the workers save theirs beside it."""
        return {
            "step": self.step,
            "stream": self.stream.state_dict(),
            "empty_steps": self.empty_steps,
            "skipped_updates": self.skipped_updates,
            "guard": self.guard.state_dict(),
            "row": self.report.last_row,  # by which the best checkpoint is found
        }

    def load_state_dict(self, state: dict) -> None:
        """Continues after the step that ``state`` was taken at."""
        self.step = state["step"]
        self.saver.continue_after(self.step)
        self.stream.load_state_dict(state["stream"])
        self.empty_steps, self.skipped_updates = state["empty_steps"], state.get("skipped_updates", 0)
        self.guard.load_state_dict(state["guard"])

    def resume(self, checkpoint) -> None:
        """Loads a whole checkpoint into the driver and the workers."""
        self.load_state_dict(checkpoint.state)
        self.actor_rollout_wg.load_state(str(checkpoint.path))
        self.report.continuing(checkpoint)
        self.saver.repair(self.report)  # not before: it may give the checkpoint its name back

    def _save(self, state: dict) -> None:
        """Saves a state once; a disk that refuses is told, and counted."""
        self.saver.save(state, self.actor_rollout_wg.save_state, self.report)
