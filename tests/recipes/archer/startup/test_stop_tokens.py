"""The run's stop tokens are told at each start, written into its configuration, or refused."""

import json

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipes.archer.ending import UserError
from recipes.archer.startup import stop_tokens
from recipes.archer.startup.stop_tokens import settle_stop_tokens

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|> {% endfor %}"
WORDS = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
NO_ASSISTANT = (
    "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('users only') }}{% endif %}{% endfor %}"
)
END, TURN = 2, 4  # <|endoftext|>, <|im_end|>


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """Settles the stop tokens of a model whose files name what is given."""

    def settle(template=CHATML, eos="<|endoftext|>", config=None, generation=None, **rollout):
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        ends = {} if eos is None else {"eos_token": eos}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **ends)
        monkeypatch.setattr(stop_tokens, "model_settings", lambda folder: {"vocab_size": 8, "eos_token_id": config})
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(generation)
        settings = {"stop_at_turn_end": True, "stop_token_ids": []} | rollout
        run = OmegaConf.create({"actor_rollout_ref": {"model": {"path": str(tmp_path)}, "rollout": settings}})
        settle_stop_tokens(run, tokenizer)
        return list(run.actor_rollout_ref.rollout.stop_token_ids)

    return settle


def test_a_base_models_turn_ends_all_the_same_and_it_is_said(settle, capsys):
    assert settle(config=END, generation=json.dumps({"eos_token_id": END})) == [END, TURN]
    said = capsys.readouterr()
    assert said.out == "responses end at '<|endoftext|>' (2), '<|im_end|>' (4)\n"
    assert said.err.startswith("warning: the chat template closes a turn with '<|im_end|>' (4), which the model's own")
    assert "the run stops there all the same" in said.err and said.err.count("\n") == 1


def test_switched_off_the_warning_says_what_comes_of_it(settle, capsys):
    assert settle(config=END, stop_at_turn_end=False) == [END]
    assert "responses run on after the answer" in capsys.readouterr().err


def test_where_the_files_name_it_there_is_nothing_to_warn_of(settle, capsys):
    assert settle(config=END, generation=json.dumps({"eos_token_id": [TURN, END]})) == [END, TURN]
    assert capsys.readouterr().err == ""


def test_ends_by_hand_come_on_top(settle):
    assert settle(config=END, stop_token_ids=[1, 5]) == [1, END, TURN, 5]


def test_a_run_without_any_does_not_start(settle):
    with pytest.raises(UserError, match=r"names no token that ends a response.*stop_token_ids=\[ID\]"):
        settle(template=WORDS, eos=None)
    assert settle(template=WORDS, eos=None, stop_token_ids=[5]) == [5]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"generation": "{oops"}, "generation_config.json: not JSON"),
        ({"generation": "[1]"}, "generation_config.json: not a JSON object"),
        ({"generation": '{"eos_token_id": 99}'}, "generation_config.json names 99 as an end token"),
        ({"config": "x"}, "config.json names 'x' as an end token"),
        ({"stop_token_ids": [-1]}, "stop_token_ids names -1"),
        ({"template": NO_ASSISTANT}, "its chat template cannot render an assistant's turn ('users only')"),
        ({"template": "{{ 1 / 0 }}"}, "its chat template cannot render an assistant's turn"),
    ],
)
def test_what_is_wrong_is_one_line(settle, given, said):
    with pytest.raises(UserError) as refused:
        settle(**given)
    assert said in str(refused.value) and "\n" not in str(refused.value)
