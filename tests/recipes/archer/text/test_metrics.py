"""Word families, repetition with and without spaces, bare answers, and keys that are always there."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.archer.text.metrics import NGRAM, connective_counts, response_texts, text_metrics
from recipes.archer.text.word_families import FAMILIES, WORD_FAMILIES

ROOT = Path(__file__).resolve().parents[4]
REASONED = (
    "We want the sum of the first ten odd numbers. Since each odd number is 2k-1, and there are ten of them, the sum "
    "is 10^2 = 100. However, let me verify: 1+3+5+7+9 = 25 = 5^2, so the pattern holds. Therefore the answer is "
    r"\boxed{100}."
)
DEGENERATE = {
    "spaced symbol": "& " * 400,
    "spaced script": "ゆ " * 400,
    "unspaced symbol": "&" * 400,
    "unspaced script": "ゆ" * 400,
    "unspaced script in short lines": "ゆゆゆゆゆ。\n" * 60,
    "long period": "the answer is not the answer because we know that it is so and then again " * 30,
    "unspaced period": "わかりません、" * 60,
    "after good text": REASONED + "&" * 3000,
}


def one(text: str, **kwargs):
    return response_texts([text], **kwargs)[0]


def test_connectives_are_whole_words_in_any_case():
    plain = ["", "Therefore x. BECAUSE y; hence, z", "android also sofa ifs organ"]
    texts = [*plain, r"so$x$\therefore\text{if }y", "And\nor-but"]
    assert connective_counts(texts) == [0, 3, 0, 3, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_counts_each_of_its_words_once(family):
    words = sorted(WORD_FAMILIES[family])
    metrics = text_metrics([" ".join(words).upper()], [True], [False])
    assert metrics[f"{family}/mean"] == len(words)
    assert metrics[f"{family}/per_100_words"] == 100
    assert all(metrics[f"{other}/mean"] == 0 for other in FAMILIES if other != family)


def test_there_are_seven_disjoint_families_of_lower_case_words():
    assert len(FAMILIES) == 7 and FAMILIES[0] == "logical_connectives"
    words = [word for family in WORD_FAMILIES.values() for word in family]
    assert len(words) == len(set(words)) and all(word.isalpha() and word.islower() for word in words)


def test_words_of_ascii_text_are_those_of_any_text():
    """Two ways to find words, one of them only for ASCII: a final é, a word of its own, selects the other."""
    text = "".join(map(chr, range(128))) * 2 + REASONED + r"\frac{a_1}{b}, so: and/or"
    plain, other = one(text), one(text + " é")
    assert other.words == plain.words + 1 and other.family_counts == plain.family_counts


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_text_is_caught_by_both_ratios(name):
    measured = one(DEGENERATE[name])
    assert measured.repetition_ratio > 0.85
    assert measured.compression_ratio > 9


def test_good_text_is_not_caught():
    measured = one(REASONED)
    assert measured.repetition_ratio == 0
    assert 1 < measured.compression_ratio < 3


def test_random_words_do_not_repeat_in_either_form():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(500)]
    assert one(" ".join(words)).repetition_ratio == 0
    assert one("".join(words)).repetition_ratio < 0.01


def counted_directly(text: str) -> float:
    pieces = text.lower().replace("ゆ", " ゆ ").split()
    units = [unit for piece in pieces for unit in (piece if len(piece) > 40 else [piece])]
    grams = [tuple(units[i : i + NGRAM]) for i in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@pytest.mark.parametrize("seed", range(20))
def test_hashed_ngrams_count_as_tuples_do(seed):
    rng = random.Random(seed)
    base = rng.choices(["a", "b", "c", "x" * 45, "ゆ", "aゆゆb"], k=rng.randint(0, 60))
    text = " ".join(base * rng.randint(1, 4) + rng.choices("ab", k=rng.randint(0, 60)))
    assert one(text).repetition_ratio == pytest.approx(counted_directly(text), abs=1e-12)


@pytest.mark.parametrize("line", ["{} + 12{} = 129", "{} + 10{} = 109, which is no multiple of 7", "{} 3{} holds"])
def test_one_number_that_counts_up_and_one_that_counts_down_are_no_repetition(line):
    """As in a list of cases: within a 20-gram the changes must not cancel out."""
    text = "\n".join(line.format(i, 9 - i) for i in range(10))
    assert one(text).repetition_ratio == counted_directly(text) == 0


@pytest.mark.parametrize("spaced", [True, False])
def test_a_response_of_few_characters_is_caught_in_a_script_without_spaces_too(spaced):
    """Thirty pieces make eleven 20-grams, of which the first is new."""
    assert one((" " * spaced).join("ゆ" * 30)).repetition_ratio == pytest.approx(10 / 11)


@pytest.mark.parametrize("text", ["", " \n ", "x", "x " * (NGRAM - 1), "ゆ" * (NGRAM - 1)])
def test_text_too_short_for_an_ngram_does_not_repeat(text):
    assert one(text).repetition_ratio == 0


def test_empty_text_has_a_compression_ratio_of_one():
    assert one("").compression_ratio == 1


def test_half_a_surrogate_pair_is_measured():
    assert one("so \ud800 x").words == 2


def test_words_of_scripts_without_spaces_are_characters():
    assert one("因为 x+1=2").words == 5
    assert one("因为所以").words == 4


@pytest.mark.parametrize(
    "text, bare",
    [
        (r"\boxed{5}", True),
        (r"The answer is \boxed{5}", True),
        ("5", True),
        (r"\boxed{1} \boxed{2} \boxed{3} \boxed{4} \boxed{5} \boxed{6} \boxed{7} \boxed{8} \boxed{9}", True),
        (r"\boxed{5} and here follows the reasoning that should have come before the answer", True),
        (REASONED, False),
        ("因为三加四等于七所以答案是 \\boxed{7}", False),
        ("one two three four five six seven eight nine ten", False),
        ("", False),
        (" \n", False),
    ],
)
def test_bare_answers(text, bare):
    assert one(text).bare_answer is bare


def test_how_many_words_make_an_answer_bare_is_a_setting():
    text = r"The answer is \boxed{5}"
    assert not one(text, bare_answer_words=3).bare_answer and one(text, bare_answer_words=4).bare_answer


def test_metrics_split_by_the_verdict():
    texts = ["so and thus", "so x y z", "x"]
    metrics = text_metrics(texts, [True, False, False], [False, True, True])
    assert metrics["logical_connectives/mean"] == pytest.approx(4 / 3)
    assert metrics["logical_connectives/pos/mean"] == 3
    assert metrics["logical_connectives/neg/mean"] == 0.5
    assert metrics["logical_connectives/per_100_words"] == pytest.approx(50)
    assert metrics["logical_connectives/pos/per_100_words"] == 100
    assert metrics["logical_connectives/neg/per_100_words"] == 20
    assert metrics["response/truncated/mean"] == pytest.approx(2 / 3)
    assert metrics["response/truncated/pos/mean"] == 0 and metrics["response/truncated/neg/mean"] == 1
    assert metrics["response/bare_answer/mean"] == 1


def test_the_keys_are_always_the_same_and_an_empty_class_is_none():
    everything = text_metrics(["so", "x"], [True, False], [True, False])
    only_wrong = text_metrics(["so", "x"], [False, False], [True, False])
    nothing = text_metrics([], [], [])
    assert set(everything) == set(only_wrong) == set(nothing)
    assert set(nothing.values()) == {None} and None not in everything.values()
    assert {key for key, value in only_wrong.items() if value is None} == {k for k in everything if "/pos/" in k}
    for family in FAMILIES:
        for stat in ("mean", "per_100_words"):
            assert {f"{family}/{stat}", f"{family}/pos/{stat}", f"{family}/neg/{stat}"} <= set(everything)
    assert {"repetition/ratio/mean", "repetition/compression_ratio/mean"} <= set(everything)
    json.dumps(everything)  # plain numbers, not NumPy's


def test_a_wrong_number_of_verdicts_is_refused():
    with pytest.raises(ValueError, match="2 texts, 1 verdicts, 2 truncation flags"):
        text_metrics(["a", "b"], [True], [False, False])


def test_light_processes_need_no_torch():
    code = "import sys, recipes.archer.text.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
