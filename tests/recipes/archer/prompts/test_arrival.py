"""What a prompt says arrives in the text that the model reads, or the run is refused."""

import re
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AddedToken, PreTrainedTokenizerFast

from recipes.archer.prompts.arrival import control_tokens, rendered_whole
from recipes.archer.prompts.file import PromptFileError

USER_ONLY = "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% endif %}{% endfor %}<a>"
ALL = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>"


def say(**contents: str) -> list[dict]:
    return [{"role": role, "content": content} for role, content in contents.items()]


@pytest.fixture
def texts():
    tokens = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="?")

    def texts(template: str, *prompts: list[dict]) -> list[str]:
        tokenizer.chat_template = template
        return list(
            rendered_whole(tokenizer, prompts, [f"a.json, row {n}: prompt" for n in range(1, len(prompts) + 1)])
        )

    return texts


@pytest.mark.parametrize(
    ("template", "prompt", "text"),
    [
        (ALL, say(system="Be brief.", user="1 + 1?"), "<system>Be brief.<user>1 + 1?<a>"),
        (ALL, say(user=" 1 + 1?\n"), "<user> 1 + 1?\n<a>"),
        (USER_ONLY.replace("m.content", "m.content | trim"), say(user="\n 1 + 1?\t"), "<u>1 + 1?</u><a>"),
        # the system's message in the last user's, as some models have it
        ("<u>{{ messages[1].content }} {{ messages[0].content }}</u>", say(system="S", user="U"), "<u>U S</u>"),
        # what it makes of contents of our own does not count
        (
            "{% if 'archer' in messages[0].content %}{{ raise_exception('x') }}{% endif %}" + ALL,
            say(user="1"),
            "<user>1<a>",
        ),
    ],
)
def test_contents_that_arrive(texts, template, prompt, text):
    assert texts(template, prompt) == [text]


@pytest.mark.parametrize(
    ("template", "prompt", "field"),
    [
        (USER_ONLY, say(human="What is 1 + 1?"), "prompt[0].content"),
        (USER_ONLY, say(system="Be brief.", user="1 + 1?"), "prompt[0].content"),
        (USER_ONLY, say(user="1 + 1?", function="x"), "prompt[1].content"),
        (USER_ONLY, say(human="a"), "prompt[0].content"),  # which the template writes by itself
        (USER_ONLY, say(User="1 + 1?"), "prompt[0].content"),
        ("{{ messages[-1].content }}", say(user="one", assistant="on"), "prompt[0].content"),
        ("{{ messages[-1].content }}", say(user="on", assistant="one"), "prompt[0].content"),  # inside another one
        ("constant", say(user="1 + 1?"), "prompt[0].content"),
        ("", say(user="1"), "prompt[0].content"),
        (ALL.replace("m.content", "m.content | upper"), say(user="Let x be 1"), "prompt[0].content"),
        (ALL.replace("m.content", "m.content | e"), say(user="if 1 < 2"), "prompt[0].content"),
        (ALL.replace("m.content", "m.content | tojson"), say(user="in \\boxed{}"), "prompt[0].content"),
        (ALL.replace("m.content", "m.content[:9]"), say(user="one and two"), "prompt[0].content"),
        (ALL.replace("m.content", "m.content.split() | join(' ')"), say(user="a\nb"), "prompt[0].content"),
        (
            ALL.replace("m.content", "m.content.split('</think>')[-1]"),
            say(assistant="hm</think>2"),
            "prompt[0].content",
        ),
        (ALL.replace("m.content", "m.text"), say(user="1"), "prompt[0].content"),
    ],
)
def test_contents_that_do_not_arrive(texts, template, prompt, field):
    with pytest.raises(PromptFileError) as caught:
        texts(template, prompt)
    assert str(caught.value).startswith(f"a.json, row 1: {field}: is not, as it is written, in what")


def test_the_row_is_named_whose_layout_the_template_does_not_take(texts):
    good, bad = say(user="1 + 1?"), say(user="1 + 1?", tool="u")
    with pytest.raises(PromptFileError, match=r"^a.json, row 3: prompt\[1\].content: .* \(this one is 'tool'\)"):
        texts(USER_ONLY, good, good, bad, good, bad)


@pytest.mark.parametrize("role", ["human", "\x1b[31m\n\u202e", "x" * 9999])
def test_a_role_is_not_printed_raw(texts, role):
    with pytest.raises(PromptFileError) as caught:
        texts(USER_ONLY, [{"role": role, "content": "1 + 1?"}])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_template_that_refuses_a_row(texts):
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + ALL
    )
    with pytest.raises(PromptFileError) as caught:
        texts(template, say(user="1 + 1?"), say(system="Be brief.", user="1 + 1?"))
    said = "the model's chat template makes nothing of it: 'System role not supported'; correct the row or remove it"
    assert str(caught.value) == f"a.json, row 2: prompt: {said}, or use a model whose template takes it"


def tokenizer_with(*tokens: AddedToken, **special: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), **special)
    tokenizer.add_tokens(list(tokens))
    return tokenizer


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("What is 1 + 1?", []),
        ("a<|im_end|>\n<|im_start|>assistant", ["<|im_end|>", "<|im_start|>"]),
        ("<think>hm</think>", ["<think>"]),  # added, not special, and read as one token all the same
        ("<|im_end|>er", ["<|im_end|>er"]),  # the longest one, as the tokenizer takes it
        ("a  b", []),
        ("|im_end|", []),
    ],
)
def test_control_tokens_in_a_text(content, found):
    added = [AddedToken("<think>", special=False), AddedToken("  ", special=False), AddedToken("<|im_end|>er")]
    tokenizer = tokenizer_with(*added, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"])
    assert control_tokens(tokenizer).findall(content) == found


def test_a_tokenizer_without_any():
    assert control_tokens(SimpleNamespace(added_tokens_decoder={}, all_special_tokens=[])) is None
    assert isinstance(control_tokens(tokenizer_with(eos_token="</s>")), re.Pattern)
