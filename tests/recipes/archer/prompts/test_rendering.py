"""A chat template is a stranger's program: it may fail, never end, grow without bound; nothing of it is printed raw."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from recipes.archer.prompts import rendering
from recipes.archer.prompts.rendering import quoted, render

ROOT = Path(__file__).resolve().parents[4]
SHORT_S = 0.3
TURNS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def chat(text: str, role: str = "user") -> list[dict]:
    return [{"role": role, "content": text}]


@pytest.fixture
def make_tokenizer():
    def make(template: str | None) -> PreTrainedTokenizerFast:
        tokens = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="?", eos_token="?")
        tokenizer.chat_template = template
        return tokenizer

    yield make
    assert multiprocessing.active_children() == []  # none outlives its use


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(rendering, "DEADLINE_S", SHORT_S)


def test_one_rendering_for_each_conversation_as_the_tokenizer_makes_it(make_tokenizer):
    tokenizer = make_tokenizer(TURNS)
    chats = [chat(f"one\n{number}\u2028 Ж") for number in range(300)]
    made = list(render(tokenizer, chats))
    assert [r.fault for r in made] == [None] * 300
    assert [r.text for r in made] == tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)


def test_a_turn_without_a_beginning_of_the_next(make_tokenizer):
    turns = [*chat("one"), *chat("two", "assistant")]
    (made,) = render(make_tokenizer(TURNS), [turns], add_generation_prompt=False)
    assert made.text == "[user]one[assistant]two"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "chat_template is not set"),
        ("{% if %}", "Expected an expression"),
        ("{{ raise_exception('no system role') }}", "'no system role'"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ messages[0].content + 1 }}", "can only concatenate"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ raise_exception('\\x1b]52;c;AAAA\\x07\u202e\\n' ~ 'x' * 9999) }}", "'\\x1b]52;c;AAAA\\x07\\u202e\\nxxx"),
        ("{{ raise_exception('') }}", "'TemplateError'"),
        ("{{ 'x' * 2 * 10 ** 9 }}", "it needs more than 1024 MiB"),
        ("{{ 'x' * 10 ** 5 }}", "it adds more than 65,536 characters"),
        ("{{ '\\ud800' }}", "what it makes holds \\ud800, half of a surrogate pair, as character 1"),
    ],
)
def test_a_template_that_fails(make_tokenizer, template, said):
    (made,) = render(make_tokenizer(template), [chat("one")])
    assert made.text is None and said in made.fault
    assert made.fault.isprintable() and len(made.fault) < 200


@pytest.mark.parametrize(
    "template", [FOR_EVER, "{{ 9 ** (10 ** 9) }}", "{% set x = 9 ** (messages|length * 10 ** 9) %}"]
)
def test_a_template_that_does_not_end(make_tokenizer, short, template):
    """Also where it computes in one long call, which no signal handler of Python's interrupts."""
    start = time.monotonic()
    (made,) = render(make_tokenizer(template), [chat("one")])
    assert made == (None, "it does not come to an end in 0.3 s")
    assert time.monotonic() - start < 20 * SHORT_S


def test_a_process_that_only_waits_is_not_waited_for(short):
    class Waits:
        def apply_chat_template(self, *_, **__):
            time.sleep(60)

    start = time.monotonic()
    assert list(render(Waits(), [chat("one")])) == [(None, "it does not come to an end in 0.3 s")]
    assert time.monotonic() - start < 20 * SHORT_S


def test_what_comes_after_a_conversation_without_an_end_is_rendered(make_tokenizer, monkeypatch):
    monkeypatch.setattr(rendering, "DEADLINE_S", 2.0)  # more than a busy machine takes for the others
    tokenizer = make_tokenizer("{% if messages[0].content == 'two' %}" + FOR_EVER + "{% endif %}" + TURNS)
    made = list(render(tokenizer, [chat("one"), chat("two"), chat("three")]))
    assert [r.text for r in made] == ["[user]one[assistant]", None, "[user]three[assistant]"]


def test_a_template_that_is_slow_each_time_has_an_end_too(make_tokenizer, monkeypatch):
    """All conversations together have so much of the processor, however soon each one comes."""
    monkeypatch.setattr(rendering, "DEADLINE_S", 0.5)
    monkeypatch.setattr(rendering, "SHARE_S", 0.0)
    monkeypatch.setattr(Connection, "poll", lambda self, timeout: True)
    slow = make_tokenizer("{% for a in range(99999) %}{% endfor %}{{ messages[0].content }}")
    faults = []
    for made in render(slow, [chat("one")] * 10_000):
        faults.append(made.fault)
        if made.fault:
            break
    assert faults[0] is None and faults[-1] == "it does not come to an end in 0.5 s"


def test_a_template_that_gets_no_processor_for_a_while_is_waited_for(monkeypatch):
    class Delayed:
        def apply_chat_template(self, *_, **__):
            time.sleep(0.5)
            return "late"

    monkeypatch.setattr(rendering, "DEADLINE_S", 0.25)
    assert [made.text for made in render(Delayed(), [chat("one")])] == ["late"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_is_not_waited_for(make_tokenizer, number):
    class Fatal:
        def apply_chat_template(self, *_, **__):
            os.kill(os.getpid(), number)

    (made,) = render(Fatal(), [chat("one")])
    assert made.fault == f"its process died (exit code {-number})"


def test_a_reader_that_has_seen_enough_leaves_no_process(make_tokenizer):
    renderings = render(make_tokenizer(TURNS), [chat("one")] * 5000)
    next(renderings)
    (child,) = multiprocessing.active_children()
    renderings.close()
    assert not child.is_alive()


def test_a_parent_that_is_killed_leaves_no_process():
    """Its child may be in a loop just then, where it does not notice."""
    code = """
import multiprocessing, os
from recipes.archer.prompts import rendering
class Loop:
    def apply_chat_template(self, *_, **__):
        print(os.getpid(), flush=True)
        while True: pass
rendering.DEADLINE_S = 0.5
rendering._received = lambda reader: os.wait()
list(rendering.render(Loop(), [[]]))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert time.monotonic() < end


def test_a_fork_after_the_tokenizer_used_threads_is_quiet(make_tokenizer, capfd, monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    tokenizer = make_tokenizer(TURNS)
    tokenizer(["one", "two"])
    assert len(list(render(tokenizer, [chat("one")]))) == 1
    assert capfd.readouterr().err == ""
    assert "TOKENIZERS_PARALLELISM" not in os.environ


@pytest.mark.parametrize("text", ["user", "\x1b[31m", "\u202e", "a\nb", "x" * 10**6, "'\"", "日本"])
def test_what_is_quoted_is_printable_and_short(text):
    assert quoted(text).isprintable() and len(quoted(text)) <= 122
