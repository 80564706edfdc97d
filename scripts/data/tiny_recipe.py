"""The whole of the tiny model's making: draw problems, write the prompt files, train, save, measure."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import torch
from tiny_corpus import Problem, draw_problem, draw_problems, draw_solution, question
from tiny_sampling import Measurement, measure
from tiny_settings import Settings
from tiny_tokenizer import train_tokenizer
from tiny_training import build_model, encode, train
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM

from recipes.archer.prompts.file import prompt_row, write_prompt_file

DATA_SOURCE = "tiny_arithmetic"
SKILL_TAIL = 40  # steps over which the loss is averaged
TOKENIZER_TEXTS = 2000  # of the mixture: every wording occurs many times


def build(folder: Path, settings: Settings, report: Callable[[float], None]) -> Measurement:
    """Write model/, train.json and val.json into `folder`; `report` gets each step's loss."""
    rng = random.Random(settings.seed)
    val = draw_problems(rng, settings.mixture, settings.val_rows, set())
    probes = draw_problems(rng, settings.mixture, settings.measured_prompts, set(val))
    held_out = {*val, *probes}
    prompts = draw_problems(rng, settings.mixture, settings.train_rows, held_out)
    write_prompt_file(folder / "train.json", prompt_rows(rng, prompts, "train"))
    write_prompt_file(folder / "val.json", prompt_rows(rng, val, "val"))
    model, tokenizer = train_until_learned(settings, rng, held_out, report)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return measure(model, tokenizer, probes, settings)


def prompt_rows(rng: random.Random, problems: list[Problem], split: str) -> list[dict]:
    """Archer rows, one a problem."""
    return [
        prompt_row(DATA_SOURCE, question(rng, problem), str(problem.answer), index=index, split=split)
        for index, problem in enumerate(problems)
    ]


def train_until_learned(
    settings: Settings, rng: random.Random, held_out: set[Problem], report: Callable[[float], None]
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """The first of `attempts` models that has learned its arithmetic, or the last one, and its tokenizer.

    Whether it has is a matter of draws: the seed's, and those of the processor, whose rounding differs from another's.
    """
    schedule = settings.schedule
    for attempt in range(schedule.attempts):
        losses: list[float] = []

        def step(loss: float, losses=losses) -> None:
            losses.append(loss)
            report(loss)

        made = train_from_scratch(settings, rng, held_out, step, settings.seed + attempt)
        loss = fmean(losses[max(0, schedule.skill_steps - SKILL_TAIL) : schedule.skill_steps])
        if loss <= schedule.learned_loss:
            break
        print(f"tiny model: a loss of {loss:.2f}: the arithmetic was not learned with these draws", file=sys.stderr)
    return made


def train_from_scratch(
    settings: Settings, rng: random.Random, held_out: set[Problem], report: Callable[[float], None], seed: int
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """The trained model, in eval mode, and its tokenizer; no problem of `held_out` is trained on."""
    questions, solutions = draw_conversations(settings, rng, held_out)
    texts = [f"user\n{q}\nassistant\n{s}" for q, s in zip(questions, solutions, strict=True)]
    tokenizer = train_tokenizer(texts[-TOKENIZER_TEXTS:], settings.max_vocab, settings.shape.context)
    torch.manual_seed(seed)
    model = build_model(tokenizer, settings.shape)
    train(model, encode(tokenizer, questions, solutions), settings.schedule, seed, report)
    return model, tokenizer


def draw_conversations(settings: Settings, rng: random.Random, held_out: set[Problem]) -> tuple[list[str], list[str]]:
    """Questions and solutions in the order of training: the skill steps' first, then the mixture's."""
    schedule, questions, solutions = settings.schedule, [], []
    while len(questions) < schedule.steps * schedule.batch_size:
        problem = draw_problem(rng, settings.mixture)
        if problem in held_out:
            continue
        skill = len(questions) < schedule.skill_steps * schedule.batch_size
        questions.append(question(rng, problem))
        share = schedule.skill_share if skill else settings.mixture.careful_share
        solutions.append(draw_solution(rng, problem, settings.mixture, share))
    return questions, solutions


def measure_folder(folder: Path, settings: Settings) -> Measurement:
    """Measure the model in `folder`/model on problems that neither training nor the prompt files hold."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", torch_dtype=torch.float32).eval()
    rng = random.Random(settings.seed)
    val = draw_problems(rng, settings.mixture, settings.val_rows, set())
    probes = draw_problems(rng, settings.mixture, settings.measured_prompts, set(val))
    return measure(model, tokenizer, probes, settings)
