"""Prompts as tensors: the project's prompt files under the model's chat template, and batches of them."""

import copy
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Dataset

from recipes.archer.prompts.arrival import control_tokens, rendered_whole
from recipes.archer.prompts.file import PromptFileError, usable_rows
from verl import DataProto
from verl.utils.model import compute_position_id_with_mask
from verl.utils.torch_functional import postprocess_data

BLOCK = 64  # prompts that are tokenised at once, while the template makes the next ones: its pipe holds about as many


class PromptDataset(Dataset):
    """Prompt files, rendered and tokenised once; the token ids are those of upstream's data set.

    Args:
        data_files: one path or several: .json, .jsonl or .parquet.
        config: ``data``, of which prompt_key, max_prompt_length (tokens), filter_overlong_prompts and truncation (of
            what is too long and not left out: ``left``, ``right``, ``middle``, or ``error``) are read.

    Attributes:
        dataframe: the rows that are used, with the columns that training reads.
        num_prompts: rows in the files.
        num_too_long: of these, longer than ``max_prompt_length``: left out, or else cut.
        with_control_tokens: where a used row is to the tokenizer's control tokens in its roles and contents.

    Raises:
        PromptFileError: a file is absent, empty or damaged, a prompt does not reach the model as it is written,
            every one is too long, or one is that would neither be left out nor cut.
    """

    def __init__(self, data_files, tokenizer, config):
        self.files = [data_files] if isinstance(data_files, str) else list(data_files)
        self.tokenizer, self.max_prompt_length = tokenizer, config["max_prompt_length"]
        self.leave_out, self.truncation = config.get("filter_overlong_prompts", True), config.get("truncation", "error")
        self.prompt_key = config.get("prompt_key", "prompt")
        self.dataframe: list[dict] = []
        self.with_control_tokens: dict[str, list[str]] = {}
        self._ids: list[np.ndarray] = []
        found = [pair for path in self.files for pair in usable_rows(path, self.prompt_key)]
        places, rows = [place for place, _ in found], [self._used(row) for _, row in found]
        too_long = self._take_up(places, rows)
        self.num_prompts, self.num_too_long = len(rows), len(too_long)
        self._check_lengths(too_long)

    def __len__(self) -> int:
        return len(self.dataframe)

    def __getitem__(self, index: int) -> dict:
        """input_ids, attention_mask, position_ids, (max_prompt_length,), left-padded; raw_prompt_ids, without padding;
        and the columns of the row besides the prompt."""
        ids = torch.from_numpy(self._ids[index].astype(np.int64))[None]
        ids, mask = postprocess_data(
            ids, torch.ones_like(ids), self.max_prompt_length, self.tokenizer.pad_token_id, True, self.truncation
        )
        row = {key: value for key, value in self.dataframe[index].items() if key != "prompt"}
        return copy.deepcopy(row) | {
            "input_ids": ids[0],
            "attention_mask": mask[0],
            "position_ids": compute_position_id_with_mask(mask)[0],
            "raw_prompt_ids": ids[0][mask[0].bool()].tolist(),
        }

    def messages(self, index: int) -> list[dict]:
        """The chat messages of a prompt, as the file has them."""
        return copy.deepcopy(self.dataframe[index]["prompt"])

    def source(self, index: int) -> str:
        """The data source that a prompt names."""
        return self.dataframe[index]["data_source"]

    def _used(self, row: dict) -> dict:
        """The columns that training reads: a batch needs the same ones in every row, files have what they like."""
        return {
            "data_source": row["data_source"],
            "prompt": row[self.prompt_key],
            "reward_model": row["reward_model"],
            "extra_info": row.get("extra_info") or {},
        }

    def _take_up(self, places: list[str], rows: list[dict]) -> list[tuple[str, int]]:
        """Keeps the rows that are used; (where, tokens) of those that are too long."""
        control, too_long = control_tokens(self.tokenizer), []
        for place, row, ids in zip(places, rows, self._tokenized(places, rows), strict=True):
            if len(ids) > self.max_prompt_length:
                too_long.append((place, len(ids)))
                if self.leave_out:
                    continue
            self.dataframe.append(row)
            self._ids.append(np.array(ids, dtype=np.int32))
            text = "\n".join(message[field] for message in row["prompt"] for field in ("role", "content"))
            if control and (inside := set(control.findall(text))):
                self.with_control_tokens[place] = sorted(inside)
        return too_long

    def _check_lengths(self, too_long: list[tuple[str, int]]) -> None:
        if not self.dataframe:
            raise PromptFileError(
                f"{', '.join(map(str, self.files))}: every prompt is longer than "
                f"data.max_prompt_length={self.max_prompt_length} tokens; raise it"
            )
        if too_long and not self.leave_out and self.truncation == "error":
            place, length = too_long[0]
            raise PromptFileError(
                f"{place}: {self.prompt_key}: has {length} tokens, more than data.max_prompt_length="
                f"{self.max_prompt_length} ({len(too_long)} such rows); raise it, or set "
                "data.filter_overlong_prompts=true, which leaves them out, or data.truncation=left, right or middle, "
                "which cut them"
            )

    def _tokenized(self, places: list[str], rows: list[dict]) -> Iterator[list[int]]:
        """The token ids of each prompt, in order."""
        names = [f"{place}: {self.prompt_key}" for place in places]
        texts = rendered_whole(self.tokenizer, [row["prompt"] for row in rows], names)
        while block := list(islice(texts, BLOCK)):
            settings = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
            yield from self.tokenizer(block, **settings)["input_ids"]


def prompt_batch(dataset: PromptDataset, numbers: list[int], n: int) -> DataProto:
    """A batch of prompts, each ``n`` times side by side, ready for the rollout engine.

    Tensors: input_ids, attention_mask, position_ids, (prompts * n, max_prompt_length), left-padded.
    Others: prompt_number (row in the data set), messages, and the data set's own columns.
    """
    rows = [dataset[i] | {"messages": dataset.messages(i)} for i in numbers]
    batch = DataProto.from_single_dict({name: _column([row[name] for row in rows]) for name in rows[0]})
    batch.non_tensor_batch["prompt_number"] = np.array(numbers, dtype=np.int64)
    return batch.repeat(n, interleave=True)


def _column(values: list) -> torch.Tensor | np.ndarray:
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values)
    # not np.array(): lists of one length would become a table, which does not concatenate with lists of several
    return np.fromiter(values, dtype=object, count=len(values))
