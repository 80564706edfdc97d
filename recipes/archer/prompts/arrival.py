"""Whether a prompt reaches the model as it is written: every content, and as text."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

from recipes.archer.prompts.file import PromptFileError
from recipes.archer.prompts.rendering import Rendering, quoted, render

Messages = Sequence[dict]


def rendered_whole(tokenizer, prompts: Sequence[Messages], names: Sequence[str]) -> Iterator[str]:
    """The text that the chat template makes of each prompt, in order, with a beginning of an assistant's turn.

    Args:
        names: of each prompt: file, row and field.

    Raises:
        PromptFileError: the template makes nothing of a prompt, or not all of its contents are in what it makes.
    """
    first_of_layout: dict[tuple, int] = {}
    for number, messages in enumerate(prompts):
        first_of_layout.setdefault(_layout(messages), number)
    probes = [(names[number], _marked(prompts[number])) for number in first_of_layout.values()]
    with closing(render(tokenizer, [*prompts, *(messages for _, messages in probes)])) as renderings:
        for name, messages, rendering in zip(names, prompts, islice(renderings, len(prompts)), strict=True):
            yield _whole(name, messages, rendering)
        for (name, messages), rendering in zip(probes, renderings, strict=True):
            if rendering.fault is None:  # a template may look into contents; the row itself has been rendered
                _whole(name, messages, rendering)


def control_tokens(tokenizer) -> re.Pattern | None:
    """Finds the texts that the tokenizer reads as tokens of their own; None when it has none.

    Runs of blanks are such tokens in some tokenizers, and text like any other.
    """
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    texts = sorted((token for token in added if token.strip()), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _whole(name: str, messages: Messages, rendering: Rendering) -> str:
    if rendering.fault is not None:
        raise PromptFileError(
            f"{name}: the model's chat template makes nothing of it: {rendering.fault}; correct the row or remove it, "
            "or use a model whose template takes it"
        )
    for number, message in enumerate(messages):
        if message["content"].strip() not in rendering.text:  # a template may trim
            raise PromptFileError(
                f"{name}[{number}].content: is not, as it is written, in what the model's chat template makes of the "
                f"prompt; use a role that the template knows (this one is {quoted(message['role'])}), and text that it "
                "does not change"
            )
    return rendering.text


def _layout(messages: Messages) -> tuple:
    """What a template can tell prompts apart by without looking at contents: roles and further fields."""
    return tuple((message["role"], *sorted(message)) for message in messages)


def _marked(messages: Messages) -> list[dict]:
    """`messages` with contents that stand in a text only where a template puts them.

    A content that is dropped may be short, and stand in what the template writes by itself.
    """
    return [message | {"content": f"archermarker{number}end"} for number, message in enumerate(messages)]
