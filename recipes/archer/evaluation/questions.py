"""The questions of a file under a model's chat template, as training reads them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.archer.ending import UserError
from recipes.archer.prompts.file import PromptFileError
from recipes.archer.rollout.seeds import response_seeds

_KEY = 16  # hexadecimal digits of a question's key
_WORD = 8  # of those, how many its seed follows from


@dataclass(frozen=True)
class Question:
    """A held-out question, ready for the engine.

    Attributes:
        key: of its content, the same in whatever file and place; a repetition within a file ends in .2, .3 …
        row: its place in the file, from 0.
        data_source: the set that it says it is of.
        prompt_ids: tokens of the prompt under the chat template.
    """

    key: str
    row: int
    data_source: str
    ground_truth: Any
    extra_info: Any
    prompt_ids: tuple[int, ...]


def read_questions(path: Path, tokenizer: Any, longest: float) -> list[Question]:
    """The questions of a prompt file.

    Args:
        tokenizer: the model's, with its chat template.
        longest: tokens that a prompt may have.

    Raises:
        UserError: the file cannot be used, or a question is too long.
    """
    from omegaconf import OmegaConf

    from recipes.archer.prompts.dataset import PromptDataset

    settings: dict[str, Any] = {
        "prompt_key": "prompt",
        "max_prompt_length": int(min(longest, 1 << 20)),
        "filter_overlong_prompts": True,
        "truncation": "error",
    }
    if settings["max_prompt_length"] < 1:
        raise UserError(f"{path}: the model's context leaves no room for a question; lower --max-tokens")
    try:
        made: Any = PromptDataset  # over torch's, which has no types
        dataset = made(str(path), tokenizer, OmegaConf.create(settings))
    except PromptFileError as error:
        raise UserError(str(error).replace("data.max_prompt_length", "room for a prompt")) from None
    if dataset.num_too_long:
        raise UserError(
            f"{path}: {dataset.num_too_long} of {dataset.num_prompts} questions have more than the {int(longest)} "
            "tokens that the model's context leaves for a prompt; lower --max-tokens, or take these rows out"
        )
    seen: Counter[str] = Counter()
    return [_question(dataset[row], dataset.messages(row), row, seen) for row in range(len(dataset))]


def _question(columns: dict[str, Any], messages: list[dict[str, Any]], row: int, seen: Counter[str]) -> Question:
    truth = columns["reward_model"]["ground_truth"]
    content = json.dumps([messages, truth], sort_keys=True, default=str)
    key = hashlib.sha256(content.encode()).hexdigest()[:_KEY]
    seen[key] += 1
    name = key if seen[key] == 1 else f"{key}.{seen[key]}"
    ids = tuple(int(token) for token in columns["raw_prompt_ids"])
    return Question(name, row, str(columns["data_source"]), truth, columns.get("extra_info"), ids)


def seeds_of(questions: Iterable[Question], n: int, seed: int) -> NDArray[np.int64]:
    """(questions, n): each response's seed, which follows from its question and its number alone."""
    words = [int(question.key[:_WORD], 16) for question in questions]
    seeds: NDArray[np.int64] = response_seeds(seed, 0, words, n).reshape(-1, n)
    return seeds
