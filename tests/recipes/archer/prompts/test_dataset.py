"""Prompts: the data set, the order in which a run takes them, and batches of them."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.archer.prompts.dataset import PromptDataset, prompt_batch
from recipes.archer.prompts.file import PromptFileError
from recipes.archer.prompts.stream import PromptStream
from verl import DataProto

WORDS = ("what", "is", "one", "plus", "two", "three", "four", "five", "?", "please")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({w: i for i, w in enumerate(["<pad>", "<unk>", *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    return tokenizer


def _row(question: str, **changes) -> dict:
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": question}],
        "reward_model": {"ground_truth": "3"},
    } | changes


@pytest.fixture
def make_dataset(tokenizer, tmp_path):
    def make(*files: list[dict], **data):
        paths = [tmp_path / f"{number}.json" for number in range(len(files))]
        for path, rows in zip(paths, files, strict=True):
            path.write_text(json.dumps(rows))
        return PromptDataset([str(p) for p in paths], tokenizer, {"max_prompt_length": 8, "truncation": "error"} | data)

    return make


def _takes(stream: PromptStream, *numbers: int) -> list[list[int]]:
    return [stream.take(number) for number in numbers]


def test_an_epoch_is_every_prompt_once():
    stream = PromptStream(10, seed=3)
    assert sorted(stream.take(10)) == list(range(10))
    assert (stream.epoch, stream.position) == (1, 0)


def test_order_depends_on_seed_and_epoch_only():
    first, second = _takes(PromptStream(50, seed=3), 50, 50)
    assert first != second
    assert PromptStream(50, seed=3).take(50) == first
    assert PromptStream(50, seed=4).take(50) != first
    late = PromptStream(50, seed=3, epoch=1)
    assert late.take(50) == second
    pieces = PromptStream(50, seed=3)
    assert sum(_takes(pieces, 7, 20, 23, 50), []) == first + second


def test_a_batch_may_span_epochs():
    stream = PromptStream(4, seed=1, shuffle=False)
    assert _takes(stream, 3, 3, 9) == [[0, 1, 2], [3, 0, 1], [2, 3, 0, 1, 2, 3, 0, 1, 2]]
    assert (stream.epoch, stream.position) == (3, 3)


def test_prompts_given_back_come_first_and_once():
    stream = PromptStream(6, seed=1, shuffle=False)
    taken = stream.take(4)
    stream.give_back(taken[2:])
    assert stream.take(3) == [2, 3, 4]
    stream.give_back([3, 4])
    stream.give_back([2])  # several rounds of one step: the later one's first
    assert stream.take(4) == [2, 3, 4, 5]
    assert (stream.epoch, stream.position) == (1, 0)


@settings(max_examples=60)
@given(
    size=st.integers(1, 9),
    steps=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=8),
    interrupted=st.integers(0, 8),
)
def test_state_goes_through_json_at_any_point(size, steps, interrupted):
    """A run that was stopped after any step takes the same prompts as one that was not."""

    def run(stream, part):
        taken = []
        for number, unused in part:
            taken.append(stream.take(number))
            stream.give_back(taken[-1][len(taken[-1]) - min(unused, number) :])
        return taken

    whole = run(PromptStream(size, seed=7), steps)
    first = PromptStream(size, seed=7)
    before = run(first, steps[:interrupted])
    state = json.loads(json.dumps(first.state_dict()))
    second = PromptStream(size, seed=7)
    second.load_state_dict(state)
    assert before + run(second, steps[interrupted:]) == whole


def test_state_is_a_copy():
    stream = PromptStream(5, seed=1)
    stream.give_back(stream.take(2))
    state = stream.state_dict()
    stream.take(5)
    assert len(state["returned"]) == 2


def test_another_data_set_than_the_checkpoints_is_refused():
    state = PromptStream(5, seed=1).state_dict()
    with pytest.raises(ValueError, match=r"5 prompts, data.train_files has 6; .*trainer.resume_mode=disable"):
        PromptStream(6, seed=1).load_state_dict(state)


def test_batch_holds_each_prompt_n_times_side_by_side(make_dataset):
    dataset = make_dataset([_row("what is one plus two ?"), _row("three ?"), _row("four plus five ?")])
    batch = prompt_batch(dataset, [2, 0], n=3)
    assert batch.non_tensor_batch["prompt_number"].tolist() == [2, 2, 2, 0, 0, 0]
    assert batch.batch["attention_mask"].sum(-1).tolist() == [4, 4, 4, 6, 6, 6]
    assert batch.batch["input_ids"].shape == (6, 8)
    assert batch.batch["attention_mask"][0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]  # left-padded
    assert batch.non_tensor_batch["messages"][3] == [{"role": "user", "content": "what is one plus two ?"}]
    assert batch.non_tensor_batch["reward_model"][5] == {"ground_truth": "3"}


def test_rows_may_differ_in_what_training_does_not_read(make_dataset):
    """Files of several origins together: one has further columns, one a system message, one an empty field."""
    system = [{"role": "system", "content": "please"}, {"role": "user", "content": "three ?"}]
    dataset = make_dataset(
        [_row("one ?", ability="math", extra_info={"index": 4}), _row("two ?", extra_info=None)],
        [_row("three ?", prompt=system, note="x")],
    )
    batch = prompt_batch(dataset, [0, 1, 2], n=1)
    assert batch.non_tensor_batch["extra_info"].tolist() == [{"index": 4}, {}, {}]
    # lists of one length in the first, of several in the second
    together = DataProto.concat([prompt_batch(dataset, [0, 1], n=2), prompt_batch(dataset, [2, 0], n=2)])
    assert [len(m) for m in together.non_tensor_batch["messages"]] == [1, 1, 1, 1, 2, 2, 1, 1]
    assert [len(ids) for ids in together.non_tensor_batch["raw_prompt_ids"]] == [2, 2, 2, 2, 3, 3, 2, 2]


def test_reading_a_prompt_does_not_change_it(make_dataset):
    dataset = make_dataset([_row("one ?")])
    assert dataset[0]["raw_prompt_ids"] == dataset[0]["raw_prompt_ids"]
    assert dataset.messages(0)[0]["content"] == "one ?"
    assert dataset.source(0) == "sums"


def test_prompts_that_are_too_long_are_left_out(make_dataset):
    rows = [_row("what is one plus two plus three plus four ?"), _row("one ?")]
    assert len(make_dataset(rows)) == 1
    with pytest.raises(PromptFileError, match=r"every prompt is longer than data.max_prompt_length=1 tokens; raise it"):
        make_dataset(rows, max_prompt_length=1)


@pytest.fixture(scope="module")
def byte_tokenizer():
    """A token a byte, and the tokens of a chat layout."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    special = {"pad_token": "<|pad|>", "eos_token": "<|end|>", "bos_token": "<s>"}
    tokens.add_special_tokens(list(special.values()))
    begins = ("<s>", tokens.token_to_id("<s>"))  # of a text by itself; the template writes one
    tokens.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begins])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, **special)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


