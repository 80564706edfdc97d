"""The real trainer with a made-up world around it: what the engine answers is said by a script, no model computes.

Every response has figures of its own (log-probabilities and entropies, drawn from its number), so that what the
trainer makes of them can be worked out by hand.
"""

from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch

from recipes.archer.grading.grades import Grade
from recipes.archer.losses.aggregation import denominator
from recipes.archer.losses.constants import loss_config_from
from recipes.archer.losses.objective import step_loss
from recipes.archer.reward.manager import ArcherRewardManager
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.inputs import planned_steps
from verl import DataProto

PROMPT, CAP, N = 3, 8, 4
RIGHT, WRONG, UNREADABLE = "right", "wrong", "unreadable"
SETTINGS = {
    "data.train_files": "a",
    "data.val_files": "b",
    "actor_rollout_ref.model.path": "m",
    "data.train_batch_size": 4,
    "data.max_prompt_length": PROMPT,
    "data.max_response_length": CAP,
    "data.shuffle": "false",
    "actor_rollout_ref.rollout.n": N,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    "actor_rollout_ref.actor.use_kl_loss": "false",
    "reward.overlong_buffer_len": 0,
    "trainer.total_training_steps": 100,
    "trainer.val_before_train": "false",
    "trainer.test_freq": -1,
    "trainer.save_freq": -1,
}


class Prompts:
    """So many prompts, all of one token."""

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        tensors = {"input_ids": torch.ones(PROMPT), "attention_mask": torch.ones(PROMPT), "position_ids": torch.ones(3)}
        tensors = {name: value.long() for name, value in tensors.items()}
        return tensors | {"raw_prompt_ids": [1], "data_source": "sums", "reward_model": {"ground_truth": "4"}}

    def messages(self, index: int) -> list[dict]:
        return [{"role": "user", "content": str(index)}]

    def source(self, index: int) -> str:
        return "sums"


class Words:
    """A tokenizer: the outcome of a response is its first token modulo 3."""

    def batch_decode(self, ids, skip_special_tokens):
        return [(RIGHT, WRONG, UNREADABLE)[row[0] % 3] if row else "" for row in ids]


class Graders:
    """A pool that knows at once."""

    def submit(self, texts, truths, **_):
        outcomes = {RIGHT: "correct", WRONG: "wrong", UNREADABLE: "unparseable", "": "no_answer"}
        grades = [Grade(float(text == RIGHT), outcomes[text], skip=text == UNREADABLE) for text in texts]
        return SimpleNamespace(result=lambda: grades)


