"""Questions reach the engine as training's prompts do, and keep their seeds wherever they stand."""

import json

import pytest

from recipes.archer.ending import UserError
from recipes.archer.evaluation.questions import read_questions, seeds_of
from recipes.archer.prompts.file import prompt_row
from recipes.archer.rollout.seeds import response_seeds


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "a": 2, "b": 3, "user": 4, "?": 5}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>", unk_token="<pad>")
    made.chat_template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}{% if add_generation_prompt %} ?{% endif %}"
    )
    return made


def written(path, *contents):
    path.write_text(json.dumps([prompt_row("s", text, "1", index=i, split="test") for i, text in enumerate(contents)]))
    return path


def test_prompts_are_those_of_training(tmp_path, tokenizer):
    from omegaconf import OmegaConf

    from recipes.archer.prompts.dataset import PromptDataset

    path = written(tmp_path / "q.json", "a b", "b", "b a a")
    settings = OmegaConf.create({"prompt_key": "prompt", "max_prompt_length": 16, "filter_overlong_prompts": True})
    trained = PromptDataset(str(path), tokenizer, settings)
    found = read_questions(path, tokenizer, 100)
    assert [list(q.prompt_ids) for q in found] == [list(trained[i]["raw_prompt_ids"]) for i in range(3)]
    assert [q.ground_truth for q in found] == ["1"] * 3


def test_a_question_has_its_key_and_seeds_in_every_file(tmp_path, tokenizer):
    one = read_questions(written(tmp_path / "one.json", "a", "b", "a"), tokenizer, 100)
    other = read_questions(written(tmp_path / "other.json", "b b", "a", "b"), tokenizer, 100)
    assert one[0].key == other[1].key and one[1].key == other[2].key
    assert one[2].key == f"{one[0].key}.2"
    seeds, more = seeds_of(one, 4, 7), seeds_of(other, 8, 7)
    assert (seeds[0] == more[1, :4]).all() and (seeds[1] == more[2, :4]).all()
    assert len({*seeds.ravel().tolist()}) == 12  # also of a question that comes twice
    assert (seeds_of(one, 4, 8) != seeds).all()
    assert (seeds.ravel()[:4] == response_seeds(7, 0, [int(one[0].key[:8], 16)], 4)).all()


def test_a_question_that_does_not_fit_is_refused(tmp_path, tokenizer):
    path = written(tmp_path / "q.json", "a", "a " * 9)
    with pytest.raises(UserError, match=r"1 of 2 questions have more than the 8 tokens"):
        read_questions(path, tokenizer, 8)
    with pytest.raises(UserError, match="leaves no room"):
        read_questions(path, tokenizer, 0)


def test_a_file_without_ground_truths_is_refused(tmp_path, tokenizer):
    (tmp_path / "q.json").write_text('[{"data_source": "s", "prompt": [{"role": "user", "content": "a"}]}]')
    with pytest.raises(UserError, match="reward_model: is missing"):
        read_questions(tmp_path / "q.json", tokenizer, 100)
