"""Supervised training of the tiny base model, on CPU in fp32."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from tiny_optimizer import Muon
from tiny_sampling import chat_prompts
from tiny_settings import ModelShape, Schedule
from tiny_tokenizer import END
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

Row = tuple[list[int], int]  # a conversation's token ids, and how many of them are the prompt's
IGNORED = -100  # the label that cross_entropy leaves out
USUAL_LENGTH = 30  # response tokens
PARTS = 2  # of a batch, and of the matrices, each on a thread of its own


def build_model(tokenizer: PreTrainedTokenizerFast, shape: ModelShape) -> Qwen3ForCausalLM:
    """A randomly initialised Qwen3 in fp32 whose vocabulary is the tokenizer's."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        sliding_window=None,
        torch_dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.do_sample = True
    return model


def encode(tokenizer: PreTrainedTokenizerFast, questions: list[str], solutions: list[str]) -> list[Row]:
    """The conversations in token ids, each ending as the chat template ends a turn."""
    prompt_ids = tokenizer(chat_prompts(tokenizer, questions)).input_ids
    response_ids = tokenizer([solution + END for solution in solutions]).input_ids
    return [(p + r, len(p)) for p, r in zip(prompt_ids, response_ids, strict=True)]


def batches(rows: list[Row], size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, labels), each (size, length), all rows once, in about their order.

    The rows of a batch are near in length, so padding is small.
    """
    rng = random.Random(seed)
    pool = 8 * size
    for start in range(0, len(rows), pool):
        near = sorted(rows[start : start + pool], key=lambda row: len(row[0]))
        groups = [near[i : i + size] for i in range(0, len(near), size)]
        rng.shuffle(groups)
        for group in groups:
            yield pad(group)


def pad(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, labels), each (rows, longest); only response tokens have labels."""
    length = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED)
    for number, (tokens, prompt_length) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        labels[number, prompt_length : len(tokens)] = ids[number, prompt_length : len(tokens)]
    return ids, labels


def response_loss(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy summed over the response tokens, nats, per conversation and `USUAL_LENGTH`.

    A mean over the batch's own tokens would weigh the words of a batch of bare guesses many times over.
    Padding on the right needs no mask under causal attention.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    hidden = hidden[:, :-1]  # (batch, length-1, hidden)
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    total = F.cross_entropy(model.lm_head(hidden[chosen]), targets[chosen], reduction="sum")
    return total / (len(ids) * USUAL_LENGTH)


def train(
    model: Qwen3ForCausalLM,
    rows: list[Row],
    schedule: Schedule,
    seed: int,
    report: Callable[[float], None],
) -> None:
    """Warm-up and linear decay over `rows` in order, one pass; `report` gets each step's loss.

    The same numbers on any number of cores: a gradient is the sum of two parts', in which order does not matter.
    """
    optimizers = build_optimizers(model, schedule)
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, schedule))
        for optimizer in optimizers
    ]
    model.train()
    with one_thread_an_operation(), ThreadPoolExecutor(PARTS) as pool:
        for ids, labels in batches(rows, schedule.batch_size, seed):
            model.zero_grad()
            parts = [(ids[part::PARTS], labels[part::PARTS], len(ids)) for part in range(min(PARTS, len(ids)))]
            loss = sum(pool.map(lambda part: add_gradient(model, *part), parts))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            list(pool.map(lambda optimizer: optimizer.step(), optimizers))
            for scheduler in schedulers:
                scheduler.step()
            report(loss)
    model.eval()


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Our own threads fill the cores: operations this small would wait for their threads a quarter of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def add_gradient(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor, whole: int) -> float:
    """Add the gradient of these conversations' share of the loss of a batch of `whole`; returns the share."""
    loss = response_loss(model, ids, labels) * (len(ids) / whole)
    loss.backward()
    return loss.item()


def build_optimizers(model: Qwen3ForCausalLM, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, in parts, and AdamW for the embedding and the norms."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim < 2 or "embed" in name]
    return [
        *(Muon(hidden[part::PARTS], lr=schedule.matrix_lr) for part in range(PARTS)),
        torch.optim.AdamW(rest, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, schedule: Schedule) -> float:
    """Linear from 0 to 1 in the warm-up, then linear to 0.05 at the end."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    left = (schedule.steps - step) / max(1, schedule.steps - schedule.warmup_steps)
    return max(0.05, left)
