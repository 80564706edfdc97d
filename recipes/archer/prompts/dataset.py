"""Prompts as tensors: upstream's data set over the project's prompt files, and batches of it."""

import copy

import numpy as np

from recipes.archer.prompts.file import PromptFileError, read_prompt_file
from verl import DataProto
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn


class PromptDataset(RLHFDataset):
    """Upstream's tokenisation and chat template over .json, .jsonl and .parquet prompt files.

    Raises:
        PromptFileError: a file is absent, empty, damaged, or every prompt in it is too long.
    """

    def _download(self, use_origin_parquet: bool = False) -> None:
        """Prompt files are local."""

    def _read_files_and_tokenize(self) -> None:
        rows = [_used(row) for path in self.data_files for row in read_prompt_file(path)]
        if self.filter_overlong_prompts:
            rows = [row for row in rows if self._prompt_tokens(row) <= self.max_prompt_length]
        if not rows:
            raise PromptFileError(
                f"{', '.join(map(str, self.data_files))}: every prompt is longer than "
                f"data.max_prompt_length={self.max_prompt_length} tokens; raise it"
            )
        self.dataframe = _Rows(rows)

    def messages(self, index: int) -> list[dict]:
        """The chat messages of a prompt, as the file has them."""
        return self.dataframe[index][self.prompt_key]

    def source(self, index: int) -> str:
        """The data source that a prompt names."""
        return self.dataframe[index].get("data_source", "unknown")

    def _prompt_tokens(self, row: dict) -> int:
        return len(self.tokenizer.apply_chat_template(row[self.prompt_key], add_generation_prompt=True))


def _used(row: dict) -> dict:
    """The columns that training reads: a batch needs the same ones in every row, files have what they like."""
    return {key: row[key] for key in ("data_source", "prompt", "reward_model")} | {
        "extra_info": row.get("extra_info") or {}
    }


class _Rows(list):
    """A list whose items may be changed by the reader, as upstream's ``__getitem__`` does."""

    def __getitem__(self, index):
        return copy.deepcopy(super().__getitem__(index))


def prompt_batch(dataset: PromptDataset, numbers: list[int], n: int) -> DataProto:
    """A batch of prompts, each ``n`` times side by side, ready for the rollout engine.

    Tensors: input_ids, attention_mask, position_ids, (prompts * n, max_prompt_length), left-padded.
    Others: prompt_number (row in the data set), messages, and the data set's own columns.
    """
    columns = collate_fn([dataset[i] for i in numbers])
    batch = DataProto.from_single_dict(columns)
    batch.non_tensor_batch["prompt_number"] = np.array(numbers, dtype=np.int64)
    # not np.array(): lists of one length would become a table, which does not concatenate with lists of several
    messages = np.fromiter((dataset.messages(i) for i in numbers), dtype=object, count=len(numbers))
    batch.non_tensor_batch["messages"] = messages
    return batch.repeat(n, interleave=True)
