"""The tokens at which a response ends: what the files name, what the tokenizer names, what the template closes with."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipes.archer.rollout.stop_tokens import StopTokenError, find_stop_tokens, named, turn_end_of

CHATML = "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endfor -%}"
TEMPLATES = {  # layout -> (template, the token that closes a turn)
    "chatml": (CHATML, "<|im_end|>"),
    "llama 3": (
        "{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n{{ m.content }}<|eot|>{% endfor %}",
        "<|eot|>",
    ),
    "blank before the end": ("{% for m in messages %}{{ m.content }} <|eot|>\n{% endfor %}", "<|eot|>"),
    "only between turns": (
        "{% for m in messages %}{{ m.content }}{% if not loop.last %}<|eot|>{% endif %}{% endfor %}",
        "<|eot|>",
    ),
    "the next turn opens": (
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% endfor %}",
        "<|im_start|>",
    ),
    "words only": ("{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}", None),
    "assistants are not shown": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}<|eot|>{% endfor %}",
        None,
    ),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>"]


def tokenizer_of(template: str | None, eos: str | None = "<|endoftext|>") -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(SPECIAL)
    ends = {} if eos is None else {"eos_token": eos}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **ends)


def token(text: str) -> int:
    return 2 + SPECIAL.index(text)


def found(tokenizer, *, config=None, generation=None, **options):
    files = {"config.json": {"eos_token_id": config}, "generation_config.json": {"eos_token_id": generation}}
    return find_stop_tokens(tokenizer, files, vocab_size=20, **options)


@pytest.mark.parametrize("layout", TEMPLATES)
def test_the_token_that_closes_a_turn_is_found_by_rendering_one(layout):
    template, closing = TEMPLATES[layout]
    assert turn_end_of(tokenizer_of(template)) == (None if closing is None else token(closing))


def test_all_sources_make_one_set():
    tokens = found(tokenizer_of(CHATML), config=10, generation=[11, 10], by_hand=[12])
    assert tokens.ids == tuple(sorted({10, 11, 12, token("<|endoftext|>"), token("<|im_end|>")}))
    assert tokens.turn_end == token("<|im_end|>") and tokens.unnamed


def test_switched_off_the_turns_end_is_no_stop_unless_it_is_named_otherwise():
    end = token("<|im_end|>")
    off = found(tokenizer_of(CHATML), at_turn_end=False)
    assert end not in off.ids and off.turn_end == end and off.unnamed
    for named_by in ({"config": end}, {"generation": [3, end]}, {"by_hand": [end]}):
        assert end in found(tokenizer_of(CHATML), at_turn_end=False, **named_by).ids
    assert not found(tokenizer_of(CHATML), config=end).unnamed
    assert found(tokenizer_of(CHATML), by_hand=[end]).unnamed  # a setting is none of the model's files


def test_there_may_be_none_at_all():
    words = TEMPLATES["words only"][0]
    assert found(tokenizer_of(words, eos=None)).ids == () == found(tokenizer_of(None, eos=None)).ids


@pytest.mark.parametrize("value", ["2", -1, 20, True, 2.0, [2, None], {"a": 1}, [[2]], list(range(300))])
def test_what_is_no_token_is_named_with_its_source(value):
    for source in ("config", "generation"):
        with pytest.raises(StopTokenError, match=r"config.json names "):
            found(tokenizer_of(CHATML), **{source: value})


def test_tokens_are_shown_with_their_ids_and_never_raw():
    tokenizer = tokenizer_of(CHATML)
    tokenizer.add_special_tokens({"additional_special_tokens": ["\x1b]52;c;\x07"]})
    shown = named(tokenizer, [token("<|im_end|>"), len(tokenizer) - 1])
    assert shown == "'<|im_end|>' (4), '\\x1b]52;c;\\x07' (8)" and shown.isprintable()
