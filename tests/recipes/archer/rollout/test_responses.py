"""What is a response's is what the engine generated, whatever its tokens are."""

import os

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

os.environ.setdefault("VLLM_USE_V1", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from recipes.archer.rollout.engine import SeededLLM, SeededRollout
from recipes.archer.rollout.responses import trim_responses, with_engine_mask
from verl import DataProto


def _response_batch(lengths: list[int], prompt_length: int = 2, cap: int = 6) -> DataProto:
    mask = (torch.arange(cap) < torch.tensor(lengths)[:, None]).long()
    attention = torch.cat([torch.ones(len(lengths), prompt_length, dtype=torch.long), mask], dim=1)
    ids = torch.arange(len(lengths) * (prompt_length + cap)).view(len(lengths), -1)
    return DataProto.from_dict(
        {
            "input_ids": ids,
            "attention_mask": attention,
            "position_ids": attention.cumsum(-1) - 1,
            "responses": ids[:, prompt_length:],
            "rollout_log_probs": torch.rand(len(lengths), cap),
        }
    )


@pytest.mark.parametrize(("lengths", "longest"), [([2, 4, 0], 4), ([6, 1, 1], 6), ([0, 0], 1)])
def test_responses_are_cut_to_the_longest(lengths, longest):
    whole = _response_batch(lengths)
    tensors = trim_responses(_response_batch(lengths), 6).batch
    assert tensors["response_mask"].sum(-1).tolist() == lengths
    for key in ("responses", "rollout_log_probs", "response_mask"):
        assert tensors[key].shape == (len(lengths), longest)
    for key in ("input_ids", "attention_mask", "position_ids"):
        assert torch.equal(tensors[key], whole.batch[key][:, : 2 + longest])
    assert torch.equal(tensors["input_ids"][:, 2:], tensors["responses"])


def test_a_batch_without_the_engines_log_probabilities_is_cut_too():
    batch = _response_batch([1, 3])
    del batch.batch["rollout_log_probs"]
    assert trim_responses(batch, 6).batch["responses"].shape == (2, 3)


CAP, PROMPTS = 12, [[5, 6], [7, 8, 9], [3], [11, 4]]


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A real engine with random weights: only its own output says what it generated."""
    from vllm.distributed import cleanup_dist_env_and_memory

    from actor_cases import small_qwen3

    folder = tmp_path_factory.mktemp("model")
    small_qwen3(tied=True).save_pretrained(folder)
    sizes = {"max_model_len": 64, "max_num_batched_tokens": 256}
    yield SeededLLM(str(folder), skip_tokenizer_init=True, dtype="float32", enforce_eager=True, **sizes)
    cleanup_dist_env_and_memory()


def rollout_of(llm, pad: int, stop_token_ids: list[int]) -> SeededRollout:
    """verl's rollout around the engine, as its worker builds it but for the engine."""
    from vllm import SamplingParams

    rollout = SeededRollout.__new__(SeededRollout)
    rollout.config = OmegaConf.create({"response_length": CAP, "calculate_log_probs": True})
    rollout.inference_engine, rollout.pad_token_id, rollout.lora_kwargs = llm, pad, {}
    settings = {"temperature": 1.0, "max_tokens": CAP, "logprobs": 0, "detokenize": False}
    rollout.sampling_params = SamplingParams(stop_token_ids=stop_token_ids, **settings)
    return rollout


def generate(llm, pad: int, stop_token_ids: list[int], eos_of_files: int) -> DataProto:
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    columns = {"seed": np.arange(4), "raw_prompt_ids": np.fromiter(PROMPTS, dtype=object, count=4)}
    tensors = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    asked = DataProto.from_dict(tensors, columns, meta_info={"eos_token_id": eos_of_files})
    return rollout_of(llm, pad, stop_token_ids).generate_sequences(asked)


def free_run(llm) -> list[list[int]]:
    """What the seeds draw when nothing ends a response."""
    responses = generate(llm, 0, [], 0).batch["responses"].tolist()
    assert all(len(row) == CAP for row in responses)
    return responses


def kinds(llm) -> dict[str, tuple[int, list[int], int]]:
    """Kind -> (padding token, stop tokens, the one end that the files name, by which verl's mask would go)."""
    drawn = free_run(llm)
    unused = min(set(range(1, 60)) - set(sum(drawn, [])))
    early, later, last = drawn[0][3], drawn[1][6], drawn[2][CAP - 1]
    return {
        "one end token": (0, [early], early),
        "several": (0, [early, later], early),
        "none reached": (0, [unused], unused),
        "end at the cap": (0, [last], last),
        "padding is the end": (early, [early], early),
        "padding is a token that is drawn": (drawn[3][2], [early], early),
        "the files name another end": (0, [early, later], drawn[0][1]),
        "by hand, the files name none that is drawn": (0, [later], unused),
    }


def test_the_mask_is_the_engines_length_and_its_word_on_the_end(llm):
    drawn = free_run(llm)
    for kind, (pad, stops, eos_of_files) in kinds(llm).items():
        output = generate(llm, pad, stops, eos_of_files).batch
        for row, tokens in enumerate(drawn):
            length = next((i + 1 for i, token in enumerate(tokens) if token in stops), CAP)
            mask = output["attention_mask"][row, -CAP:].tolist()
            assert mask == [1] * length + [0] * (CAP - length), (kind, row)
            assert output["responses"][row].tolist() == tokens[:length] + [pad] * (CAP - length), (kind, row)
            assert bool(output["ended"][row]) == any(token in stops for token in tokens), (kind, row)


def test_a_response_that_was_cut_off_by_a_stop_has_nothing_and_has_not_ended():
    tensors = {"attention_mask": torch.ones(2, 5, dtype=torch.long), "responses": torch.zeros(2, 3, dtype=torch.long)}
    output = with_engine_mask(DataProto.from_dict(tensors), [0, 3], [False, True]).batch
    assert output["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert output["ended"].tolist() == [False, True]