@pytest.mark.parametrize(
    "settings",
    [
        {"max_prompt_length": 200},
        {"max_prompt_length": 40},
        *(
            {"max_prompt_length": 25, "filter_overlong_prompts": False, "truncation": truncation}
            for truncation in ("left", "right", "middle")
        ),
    ],
    ids=str,
)
def test_items_are_those_of_upstreams_data_set(byte_tokenizer, tmp_path, settings):
    """The very tokens, masks and positions, whatever is left out or cut."""
    from datasets import Dataset
    from omegaconf import OmegaConf

    from verl.utils.dataset.rl_dataset import RLHFDataset

    questions = ["1 + 1?", " Let x = \\frac{1}{2}.\n\n日本, Ж ", "one and " * 9, "a<|end|>b <s>", "x" * 7]
    rows = [_row(question, extra_info={"index": number}) for number, question in enumerate(questions)]
    rows[0]["prompt"].insert(0, {"role": "system", "content": "Be brief."})

    class Upstreams(RLHFDataset):
        def _download(self, **_):
            pass

        def _read_files_and_tokenize(self):
            self.dataframe = self.maybe_filter_out_long_prompts(Dataset.from_list(rows))

    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = OmegaConf.create(settings | {"filter_overlong_prompts_workers": None})
    ours = PromptDataset(str(tmp_path / "rows.json"), byte_tokenizer, config)
    config.filter_overlong_prompts_workers = 1
    theirs = Upstreams("rows.json", byte_tokenizer, config)
    assert 0 < len(ours) == len(theirs)
    for number in range(len(ours)):
        mine, other = ours[number], theirs[number]
        for key in ("input_ids", "attention_mask", "position_ids"):
            assert torch.equal(mine[key], other[key]) and mine[key].dtype == other[key].dtype
        assert mine["raw_prompt_ids"] == other["raw_prompt_ids"]
        for key in ("data_source", "reward_model", "extra_info"):
            assert mine[key] == other[key]


def test_the_template_is_asked_once_a_prompt(make_dataset, tokenizer, monkeypatch):
    """And never after the start, where it could fail in the middle of a run."""
    dataset = make_dataset([_row("one ?"), _row("two ?")])
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('again') }}")
    assert len(prompt_batch(dataset, [0, 1, 0], n=2)) == 6


def test_numbers_of_what_is_left_out_or_cut(make_dataset):
    rows = [_row("what is one plus two plus three plus four ?"), _row("one ?")]
    left_out, cut = make_dataset(rows), make_dataset(rows, filter_overlong_prompts=False, truncation="left")
    for dataset, length in ((left_out, 1), (cut, 2)):
        assert (dataset.num_prompts, dataset.num_too_long, len(dataset)) == (2, 1, length)
    assert cut[0]["raw_prompt_ids"] == cut.tokenizer.encode("one plus two plus three plus four ?")[-8:]


def test_a_prompt_that_is_too_long_is_refused_where_it_is_neither_left_out_nor_cut(make_dataset, tmp_path):
    rows = [_row("one ?"), _row("what is one plus two plus three plus four ?"), _row("one plus " * 9)]
    with pytest.raises(PromptFileError) as caught:
        make_dataset(rows, filter_overlong_prompts=False)
    assert str(caught.value).startswith(
        f"{tmp_path}/0.json, row 2: prompt: has 10 tokens, more than data.max_prompt_length=8 (2 such rows); raise it"
    )


def test_prompts_are_where_the_setting_says(make_dataset, tmp_path):
    row = _row("one ?")
    row["chat"] = row.pop("prompt")
    dataset = make_dataset([row], prompt_key="chat")
    assert dataset.messages(0) == row["chat"] and "prompt" in dataset.dataframe[0]
    for rows, key in (([row], "prompt"), ([_row("one ?")], "chat")):
        with pytest.raises(PromptFileError, match=rf"0.json, row 1: {key}: is missing"):
            make_dataset(rows, prompt_key=key)


def test_control_tokens_in_what_is_used(make_dataset, tmp_path):
    in_role = _row("one ?", prompt=[{"role": "user<pad>", "content": "one"}])
    rows = [_row("one ?"), _row("<pad> <unk> <pad>"), _row("two <pad> " * 9), in_role]
    assert make_dataset(rows).with_control_tokens == {
        f"{tmp_path}/0.json, row 2": ["<pad>", "<unk>"],
        f"{tmp_path}/0.json, row 4": ["<pad>"],
    }
