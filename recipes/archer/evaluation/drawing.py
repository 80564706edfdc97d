"""What is asked of an engine and what it answers. Apart from the engine, which takes seconds to import."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from recipes.archer.evaluation.plan import Sampling


@dataclass(frozen=True)
class Request:
    """A response that is wanted: its number among all, the prompt's tokens, its seed."""

    number: int
    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Drawn:
    """A response that was drawn: the number of its request, its tokens, whether a stop token was the last of them."""

    number: int
    token_ids: tuple[int, ...]
    ended: bool


class Responder(Protocol):
    """What draws responses: an engine, or several."""

    def respond(
        self, requests: Iterable[Request], sampling: Sampling, stop_token_ids: Iterable[int]
    ) -> Iterable[list[Drawn]]: ...


class EngineRefusedError(ValueError):
    """An engine cannot be made as it is asked for; the message says why, and the remedy."""


def refusal(error: ValueError) -> str:
    """What to say of vLLM's word for a cache that is too small, and for settings that it refuses."""
    return f"the engine refuses ({str(error).splitlines()[0]!a:.300}); lower --max-tokens"
