"""What a model's chat template makes of conversations.

A template is a stranger's program: it runs in a process of its own, which is killed at its deadline, and what it makes
and says is bounded.
"""

import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from recipes.archer.prompts.file import surrogate_fault

DEADLINE_S = 10.0  # of the processor, for one conversation, which takes a tenth of a millisecond
BUSY = 6  # times as long is waited: others may have the processor
SHARE_S = 0.02  # of the processor, for each further one: a template that only just comes to an end is slow 17,000 times
MEMORY = 1 << 30  # bytes more than the driver has
MAX_ADDED = 1 << 16  # characters around the contents: the longest preambles have some thousands
MAX_QUOTED = 120  # characters of what a stranger's file says


class Rendering(NamedTuple):
    """The text of a conversation, or why there is none, in printable words; one of the two is None."""

    text: str | None
    fault: str | None


def render(
    tokenizer, conversations: Sequence[list[dict]], *, add_generation_prompt: bool = True
) -> Iterator[Rendering]:
    """One rendering for each conversation, in order, as the tokenizer's chat template has it.

    Args:
        conversations: lists of messages, each with the text fields ``role`` and ``content``.
        add_generation_prompt: whether the beginning of an assistant's turn follows.
    """
    done = 0
    while done < len(conversations):
        for rendering in _until_it_dies(tokenizer, conversations[done:], add_generation_prompt):
            done += 1
            yield rendering


def quoted(text: str) -> str:
    """A stranger's text as part of a line that is printed: in quotes, cut, control characters escaped."""
    return repr(text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…")


def _until_it_dies(tokenizer, conversations: Sequence[list[dict]], generation: bool) -> Iterator[Rendering]:
    """The renderings that one child makes; where it dies, the last of them says of what."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    # a fork has the tokenizer, a fresh process would load it and torch for seconds
    child = multiprocessing.get_context("fork").Process(
        target=_serve, args=(reader, writer, tokenizer, conversations, generation), daemon=True
    )
    with _tokenizers_know_of_a_fork():
        child.start()
    writer.close()
    try:
        for _ in conversations:
            rendering = _received(reader)
            if rendering is None:
                yield Rendering(None, _cause_of_death(child))
                return
            yield rendering
    finally:
        child.kill()
        child.join()
        reader.close()


def _received(reader: Connection) -> Rendering | None:
    """The next rendering; None when the deadline passes or the child is gone."""
    with suppress(EOFError, OSError):
        if reader.poll(BUSY * DEADLINE_S):
            return Rendering(*json.loads(reader.recv_bytes()))
    return None


def _cause_of_death(child: BaseProcess) -> str:
    child.join(0.5)  # gone from the pipe, it may not be gone yet
    if child.exitcode in (None, -signal.SIGXCPU):
        return f"it does not come to an end in {DEADLINE_S:g} s"
    return f"its process died (exit code {child.exitcode})"


def _serve(reader: Connection, writer: Connection, tokenizer, conversations: Sequence, generation: bool) -> None:
    """The child."""
    reader.close()  # so that a parent that is gone is noticed
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)  # what to do about it is the parent's
    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, in_use + MEMORY)
    # a template cannot wait, only compute: this ends it too where nobody waits for it any more
    _limit(resource.RLIMIT_CPU, int(DEADLINE_S + SHARE_S * len(conversations)) + 1)
    with suppress(BrokenPipeError):
        for conversation in conversations:
            writer.send_bytes(json.dumps(_rendered(tokenizer, conversation, generation)).encode())


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _rendered(tokenizer, conversation: list[dict], generation: bool) -> Rendering:
    try:
        text = tokenizer.apply_chat_template(conversation, add_generation_prompt=generation, tokenize=False)
    except MemoryError:
        return Rendering(None, f"it needs more than {MEMORY >> 20} MiB")
    except Exception as error:  # a program's own; raise_exception() is how it says that it does not take these roles
        return Rendering(None, quoted(str(error) or type(error).__name__))
    if len(text) > MAX_ADDED + sum(len(message["content"]) for message in conversation):
        return Rendering(None, f"it adds more than {MAX_ADDED:,} characters")
    if fault := surrogate_fault(text):
        return Rendering(None, f"what it makes {fault}")
    return Rendering(text, None)


@contextmanager
def _tokenizers_know_of_a_fork() -> Iterator[None]:
    """Once they have used threads, they warn at each fork, unless this is set; the child makes no use of them."""
    name = "TOKENIZERS_PARALLELISM"
    unset = name not in os.environ
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if unset:
            del os.environ[name]
