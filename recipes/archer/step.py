"""What one training step gathers on its way: rounds of generation, timings, metrics."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from recipes.archer.reward.group_filter import GroupVerdict, rows_of
from recipes.archer.reward.manager import Rewards, token_level
from verl import DataProto


@dataclass
class Round:
    """One generation: the responses to ``train_batch_size`` prompts, and what became of them."""

    batch: DataProto
    rewards: Rewards
    verdict: GroupVerdict
    kept: np.ndarray  # group numbers that are trained on
    truncated: list[bool]  # responses that hit the cap

    def trained_rows(self, n: int) -> DataProto:
        """The rows of the groups that are trained on, with ``token_level_rewards``."""
        rows = rows_of(self.kept, n)
        part = self.batch.select_idxs(rows)
        part.batch["token_level_rewards"] = token_level(self.rewards.total[rows], part.batch["response_mask"])
        return part

    def drop_last(self, number: int, n: int) -> list[int]:
        """Leaves out the last ``number`` groups that are kept; returns the numbers of their prompts."""
        self.kept, unused = self.kept[:-number], self.kept[-number:]
        return self.batch.non_tensor_batch["prompt_number"][unused * n].tolist()


@dataclass
class Step:
    """What a step gathers on its way."""

    number: int
    rounds: list[Round] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)  # prompt number: how often it was drawn
    timing: dict[str, float] = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the seconds inside to ``timing[name]``."""
        start = time.perf_counter()
        yield
        self.timing[name] = self.timing.get(name, 0.0) + time.perf_counter() - start

    @property
    def num_kept(self) -> int:
        """Groups that are trained on."""
        return sum(len(r.kept) for r in self.rounds)

    def wants_more(self, config) -> bool:
        """Whether it generates (again): until its batch is full or the bound of the group filter is met."""
        settings = config.algorithm.group_filter
        bound = settings.max_gen_batches if settings.enable else 1
        return len(self.rounds) < bound and self.num_kept < config.data.train_batch_size

    def batch(self) -> DataProto:
        """Everything generated in the step."""
        return concatenate([r.batch for r in self.rounds])

    def kept_rows(self, n: int) -> np.ndarray:
        """Rows of :meth:`batch` that are trained on, with ``n`` responses a group."""
        offsets = np.cumsum([0] + [len(r.batch) for r in self.rounds[:-1]])
        return np.concatenate([rows_of(r.kept, n) + o for r, o in zip(self.rounds, offsets, strict=True)])

    def untrained_rows(self, n: int, overlong_filter: bool) -> np.ndarray:
        """Rows of :meth:`batch` without a gradient: not kept, or with ``overlong_filter`` cut at the cap."""
        kept, cut = self.kept_rows(n), np.concatenate([r.truncated for r in self.rounds]).astype(bool)
        return np.setdiff1d(np.arange(len(cut)), kept[~cut[kept]] if overlong_filter else kept)

    def trained(self, n: int) -> DataProto | None:
        """Everything that is trained on, round by round; None where no group is worth it."""
        parts = [r.trained_rows(n) for r in self.rounds if len(r.kept)]
        return concatenate(parts) if parts else None


def concatenate(parts: list[DataProto]) -> DataProto:
    """Batches of several rounds as one; their responses are padded to the longest round's."""
    return parts[0] if len(parts) == 1 else DataProto.concat(_same_width(parts))


def _same_width(parts: list[DataProto]) -> list[DataProto]:
    width = max(part.batch["responses"].shape[1] for part in parts)
    padded = []
    for part in parts:
        missing = width - part.batch["responses"].shape[1]
        tensors = {
            # prompts are as wide in every round
            key: torch.nn.functional.pad(value, (0, missing)) if value.dim() == 2 and key != "prompts" else value
            for key, value in part.batch.items()
        }
        padded.append(DataProto.from_dict(tensors, part.non_tensor_batch, part.meta_info))
    return padded