class World:
    """The worker calls: generation by a script, scores by a response's number, an update that only measures.

    Args:
        script: (prompt number, sample) -> (outcome, length in tokens).
        config: the run's.
    """

    dp_size = 1
    save = None  # a saver that is made up lets nobody write

    def __init__(self, script, config):
        self.script, self.config, self.loss_config = script, config, loss_config_from(config.actor_rollout_ref.actor)
        self.n = config.actor_rollout_ref.rollout.n
        self.prompts: list[int] = []  # generated, in order
        self.seeds: list[int] = []  # of their responses
        self.scored = 0  # rows
        self.updates: list[DataProto] = []
        self.refreshed: list[tuple[int, int]] = []  # step, and updates before it
        self.number = 0

    def generate(self, batch: DataProto, seeds, validate: bool) -> DataProto:
        prompts = batch.pop(["input_ids", "attention_mask", "position_ids"], ["raw_prompt_ids"]).batch
        numbers = batch.non_tensor_batch["prompt_number"].tolist()
        n = self.config.actor_rollout_ref.rollout.val_kwargs.n if validate else self.n
        self.prompts += [] if validate else numbers[::n]
        self.seeds += [] if validate else seeds.tolist()
        said = [self.script(prompt, row % n) for row, prompt in enumerate(numbers)]
        responses, mask = torch.zeros(len(said), CAP, dtype=torch.long), torch.zeros(len(said), CAP, dtype=torch.long)
        for row, (outcome, length) in enumerate(said):
            self.number += 1
            responses[row] = 3 * self.number + (RIGHT, WRONG, UNREADABLE).index(outcome)
            mask[row, :length] = 1
        ended = torch.tensor([length < CAP for _, length in said])
        tensors = {key: torch.cat([prompts[key], responses], 1) for key in ("input_ids", "position_ids")}
        tensors["attention_mask"] = torch.cat([prompts["attention_mask"], mask], 1)
        tensors["prompts"], tensors["responses"], tensors["ended"] = prompts["input_ids"], responses, ended
        if self.config.actor_rollout_ref.rollout.calculate_log_probs:
            tensors["rollout_log_probs"] = self.figures(responses)[2]
        return DataProto.from_dict(tensors)

    def figures(self, responses: torch.Tensor) -> torch.Tensor:
        """(3, rows, width) trainer's log-probabilities, entropies, engine's log-probabilities."""
        rows = [np.random.default_rng(int(first) // 3).random((3, CAP)) for first in responses[:, 0]]
        values = torch.as_tensor(np.stack(rows, axis=1))[..., : responses.shape[1]]
        return torch.stack([-values[0], 3 * values[1], -values[0] - 0.1 * values[2]])

    def add_old_log_probs(self, batch: DataProto) -> None:
        self.scored += len(batch)
        batch.batch["old_log_probs"], batch.batch["rollout_entropy"], _ = self.figures(batch.batch["responses"])

    def add_reference(self, batch: DataProto) -> None:
        batch.batch["ref_log_prob"] = self.figures(batch.batch["responses"])[0]

    def refresh_reference(self, step: int) -> None:
        self.refreshed.append((step, len(self.updates)))

    def update(self, batch: DataProto) -> dict:
        self.updates.append(batch)
        log_prob, entropy, _ = self.figures(batch.batch["responses"])
        total = max(1.0, float(denominator(batch.batch["response_mask"], "token-mean")))
        _, _, stats = step_loss(batch.batch, log_prob, entropy, total, self.loss_config)
        updates = int(batch.batch["response_mask"].any())  # as the actor: nothing to learn from is no update
        counts = {"actor/num_updates": updates, "actor/num_skipped": 0, "actor/num_skipped_last": 0}
        return stats.metrics() | {"actor/grad_norm": 1.0 if updates else None} | counts


class Report:
    """Keeps the rows."""

    def __init__(self):
        self.rows: list[dict] = []

    @property
    def last_row(self) -> dict:
        return self.rows[-1] if self.rows else {}

    def step(self, number: int, row: dict, rounds) -> None:
        self.rows.append(row)

    def verdicts(self, decision, summary) -> None:
        pass

    def continuing(self, checkpoint) -> None:
        pass


def make_trainer(script, prompts: int = 40, **settings):
    """A trainer whose ``calls`` is a `World`; settings are Hydra overrides with ``__`` for a dot."""
    from recipes.archer.trainer import ArcherTrainer
    from verl.trainer.ppo.ray_trainer import Role

    overrides = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    config = compose(["experiment=tiny", "device=cpu", *(f"{name}={value}" for name, value in overrides.items())])
    saver, guard = MagicMock(), MagicMock()
    saver.ending.return_value, saver.closing.side_effect = None, lambda ending: ending
    guard.check.return_value, guard.reason = SimpleNamespace(stop=False, reason=None), None
    trainer = ArcherTrainer(
        config,
        tokenizer=None,
        role_worker_mapping={Role.ActorRollout: None},
        resource_pool_manager=None,
        train_dataset=Prompts(prompts),
        val_dataset=Prompts(2),
        reward=ArcherRewardManager(Words(), Graders(), config.reward, CAP),
        report=Report(),
        guard=guard,
        total_steps=planned_steps(config, prompts),
        stop=MagicMock(),
        saver=saver,
    )
    trainer.calls, trainer.actor_rollout_wg = World(script, config), MagicMock()
    return trainer


def step_of(trainer) -> dict:
    """Row of one more step."""
    trainer._do_step()
    return trainer.report.last_row
