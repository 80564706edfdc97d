"""Prompts that stand several times in a batch, computed once: the n responses of a group begin with the same tokens.

A GPU's engine has its prefix cache for that; vLLM 0.7.3's on a CPU needs a library that is not there.  Here the first
sequence of each prompt is computed, its keys and values are copied to the blocks of the others, and all of them sample
from its last row.  A sequence that the engine put back for want of cache counts with what it had generated.
"""

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from vllm.model_executor import SamplingMetadata
from vllm.worker.cpu_model_runner import CPUModelRunner, ModelInputForCPUWithSamplingMetadata
from vllm.worker.cpu_worker import CPUWorker

WORKER = f"{__name__}.SharedPromptWorker"  # vLLM's worker_cls


@dataclass(frozen=True)
class SharedInput(ModelInputForCPUWithSamplingMetadata):
    """vLLM's input of a step; ``copies``, (blocks, 2) int64: from which block of the cache to which, after it."""

    copies: Tensor | None = None


class SharedPromptRunner(CPUModelRunner):
    """vLLM's runner of a model that is whole in this process."""

    _model_input_cls = SharedInput

    def prepare_model_input(self, seq_group_metadata_list, virtual_engine=0, finished_requests_ids=None):
        """As vLLM's; of sequences with the same tokens only the first is computed."""
        groups = seq_group_metadata_list
        originals = self._originals(groups)
        firsts = sorted(set(originals))
        if len(firsts) == len(groups):
            return super().prepare_model_input(groups, virtual_engine, finished_requests_ids)
        shared = self._prepare_model_input_tensors([groups[first] for first in firsts], finished_requests_ids)
        lengths = [group.token_chunk_size for group in groups]
        sampling = SamplingMetadata.prepare(
            groups, lengths, lengths, self.device, False, self.get_generators(finished_requests_ids)
        )
        last_rows = dict(zip(firsts, accumulate(lengths[first] for first in firsts), strict=True))
        sampling.selected_token_indices = torch.tensor([last_rows[first] - 1 for first in originals])
        return replace(
            shared,
            sampling_metadata=sampling,
            virtual_engine=virtual_engine,
            is_prompt=True,
            copies=torch.tensor([pair for at, first in enumerate(originals) for pair in _blocks(groups, first, at)]),
        )

    def execute_model(self, model_input, kv_caches, *args, **kwargs):
        """As vLLM's; then the keys and values are where those look for them that were not computed."""
        outputs = super().execute_model(model_input, kv_caches, *args, **kwargs)
        if model_input.copies is not None:
            self.attn_backend.copy_blocks(kv_caches, model_input.copies)
        return outputs

    def _originals(self, groups) -> list[int]:
        """For each group the first one with the same tokens; itself where it has to be computed."""
        if self.lora_config or self.scheduler_config.chunked_prefill_enabled or not all(map(_is_shareable, groups)):
            return list(range(len(groups)))
        first: dict[tuple[int, ...], int] = {}
        return [first.setdefault(_tokens(group), at) for at, group in enumerate(groups)]


class SharedPromptWorker(CPUWorker):
    """vLLM's worker with the runner above; for one worker: another would not be told of the copies."""

    def __init__(self, vllm_config, *args, is_driver_worker: bool = False, kv_cache_dtype="auto", **kwargs):
        super().__init__(vllm_config, *args, is_driver_worker=is_driver_worker, kv_cache_dtype=kv_cache_dtype, **kwargs)
        self.model_runner = SharedPromptRunner(vllm_config, kv_cache_dtype, is_driver_worker)


def _is_shareable(group) -> bool:
    return group.is_prompt and group.sampling_params.prompt_logprobs is None and not group.multi_modal_data


def _tokens(group) -> tuple[int, ...]:
    (data,) = group.seq_data.values()
    return tuple(data.get_token_ids())


def _blocks(groups, first: int, at: int):
    """Pairs of blocks: of the sequence that is computed, and of the one that is given its keys and values."""
    if first == at:
        return ()
    (source,), (target,) = groups[first].block_tables.values(), groups[at].block_tables.values()
    return zip(source, target, strict=True)
