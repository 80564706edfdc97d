"""Text to reward: decode, grade in killable processes, shape, and put the reward on the last token.

Grading is started and collected in two calls, so that it runs while the actor computes log-probabilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from recipes.archer.grading.grader import GradingPool
from recipes.archer.reward.format import format_is_right
from recipes.archer.reward.overlong import overlong_penalty
from recipes.archer.text.metrics import response_texts
from verl import DataProto
from verl.workers.reward_manager import register


@dataclass
class Rewards:
    """What a batch of responses earned; every list and array has one entry a row.

    Attributes:
        texts: the decoded responses.
        outcomes: the grader's: correct, wrong, no_answer, unparseable, timeout.
        answers: what was graded, or None.
        correct: (rows,) bool.
        parts: name to (rows,) float, each part of the reward: ``accuracy``, ``overlong`` and, where
            switched on, ``format`` and ``repetition``.
        skip: (rows,) bool, rows whose ground truth cannot be read; their groups are not trained on.
        total: (rows,) float, the sum of the parts.
    """

    texts: list[str]
    outcomes: list[str]
    answers: list[str | None]
    correct: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    skip: np.ndarray | None = None

    def __post_init__(self):
        if self.skip is None:
            self.skip = np.zeros(len(self.texts), dtype=bool)

    @property
    def total(self) -> np.ndarray:
        return np.sum(list(self.parts.values()), axis=0)

    @staticmethod
    def concatenate(parts: list["Rewards"]) -> "Rewards":
        """Several batches' rewards as one."""
        if len(parts) == 1:
            return parts[0]
        return Rewards(
            [t for p in parts for t in p.texts],
            [o for p in parts for o in p.outcomes],
            [a for p in parts for a in p.answers],
            np.concatenate([p.correct for p in parts]),
            {name: np.concatenate([p.parts[name] for p in parts]) for name in parts[0].parts},
            np.concatenate([p.skip for p in parts]),
        )


class PendingRewards:
    """A batch whose grading is under way."""

    def __init__(self, manager: "ArcherRewardManager", texts: list[str], lengths: torch.Tensor, grades):
        self._manager, self._texts, self._lengths, self._grades = manager, texts, lengths, grades

    def result(self) -> Rewards:
        """Waits for the grader and shapes the rewards."""
        return self._manager.shape(self._texts, self._lengths, self._grades.result())


@register("archer")
class ArcherRewardManager:
    """Rewards of the recipe.

    Args:
        tokenizer: decodes responses.
        pool: the grading processes; they live as long as the run.
        settings: the configuration's ``reward`` section.
        max_response_length: the response cap in tokens.
        reward_fn_key: column of the data set that names its source.
    """

    def __init__(self, tokenizer, pool: GradingPool, settings, max_response_length: int, reward_fn_key="data_source"):
        self.tokenizer, self.pool, self.settings = tokenizer, pool, settings
        self.max_response_length, self.reward_fn_key = max_response_length, reward_fn_key

    def start(self, batch: DataProto, evaluation: bool = False) -> PendingRewards:
        """Decodes the responses and hands them to the graders, without waiting.

        An answer that only restates its question is looked for in training, not in `evaluation`.
        """
        mask = batch.batch["response_mask"]
        lengths = mask.sum(-1)
        ids = [row[: int(n)].tolist() for row, n in zip(batch.batch["responses"], lengths, strict=True)]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        columns = batch.non_tensor_batch
        truths = [reward_model["ground_truth"] for reward_model in columns["reward_model"]]
        sources = columns.get(self.reward_fn_key)
        extras = columns.get("extra_info")
        grades = self.pool.submit(
            texts,
            truths,
            data_sources=None if sources is None else list(sources),
            extra_infos=None if extras is None else list(extras),
            prompts=None if evaluation or "messages" not in columns else list(map(_question, columns["messages"])),
        )
        return PendingRewards(self, texts, lengths, grades)

    def shape(self, texts: list[str], lengths: torch.Tensor, grades) -> Rewards:
        """Grades to rewards; lengths are (rows,) tokens."""
        settings = self.settings
        outcomes = [grade.outcome for grade in grades]
        correct = np.array([outcome == "correct" for outcome in outcomes])
        scores = np.array([grade.score for grade in grades], dtype=np.float64)
        accuracy = settings.incorrect + (settings.correct - settings.incorrect) * scores
        penalty = overlong_penalty(
            lengths, self.max_response_length, settings.overlong_buffer_len, settings.overlong_penalty_factor
        )
        parts = {"accuracy": accuracy, "overlong": penalty.double().numpy()}
        if settings.format_bonus:
            parts["format"] = settings.format_bonus * np.array([float(format_is_right(text)) for text in texts])
        if settings.repetition_penalty:
            ratios = np.array([text.repetition_ratio for text in response_texts(texts)])
            parts["repetition"] = -settings.repetition_penalty * ratios
        skip = np.array([grade.skip for grade in grades])
        return Rewards(texts, outcomes, [grade.answer for grade in grades], correct, parts, skip)

    def __call__(self, data: DataProto, return_dict: bool = False):
        """verl's interface: a batch to token-level rewards."""
        rewards = self.start(data).result()
        tensor = token_level(rewards.total, data.batch["response_mask"])
        if not return_dict:
            return tensor
        extra = {"acc": rewards.correct.astype(float).tolist(), "outcome": rewards.outcomes}
        return {"reward_tensor": tensor, "reward_extra_info": extra}


def _question(messages: Sequence[Mapping]) -> str:
    return "\n".join(str(message["content"]) for message in messages)


def token_level(rewards: np.ndarray, response_mask: torch.Tensor) -> torch.Tensor:
    """Rewards on the last token of each response; on the first position, outside the mask, of an empty one.

    So that the sum over a row is its reward also when there is no token to carry it.
    """
    last = (response_mask.sum(-1) - 1).clamp(min=0)
    tensor = torch.zeros(response_mask.shape, dtype=torch.float32)
    tensor[torch.arange(len(rewards)), last] = torch.as_tensor(rewards, dtype=torch.float32)
    return tensor
