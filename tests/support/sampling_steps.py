"""Steps of an engine without the engine: what vLLM hands to a sampler, prepared by vLLM itself."""

from array import array
from dataclasses import dataclass

import torch
from torch import nn
from vllm import SamplingParams
from vllm.model_executor import sampling_metadata
from vllm.model_executor.layers import sampler as vllm_sampler
from vllm.model_executor.sampling_metadata import SamplingMetadata
from vllm.sequence import VLLM_TOKEN_ID_ARRAY_TYPE, SequenceData, SequenceGroupMetadata

from recipes.archer.rollout.batch_sampler import take_over


@dataclass
class Request:
    """What a step samples for: so many tokens so far, and whether this step computes the prompt, or only a piece."""

    seed: int | None
    position: int = 0
    changes: dict | None = None
    prefill: bool = False
    piece: bool = False

    def parameters(self) -> SamplingParams:
        settings = {"temperature": 1.0, "max_tokens": 64, "logprobs": 0, "seed": self.seed}
        return SamplingParams(**(settings | (self.changes or {})))


def replaced_sampler(monkeypatch):
    """As an engine has it, for a fixture; vLLM's modules are as they were afterwards."""
    monkeypatch.setattr(vllm_sampler, "_multinomial", vllm_sampler._multinomial)
    monkeypatch.setattr(sampling_metadata, "is_pin_memory_available", lambda: False)  # as the GPUs' build thinks it is
    model = nn.Module()
    take_over(model)
    take_over(model)
    return model.sampler


def metadata(requests: list[Request]) -> SamplingMetadata:
    """vLLM's own preparation of a step in which prompts have 4 tokens."""
    groups, lengths, queries = [], [], []
    for number, request in enumerate(requests):
        data = SequenceData(array(VLLM_TOKEN_ID_ARRAY_TYPE, [1, 2, 3, 4]))
        data._output_token_ids = array(VLLM_TOKEN_ID_ARRAY_TYPE, [5] * request.position)
        prompt = request.prefill or request.piece
        lengths.append(4 + request.position)
        queries.append(2 if request.piece else lengths[-1] if prompt else 1)
        groups.append(
            SequenceGroupMetadata(
                request_id=str(number),
                is_prompt=prompt,
                seq_data={10 + number: data},
                sampling_params=request.parameters(),
                block_tables={},
                do_sample=not request.piece,
                token_chunk_size=queries[-1],
            )
        )
    # prefilled requests get a generator there, the others have none: nothing here may ask for it
    return SamplingMetadata.prepare(groups, lengths, queries, "cpu", pin_memory=False)


def tokens(sampler, logits, requests: list[Request]) -> list[int | None]:
    """The requests' next tokens; None for one of whose prompt a piece was computed."""
    prepared = metadata(requests)
    output = sampler(logits[: len(prepared.selected_token_indices)].clone(), prepared)
    assert [len(group.samples) for group in output.outputs] == [int(not request.piece) for request in requests]
    return [group.samples[0].output_token if group.samples else None for group in output.outputs]


def same_logits(rows: int, vocabulary: int = 50) -> torch.Tensor:
    return torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(2)).repeat(rows, 1)


# a step with each kind of request, and what it gives over ``same_logits``
STEP = [
    Request(1),
    Request(1, 1),
    Request(2, 8191),
    Request(2**31 - 1, 5, prefill=True),
    Request(3, piece=True),
    Request(4, 2, {"top_p": 0.9}),
    Request(5, 3, {"top_k": 20}),
    Request(6, 4, {"min_p": 0.05}),
    Request(7, 5, {"repetition_penalty": 1.3}),
    Request(8, 6, {"presence_penalty": 0.5, "frequency_penalty": 0.5}, prefill=True),
    Request(None, 7, {"temperature": 0.0}),
]
STEP_TOKENS = [35, 27, 39, 37, None, 21, 35, 36, 27, 39, 27]
