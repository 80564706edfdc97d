"""Convert sets of mathematics, as their authors publish them, to the prompt files that training and evaluation read."""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for recipes.archer, from any directory
from recipes.archer.grading.answers import last_boxed  # noqa: E402
from recipes.archer.grading.grader import GradingError, GradingPool  # noqa: E402
from recipes.archer.prompts.file import (  # noqa: E402
    PromptFileError,
    Unreadable,
    iterate_rows,
    prompt_row,
    surrogate_fault,
    write_prompt_file,
)
from recipes.archer.prompts.rendering import quoted  # noqa: E402

INSTRUCTION = "Let's think step by step and output the final answer within \\boxed{}."
QUESTION_FIELDS = ("problem", "question")
ANSWER_FIELDS = ("answer", "expected_answer", "final_answer")
ID_FIELDS = ("id", "unique_id", "problem_idx", "question_id", "idx")
IMAGE_FIELD = re.compile(r"image(_\d+)?|images")
AFTER_SOLUTION = re.compile(r"^####[ \t]*(.+?)\s*\Z", re.M)  # GSM8K's answers end in: #### 1,234
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")

# What a set wraps around its questions: DAPO's instruction before and reminder after, and the box instruction.
WRAPPERS = re.compile(
    r"^\s*Solve the following math problem step by step\. The last line of your response should be of the form "
    r"Answer: \$Answer \(without quotes\) where \$Answer is the answer to the problem\.\s*"
    r"|\s*Remember to put your answer on its own line after \"?Answer:?\"?\.?\s*$"
    r"|\s*" + re.escape(INSTRUCTION) + r"\s*$"
)


class RowFault(ValueError):
    """A row that does not fit; the message begins with the field."""


@dataclass(frozen=True)
class Item:
    """A bare question, its answer, and where they come from."""

    question: str
    answer: str
    data_source: str
    id: str | None


def read_item(row: object, default_source: str) -> Item:
    """The question and answer of a row of any known layout.

    Raises:
        RowFault: a field is missing, empty or of the wrong kind.
    """
    if not isinstance(row, dict):
        raise RowFault(f"is {type(row).__name__}, must be an object")
    row = {str(name).lower(): value for name, value in row.items()}  # some AIME sets write Problem, Answer
    question = strip_wrappers(chat_question(row["prompt"]) if "prompt" in row else plain_question(row))
    if not question:
        raise RowFault("question: is empty")
    source = row.get("data_source")
    source = whole_text("data_source", source) if isinstance(source, str) else default_source
    return Item(question, read_answer(row), source, read_id(row))


def whole_text(field: str, text: str) -> str:
    """`text`, which can be written."""
    if fault := surrogate_fault(text):
        raise RowFault(f"{field}: {fault}")
    return text


def chat_question(prompt: object) -> str:
    """The text of a prompt that is one user message, or text itself."""
    if isinstance(prompt, str):
        return whole_text("prompt", prompt)
    if not isinstance(prompt, list) or len(prompt) != 1 or not isinstance(prompt[0], dict):
        raise RowFault("prompt: must be one user message")
    if prompt[0].get("role") != "user":
        raise RowFault(f"prompt[0].role: is {quoted(str(prompt[0].get('role')))}, must be 'user'")
    if not isinstance(prompt[0].get("content"), str):
        raise RowFault("prompt[0].content: must be text")
    return whole_text("prompt[0].content", prompt[0]["content"])


def plain_question(row: dict) -> str:
    """The text under the first known name."""
    for field in QUESTION_FIELDS:
        if field in row:
            if not isinstance(row[field], str):
                raise RowFault(f"{field}: is {type(row[field]).__name__}, must be text")
            return f"{context(row)}{whole_text(field, row[field])}"
    raise RowFault(f"{' or '.join((*QUESTION_FIELDS, 'prompt'))}: is missing")


def context(row: dict) -> str:
    """What OlympiadBench puts before some questions.

    Raises:
        RowFault: the question cannot be asked in text alone.
    """
    for field, value in row.items():
        if IMAGE_FIELD.fullmatch(field) and value is not None and not (isinstance(value, list) and not value):
            raise RowFault(f"{field}: is a picture, which a prompt of text cannot hold")
    text = row.get("context")
    return f"{whole_text('context', text).strip()}\n" if isinstance(text, str) and text.strip() else ""


def read_answer(row: dict) -> str:
    """The ground truth as text; a whole number loses its decimal point."""
    if "reward_model" in row:
        reward_model = row["reward_model"]
        if not isinstance(reward_model, dict):
            raise RowFault("reward_model: must be an object")
        return answer_text("reward_model.ground_truth", reward_model.get("ground_truth"))
    field = next((field for field in ANSWER_FIELDS if field in row), None)
    if field is not None:
        return plain_answer(field, row[field])
    if isinstance(row.get("solution"), str):  # Minerva's answers are the last box of its solutions
        boxed = last_boxed(row["solution"])
        if boxed is None:
            raise RowFault("solution: has no \\boxed answer")
        return answer_text("solution", boxed)
    raise RowFault(f"{' or '.join((*ANSWER_FIELDS, 'reward_model.ground_truth'))}: is missing")


def plain_answer(field: str, value: object) -> str:
    """The answer in a field that may hold it in a list, as OlympiadBench does, or after a solution, as GSM8K does."""
    if isinstance(value, list) and field == "final_answer":
        if len(value) != 1:
            raise RowFault(f"{field}: has {len(value)} answers, must have one")
        text = answer_text(field, value[0])
        return text.replace("$", "") if text.count("$") > 2 else text  # several in one text: $2$,$3$
    text = answer_text(field, value)
    found = AFTER_SOLUTION.search(text)
    return THOUSANDS.sub("", found[1]) if found else text


