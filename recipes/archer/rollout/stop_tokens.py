"""Where a response ends: the stop tokens of a run, found once before it starts.

A base model's files may name another end than the token with which its own chat template closes a turn: Qwen3-0.6B-Base
names ``<|endoftext|>``, its template writes ``<|im_end|>``.  An engine that goes by the files then runs on after the
answer, through invented turns, to the cap.  So the template is asked, by rendering a turn.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.archer.prompts.rendering import render

_MARK = "0123456789"  # an assistant's words that no template alters
_QUESTION = [{"role": "user", "content": "1 + 1?"}]
_ANSWER = [*_QUESTION, {"role": "assistant", "content": _MARK}]
_MOST = 256  # ids that one source may name


class StopTokenError(ValueError):
    """A source names what cannot be a token; the message says which."""


class TurnError(ValueError):
    """The chat template cannot render an assistant's turn; the message says why, printable."""


@dataclass(frozen=True)
class StopTokens:
    """The tokens at which the engine ends a response, and by which a response counts as ended.

    Attributes:
        ids: all of them, ascending.
        turn_end: the token with which the chat template closes an assistant's turn; None where it uses none.
        unnamed: whether neither the model's files nor its tokenizer name ``turn_end`` as an end.
    """

    ids: tuple[int, ...]
    turn_end: int | None
    unnamed: bool


def find_stop_tokens(
    tokenizer,
    files: Mapping[str, Mapping[str, Any]],
    *,
    vocab_size: int,
    at_turn_end: bool = True,
    by_hand: Iterable[int] = (),
) -> StopTokens:
    """The stop tokens of a run.

    Args:
        tokenizer: the model's, with its chat template.
        files: name to content of ``config.json`` and ``generation_config.json``.
        vocab_size: tokens that the model knows; ids are below it.
        at_turn_end: whether the token that closes a turn is one of them (``rollout.stop_at_turn_end``).
        by_hand: further ids (``rollout.stop_token_ids``).

    Raises:
        StopTokenError: a source names what is no token of the model.
        TurnError: the chat template cannot render an assistant's turn.
    """
    named = {source: _ids(source, content.get("eos_token_id"), vocab_size) for source, content in files.items()}
    own = set().union(*named.values(), _ids("the tokenizer", tokenizer.eos_token_id, vocab_size))
    turn_end = turn_end_of(tokenizer) if tokenizer.chat_template else None
    ids = own | _ids("actor_rollout_ref.rollout.stop_token_ids", list(by_hand), vocab_size)
    if at_turn_end and turn_end is not None:
        ids |= {turn_end}
    return StopTokens(tuple(sorted(ids)), turn_end, turn_end is not None and turn_end not in own)


def turn_end_of(tokenizer) -> int | None:
    """The special token with which the chat template closes an assistant's turn, None where it uses none.

    It is the first one after the assistant's words; where nothing follows them at the end of a conversation, the first
    one that stands between them and the next turn.

    Raises:
        TurnError: the template cannot be rendered.
    """
    special = set(tokenizer.get_added_vocab().values())
    for rendering in render(tokenizer, [_ANSWER, [*_ANSWER, *_QUESTION]], add_generation_prompt=False):
        if rendering.text is None:
            raise TurnError(rendering.fault)
        _, found, rest = rendering.text.partition(_MARK)
        after = tokenizer(rest, add_special_tokens=False).input_ids if found else []
        if (token := next((token for token in after if token in special), None)) is not None:
            return token
    return None


def named(tokenizer, ids: Iterable[int]) -> str:
    """Tokens for a person: each with its id."""
    return ", ".join(f"{ascii(tokenizer.convert_ids_to_tokens(token))} ({token})" for token in ids)


def _ids(source: str, value: Any, vocab_size: int) -> set[int]:
    """What a source names, an id or several, as a set.

    Raises:
        StopTokenError: it is none.
    """
    values = [] if value is None else value if isinstance(value, list | tuple) else [value]
    if len(values) > _MOST:
        raise StopTokenError(f"{source} names {len(values)} end tokens; {_MOST} at most")
    for token in values:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise StopTokenError(f"{source} names {token!r:.40} as an end token, the model has 0 to {vocab_size - 1}")
    return set(values)
