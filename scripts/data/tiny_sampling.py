"""Sampling from the tiny base model, and the figures that tell whether it starts where it should."""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass

import torch
from tiny_corpus import Problem, question
from tiny_settings import Settings
from tiny_tokenizer import END
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from recipes.archer.text.metrics import connective_counts

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


@dataclass(frozen=True)
class Measurement:
    """Of one response a prompt at temperature 1."""

    accuracy: float  # share with the right number in the last box
    mean_tokens: float  # response length, the end of the turn included
    bare_guess_share: float  # responses that show no step
    connectives_per_response: float
    no_answer_share: float  # no box at all
    responses: int

    def as_dict(self) -> dict[str, float]:
        """Rounded to four digits, for the manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def chat_prompts(tokenizer: PreTrainedTokenizerBase, questions: list[str]) -> list[str]:
    """Each as a user's message in the chat layout, up to where the assistant speaks.

    The template is rendered once; for thousands of messages it would take seconds.
    """
    place = "\0"
    messages = [{"role": "user", "content": place}]
    layout = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return [layout.replace(place, question) for question in questions]


@torch.no_grad()
def sample(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    max_new_tokens: int,
    seed: int,
) -> tuple[list[str], list[int]]:
    """One response a question at temperature 1: texts without special tokens, lengths in tokens with the turn's end."""
    torch.manual_seed(seed)
    inputs = tokenizer(chat_prompts(tokenizer, questions), return_tensors="pt", padding=True)
    output = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
    )[:, inputs.input_ids.shape[1] :]  # (questions, tokens)
    lengths = (output != tokenizer.pad_token_id).sum(-1).tolist()
    return tokenizer.batch_decode(output, skip_special_tokens=True), lengths


def last_box(response: str) -> str | None:
    """What stands in the response's last box; None without a box."""
    boxes = BOX.findall(response)
    return boxes[-1].strip() if boxes else None


def summarize(responses: list[str], lengths: list[int], answers: list[int]) -> Measurement:
    """The figures of a set of responses; the three lists run in parallel and are not empty."""
    boxes = [last_box(response) for response in responses]
    count = len(responses)
    return Measurement(
        accuracy=sum(box == str(answer) for box, answer in zip(boxes, answers, strict=True)) / count,
        mean_tokens=sum(lengths) / count,
        bare_guess_share=sum("=" not in response for response in responses) / count,
        connectives_per_response=sum(connective_counts(responses)) / count,
        no_answer_share=boxes.count(None) / count,
        responses=count,
    )


def measure(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    settings: Settings,
) -> Measurement:
    """Ask every problem once and summarize."""
    rng = random.Random(settings.seed)
    questions = [question(rng, problem) for problem in problems]
    responses, lengths = sample(model, tokenizer, questions, settings.max_response_tokens, settings.seed)
    return summarize(responses, lengths, [problem.answer for problem in problems])