def answer_text(field: str, value: object) -> str:
    """`value` as non-empty text."""
    if value is None or value != value:  # pandas writes an absent answer as NaN
        raise RowFault(f"{field}: is missing")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise RowFault(f"{field}: is {type(value).__name__}, must be text or a number")
    if isinstance(value, float) and math.isinf(value):
        raise RowFault(f"{field}: is {value}, must be text or a finite number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = whole_text(field, str(value).strip())
    if not text:
        raise RowFault(f"{field}: is empty")
    return text


def read_id(row: dict) -> str | None:
    """What the set calls the row, to find it there again."""
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    fields = {field: row[field] for field in ID_FIELDS if row.get(field) is not None}
    fields["extra_info.index"] = extra.get("index")
    field, found = next(iter(fields.items()))
    return None if found is None else whole_text(field, str(found))


def strip_wrappers(text: str) -> str:
    """The bare question."""
    return WRAPPERS.sub("", text).strip()


def deduplicate(items: Iterable[Item], counts: Counter) -> list[Item]:
    """The first item of each question, in order; a question with two different answers is left out altogether."""
    first: dict[str, Item] = {}
    spellings: dict[str, set[str]] = {}  # of the answer, other than the first one's
    for item in items:
        key = " ".join(item.question.split())
        kept = first.setdefault(key, item)
        if kept.answer != item.answer:
            spellings.setdefault(key, set()).add(item.answer)
        counts["duplicates"] += kept is not item
    pairs = [(key, first[key].answer, other) for key, others in spellings.items() for other in sorted(others)]
    same = same_answers([(answer, other) for _, answer, other in pairs])
    contradicted = {key for (key, _, _), is_same in zip(pairs, same, strict=True) if not is_same}
    counts["contradicted"], counts["respelt"] = len(contradicted), len(spellings) - len(contradicted)
    return [item for key, item in first.items() if key not in contradicted]


def same_answers(pairs: list[tuple[str, str]]) -> list[bool]:
    """Whether the grader takes each for the other, as the answer and as the ground truth.

    Raises:
        GradingError: no grading process can start.
    """
    if not pairs:
        return []  # most sets: no process is started
    one, other = zip(*pairs, strict=True)
    boxed = [f"\\boxed{{{answer}}}" for answer in (*one, *other)]
    with GradingPool(max(1, (os.cpu_count() or 1) // 2)) as pool:
        correct = [grade.outcome == "correct" for grade in pool.grade_batch(boxed, [*other, *one])]
    return [there and back for there, back in zip(correct[: len(pairs)], correct[len(pairs) :], strict=True)]


def read_items(files: list[Path], data_source: str | None, skip_bad: bool, counts: Counter) -> Iterator[Item]:
    """The items of all files; a row that does not fit is skipped with a warning, or raises PromptFileError."""
    for path in files:
        for place, row in iterate_rows(path, keep_unreadable=True):
            counts["rows"] += 1
            try:
                if isinstance(row, Unreadable):
                    raise RowFault(row.fault)
                yield read_item(row, data_source or path.stem)
            except RowFault as fault:
                if not skip_bad:
                    remedy = "correct it, or skip such rows with --skip-bad"
                    raise PromptFileError(f"{path}, {place}: {fault}; {remedy}") from None
                counts["skipped"] += 1
                typer.echo(f"warning: {path}, {place}: {fault}; skipped", err=True)


def main(
    files: Annotated[list[Path], typer.Argument(help=".parquet, .json or .jsonl; several become one set.")],
    out: Annotated[Path, typer.Option(help="Prompt file to write: .json (an array) or .jsonl.")],
    split: Annotated[str, typer.Option(help="Goes to extra_info.split.")] = "train",
    data_source: Annotated[str | None, typer.Option(help="For rows that name none; default: the file.")] = None,
    instruction: Annotated[str, typer.Option(help="Put after each question; may be empty.")] = INSTRUCTION,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip rows that do not fit.")] = False,
) -> None:
    """Convert FILES to one prompt file, each question once."""
    counts: Counter = Counter()
    try:
        if out.suffix not in (".json", ".jsonl"):
            raise PromptFileError(f"{out}: unknown kind of file; name it .json or .jsonl")
        items = deduplicate(read_items(files, data_source, skip_bad, counts), counts)
        if not items:
            raise PromptFileError(f"{', '.join(map(str, files))}: no usable row is left; nothing was written")
        write_prompt_file(out, [to_row(item, index, split, instruction) for index, item in enumerate(items)])
    except (PromptFileError, GradingError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:  # a folder that may not be written, a full disk
        typer.echo(f"error: {out}: {error.strerror}; choose another --out", err=True)
        raise typer.Exit(2) from None
    typer.echo(
        f"{out}: {len(items)} prompts from {counts['rows']} rows ({counts['duplicates']} repeated, "
        f"{counts['skipped']} skipped, {counts['respelt']} questions with one answer in several spellings, "
        f"{counts['contradicted']} with contradicting answers left out)"
    )


def to_row(item: Item, index: int, split: str, instruction: str) -> dict:
    """The prompt file's row of an item."""
    content = f"{item.question} {instruction}".strip()
    extra = {} if item.id is None else {"id": item.id}
    return prompt_row(item.data_source, content, item.answer, index=index, split=split, **extra)


if __name__ == "__main__":
    typer.run(main)
