"""The training loop: prompts -> rollout groups -> reward -> group filter -> advantage -> actor loss -> metrics.

The only file that knows the whole way; what happens on it is the rooms' affair.
"""

from contextlib import suppress

from recipes.archer.control.entropy import EntropyControl
from recipes.archer.control.rules import Rules
from recipes.archer.ending import Ending
from recipes.archer.metrics.measure import step_metrics, validation_metrics
from recipes.archer.metrics.row import step_row
from recipes.archer.prompts.dataset import prompt_batch
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.reward.advantage import add_advantages
from recipes.archer.reward.group_filter import groups_to_train_on, judge_groups
from recipes.archer.reward.overlong import overlong_filter_mask
from recipes.archer.rollout.responses import trim_responses
from recipes.archer.rollout.seeds import response_seeds
from recipes.archer.session.signals import StopRequested
from recipes.archer.step import Round, Step
from recipes.archer.workers.deal import dealt
from recipes.archer.workers.groups import WorkerGroups
from verl import DataProto


class ArcherTrainer(WorkerGroups):
    """Runs the loop on one driver.

    Args:
        train_dataset, val_dataset: ``PromptDataset``.
        reward: ``ArcherRewardManager``.
        report: ``Report``, which writes rows and samples.
        guard: answers, row by row, whether to stop.
        saver: ``CheckpointSaver``.
        others: as ``WorkerGroups``.
    """

    def __init__(self, config, *, train_dataset, val_dataset, reward, report, guard, saver, **others):
        super().__init__(config, train_dataset=train_dataset, val_dataset=val_dataset, **others)
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.reward, self.report, self.saver = reward, report, saver
        self.rules, self.entropy = Rules(config.trainer, guard), EntropyControl(config.control.entropy)
        self.n, self.cap = config.actor_rollout_ref.rollout.n, config.data.max_response_length
        self.stream = PromptStream(len(train_dataset), config.data.seed, config.data.shuffle)
        self.step = 0
        self.val_sources = sorted({val_dataset.source(i) for i in range(len(val_dataset))})

    def fit(self) -> Ending:
        """Trains until the steps are done, a rule ends the run, or a signal asks for the end."""
        committed = self.state_dict()
        try:
            if self.step == 0 and self.config.trainer.val_before_train:
                self.report.before_training(self._validate(0))
            ending = self._ending()
            while ending is None:
                self._do_step()
                ending = self.rules.broken() or self._save_when_due()
                committed = self.state_dict()
                ending = ending or self._ending()
        except StopRequested:
            ending = self.stop.ending()
        self._save(committed)
        return self.saver.closing(ending)

    def _do_step(self) -> None:
        """One pass along the line above, to the run log and the monitor."""
        step = Step(self.step + 1)
        with step.timed("step"):
            while step.wants_more(self.config):
                batch = self._rollout(step, self.stream.take(self.config.data.train_batch_size))
                rewards = self._reward(step, batch)
                self._filter(step, batch, rewards)
            rest = self._score_untrained(step)
            trained = self._advantages(step)
            self._update(step, trained)
            self._measure(step, trained, rest)
            self._validate_when_due(step)
        self._log(step)
        self._judge()

    def _rollout(self, step: Step, prompts: list[int]) -> DataProto:
        self.stop.check()
        seeds = response_seeds(self.config.seed, step.number, prompts, self.n, step.seen)
        with step.timed("gen"):
            batch = self._respond(prompt_batch(self.train_dataset, prompts, self.n), seeds)
        self.stop.check()
        return batch

    def _respond(self, batch: DataProto, seeds, validate: bool = False) -> DataProto:
        """Responses to a batch of prompts, its columns trimmed to the longest."""
        width = self.config.actor_rollout_ref.rollout.response_length
        return trim_responses(batch.union(self.calls.generate(batch, seeds, validate)), width)

    def _reward(self, step: Step, batch: DataProto):
        """Rewards; grading runs while the workers compute log-probabilities."""
        pending = self.reward.start(batch)
        if self.use_reference_policy:
            with step.timed("ref"):
                self.calls.add_reference(batch)
        if self.needs_old_log_probs:
            with step.timed("old_log_prob"):
                self.calls.add_old_log_probs(batch)
        with step.timed("reward_wait"):
            return pending.result()

    def _filter(self, step: Step, batch: DataProto, rewards) -> None:
        """The groups that carry a signal; prompts whose groups do not fit go first in line for the next step."""
        settings = self.config.algorithm.group_filter
        verdict = judge_groups(rewards.correct, rewards.total, self.n, settings.metric)
        kept = groups_to_train_on(verdict, rewards.skip, self.n, settings.enable)
        cut = overlong_filter_mask(batch.batch["response_mask"].sum(-1), self.cap, batch.batch["ended"])
        step.rounds.append(Round(batch, rewards, verdict, kept, cut.tolist()))
        surplus = step.num_kept - self.config.data.train_batch_size
        if surplus > 0:
            self.stream.give_back(step.rounds[-1].drop_last(surplus, self.n))

    def _score_untrained(self, step: Step) -> DataProto | None:
        """The rows that no update will compute, scored by the policy that generated; None when there is none."""
        with step.timed("entropy"):
            rows = step.untrained_rows(self.n, self.config.reward.overlong_filter)
            if self.needs_old_log_probs or not len(rows):
                return None
            rest = step.batch().select_idxs(rows)
            self.calls.add_old_log_probs(rest)
        return rest

    def _advantages(self, step: Step) -> DataProto | None:
        """What is trained on, with its advantages; None when no group is worth it."""
        batch = step.trained(self.n)
        if batch is not None:
            with step.timed("adv"):
                cap = self.cap if self.config.reward.overlong_filter else None
                add_advantages(batch, self.n, norm_by_std=self.config.algorithm.norm_adv_by_std_in_grpo, cap=cap)
                self.entropy.act(batch)
        return batch

    def _update(self, step: Step, batch: DataProto | None) -> None:
        """The optimizer updates of the step, and what the reference becomes after them."""
        if batch is not None:
            self.stop.check()
            with step.timed("update_actor"):
                mini_batch_rows = self.config.actor_rollout_ref.actor.ppo_mini_batch_size * self.n
                step.metrics.update(self.calls.update(dealt(batch, mini_batch_rows, self.calls.dp_size)))
        if self.use_reference_policy:
            with step.timed("ref"):
                self.calls.refresh_reference(step.number)

    def _measure(self, step: Step, trained: DataProto | None, rest: DataProto | None) -> None:
        with step.timed("metrics"):
            step.metrics.update(step_metrics(step, trained, rest, self.n, self.cap))
            step.metrics.update(self.entropy.measured(step.number, step.metrics["actor/entropy"]))

    def _validate_when_due(self, step: Step) -> None:
        # a refilled step takes more prompts than planned, so that the epochs may be over first
        last = self.rules.done(step.number, self.total_training_steps, self.stream.epoch) is not None
        if last or (self.config.trainer.test_freq > 0 and step.number % self.config.trainer.test_freq == 0):
            with suppress(StopRequested), step.timed("testing"):  # the step is saved without them
                step.metrics.update(self._validate(step.number))

    def _validate(self, step: int) -> dict[str, float | None]:
        """Accuracy on every held-out prompt.

        Raises:
            StopRequested: a signal has come, so that there is none.
        """
        self.stop.check()
        numbers, n = list(range(len(self.val_dataset))), self.config.actor_rollout_ref.rollout.val_kwargs.n
        seeds = response_seeds(self.config.seed, -1 - step, numbers, n)
        batch = self._respond(prompt_batch(self.val_dataset, numbers, n), seeds, validate=True)
        self.stop.check()
        return validation_metrics(self.reward.start(batch, evaluation=True).result(), batch)

    def _log(self, step: Step) -> None:
        self.step = step.number
        self.report.step(self.step, step_row(step, self.stream, self.val_sources), step.rounds)

    def _judge(self) -> None:
        """Guard and rules take in the row."""
        decision = self.rules.check(self.report.last_row)
        self.report.verdicts(decision, self.rules.guard.summary())

    def _ending(self) -> Ending | None:
        self.stop.check()
        return self.rules.broken() or self.rules.done(self.step, self.total_training_steps, self.stream.epoch)

    def state_dict(self) -> dict:
        """The driver's whole state after a completed step; the workers save theirs beside it."""
        row = self.report.last_row  # by which the best checkpoint is found
        parts = {"stream": self.stream.state_dict(), "entropy_control": self.entropy.state_dict()}
        return {"step": self.step, "row": row, **parts, **self.rules.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continues after the step that ``state`` was taken at."""
        self.step = state["step"]
        self.saver.continue_after(self.step)
        self.stream.load_state_dict(state["stream"])
        self.rules.load_state_dict(state)
        self.entropy.load_state_dict(state.get("entropy_control"))

    def resume(self, checkpoint) -> None:
        """Loads a whole checkpoint into the driver and the workers."""
        self.load_state_dict(checkpoint.state)
        path = str(checkpoint.path.absolute())
        self.actor_rollout_wg.load_state(path, checkpoint.is_old, checkpoint.fresh_optimizer)
        self.report.continuing(checkpoint)
        self.saver.repair(self.report)  # not before: it may give the checkpoint its name back

    def fork(self, fork) -> None:
        """Begins with the parameters of another run's checkpoint."""
        self.actor_rollout_wg.fork_state(str(fork.checkpoint.path.absolute()), fork.with_optimizer)
        self.report.say(str(fork))

    def _save_when_due(self) -> Ending | None:
        save_freq = self.config.trainer.save_freq
        if save_freq > 0 and self.step % save_freq == 0:
            self._save(self.state_dict())
        return self.saver.ending()

    def _save(self, state: dict) -> None:
        """Saves a state once; a disk that refuses is told, and counted."""
        self.saver.save(state, self.calls.save, self.report)
