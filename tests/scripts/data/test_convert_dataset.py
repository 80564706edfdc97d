"""Conversion: every known layout, instructions replaced, repeats dropped, bad rows named."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import convert_dataset
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from convert_dataset import INSTRUCTION, Item, RowFault, deduplicate, main, read_item, strip_wrappers

from recipes.archer.prompts.file import read_prompt_file

DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'


def dapo_row(question: str, answer: str, index: str = "9a9b") -> dict:
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": DAPO_BEFORE + question + DAPO_AFTER}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": index},
    }


def convert(*files: Path, out: Path, **options) -> list[dict]:
    main(list(files), out, **{"split": "train", "data_source": None, "instruction": INSTRUCTION, **options})
    return read_prompt_file(out)


def test_dapo_parquet_with_its_repeats(tmp_path, capsys):
    rows = [dapo_row("How many?", "34")] * 100 + [dapo_row("How far?", "7")] * 100
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dapo.parquet")
    converted = convert(tmp_path / "dapo.parquet", out=tmp_path / "train.json", skip_bad=False)
    assert [row["prompt"][0]["content"] for row in converted] == [f"How many? {INSTRUCTION}", f"How far? {INSTRUCTION}"]
    assert converted[1] == {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": f"How far? {INSTRUCTION}"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "7"},
        "extra_info": {"index": 1, "split": "train", "id": "9a9b"},
    }
    assert "2 prompts from 200 rows (198 repeated, 0 skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"problem": "P", "answer": "204", "id": 60, "url": "u"}, Item("P", "204", "set", "60")),
        ({"ID": "2024-I-1", "Problem": "P", "Answer": 204}, Item("P", "204", "set", "2024-I-1")),
        ({"question": "P", "answer": 70.0}, Item("P", "70", "set", None)),
        ({"problem_idx": 7, "problem": "P", "answer": 277, "problem_type": None}, Item("P", "277", "set", "7")),
        ({"problem_idx": 1, "answer": r"\frac{1}{576}", "problem": "P"}, Item("P", r"\frac{1}{576}", "set", "1")),
        ({"id": 0, "problem": "P", "answer": 142.0, "url": "u"}, Item("P", "142", "set", "0")),
        ({"question": "P", "answer": "3*4=<<3*4=12>>12\nso 12\n#### 1,212,000"}, Item("P", "1212000", "set", None)),
        ({"question": "P", "answer": "#### -7.5\n"}, Item("P", "-7.5", "set", None)),
        ({"question": "P", "answer": "a set, 1,234 of #### it"}, Item("P", "a set, 1,234 of #### it", "set", None)),
        ({"problem": "P", "solution": r"So \boxed{9.6} \mathrm{cm}, not 1.", "idx": 3}, Item("P", "9.6", "set", "3")),
        (
            {"id": 1606, "question": "P", "context": None, "final_answer": ["$2$"], "image_1": None, "solution": ["S"]},
            Item("P", "$2$", "set", "1606"),
        ),
        (
            {"question": "P", "context": "Let $x$ be 1.", "final_answer": ["$2$,$3$"], "is_multiple_answer": True},
            Item("Let $x$ be 1.\nP", "2,3", "set", None),
        ),
        ({"problem": "P", "solution": "s", "answer": "\\frac{1}{2}", "unique_id": "a/1.json"},
         Item("P", "\\frac{1}{2}", "set", "a/1.json")),
        ({"prompt": "P", "answer": "0.5", "data_source": "own"}, Item("P", "0.5", "own", None)),
        (dapo_row("P", "1"), Item("P", "1", "math_dapo", "9a9b")),
    ],
)  # fmt: skip
def test_layouts(row, expected):
    assert read_item(row, "set") == expected


@pytest.mark.parametrize(
    "text", ["P", DAPO_BEFORE + "P" + DAPO_AFTER, f"P {INSTRUCTION}", f"P\n{INSTRUCTION}\n", DAPO_BEFORE + "P", " P "]
)
def test_instructions_are_stripped(text):
    assert strip_wrappers(text) == "P"


def test_a_question_that_speaks_of_answers_is_kept():
    question = "Answer: what does $Answer mean? Remember to put your answer on paper."
    assert strip_wrappers(DAPO_BEFORE + question + DAPO_AFTER) == question


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "is list, must be an object"),
        ({"answer": "1"}, "problem or question or prompt: is missing"),
        ({"problem": 3, "answer": "1"}, "problem: is int, must be text"),
        ({"problem": DAPO_BEFORE, "answer": "1"}, "question: is empty"),
        ({"problem": "P"}, "answer or expected_answer or final_answer or reward_model.ground_truth: is missing"),
        ({"problem": "P", "answer": None}, "answer: is missing"),
        ({"problem": "P", "answer": float("nan")}, "answer: is missing"),
        ({"problem": "P", "answer": " "}, "answer: is empty"),
        ({"problem": "P", "answer": ["1"]}, "answer: is list"),
        ({"question": "P", "final_answer": ["1", "2"]}, "final_answer: has 2 answers, must have one"),
        ({"question": "P", "final_answer": []}, "final_answer: has 0 answers"),
        ({"question": "P", "final_answer": [None]}, "final_answer: is missing"),
        ({"question": "P", "final_answer": ["1"], "image_1": {"bytes": "b"}}, "image_1: is a picture"),
        ({"problem": "P", "solution": "no box"}, "solution: has no \\boxed answer"),
        ({"prompt": [], "answer": "1"}, "prompt: must be one user message"),
        ({"prompt": [{"role": "system", "content": "P"}], "answer": "1"}, "prompt[0].role: is 'system'"),
        ({"prompt": [{"role": "user"}], "answer": "1"}, "prompt[0].content: must be text"),
        ({"prompt": "P", "reward_model": {"style": "rule"}}, "reward_model.ground_truth: is missing"),
        ({"prompt": "P", "reward_model": "x"}, "reward_model: must be an object"),
        ({"problem": "P", "answer": float("-inf")}, "answer: is -inf, must be text or a finite number"),
        ({"problem": "P\ud800", "answer": "1"}, "problem: holds \\ud800, half of a surrogate pair"),
        ({"prompt": "P\ud800", "answer": "1"}, "prompt: holds"),
        ({"prompt": [{"role": "user", "content": "P\ud800"}], "answer": "1"}, "prompt[0].content: holds"),
        ({"problem": "P", "answer": "\ud800"}, "answer: holds"),
        ({"problem": "P", "answer": "1", "data_source": "\ud800"}, "data_source: holds"),
        ({"problem": "P", "answer": "1", "unique_id": "\ud800"}, "unique_id: holds"),
        ({"problem": "P", "answer": "1", "extra_info": {"index": "\ud800"}}, "extra_info.index: holds"),
    ],
)
def test_row_faults_name_the_field(row, said):
    with pytest.raises(RowFault) as caught:
        read_item(row, "set")
    assert str(caught.value).startswith(said)


def test_contradicting_answers_leave_the_question_out():
    counts = Counter()
    items = [Item(q, a, "s", None) for q, a in [("one  q", "1"), ("two", "2"), ("one q", "3"), ("one q", "1")]]
    assert [item.question for item in deduplicate(items, counts)] == ["two"]
    assert counts == {"duplicates": 2, "contradicted": 1, "respelt": 0}


SPELLINGS = [
    ("025", "25"),
    (r"\frac{1}{2}", "0.5"),
    ("$25$", "25"),
    ("1,000", "1000"),
    (r"\boxed{7}", "7"),
    ("x=5", "5"),
]
CONTRADICTIONS = [
    ("1", "2"),
    ("0.333", "1/3"),
    ("(1,2)", "[1,2]"),
    (r"\frac{1}{", "1"),
    ("1}{", "{1"),
    ('["1", "2"]', "1"),
]


def test_two_spellings_of_one_answer_are_no_contradiction():
    """By the grader's own judgement, and the first spelling is kept."""
    counts, pairs = Counter(), [*SPELLINGS, *CONTRADICTIONS]
    items = [Item(f"q{number}", answer, "s", None) for number, pair in enumerate(pairs) for answer in (*pair, *pair)]
    three = [Item("three", answer, "s", None) for answer in ("0.5", "1/2", "0.50", "2")]
    kept = deduplicate([*items, *three, Item("one", "1", "s", None)], counts)
    assert [item.answer for item in kept] == [*(first for first, _ in SPELLINGS), "1"]
    assert counts["respelt"] == len(SPELLINGS) and counts["contradicted"] == len(CONTRADICTIONS) + 1


def test_no_grader_is_started_where_spellings_do_not_differ(monkeypatch):
    monkeypatch.setattr(convert_dataset, "GradingPool", None)
    assert len(deduplicate([Item("q", "1", "s", None)] * 3, Counter())) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"problem": "Q"}', "answer or"),
        ('{"problem": "Q\\ud800", "answer": 1}', "problem: holds \\ud800"),
        (f'{{"problem": "Q", "answer": {"9" * 4301}}}', "answer: is inf"),
    ],
)
def test_bad_row_is_named_and_nothing_written(tmp_path, capsys, row, said):
    source = tmp_path / "aime.jsonl"
    source.write_text(f'{{"problem": "P", "answer": 1}}\n{row}\n')
    with pytest.raises(typer.Exit) as caught:
        convert(source, out=tmp_path / "out.json", skip_bad=False)
    error = capsys.readouterr().err
    assert caught.value.exit_code == 2
    assert error.startswith(f"error: {source}, line 2: {said}") and error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_bad_row_is_skipped_on_request(tmp_path, capsys):
    source = tmp_path / "aime.json"
    source.write_text('[{"problem": "P", "answer": 1}, {"problem": "Q"}]')
    rows = convert(source, out=tmp_path / "out.jsonl", skip_bad=True, instruction="", split="test", data_source="aime")
    assert rows[0]["prompt"][0]["content"] == "P" and rows[0]["data_source"] == "aime"
    assert rows[0]["extra_info"] == {"index": 0, "split": "test"}
    printed = capsys.readouterr()
    assert f"warning: {source}, row 2: answer" in printed.err and "1 skipped" in printed.out


def test_a_row_that_cannot_be_read_is_skipped_like_any_other(tmp_path, capsys):
    torn, dates = tmp_path / "torn.jsonl", tmp_path / "dates.parquet"
    torn.write_text('{"problem": "P", "answer": 1}\n{"problem": "Q", "ans\n{"problem": "R", "answer": 3}\n')
    days = pa.array([1, 2**60, 3], pa.timestamp("ms"))  # the second one is beyond Python's years
    pq.write_table(pa.table({"problem": ["S", "T", "U"], "answer": ["4", "5", "6"], "day": days}), dates)
    rows = convert(torn, dates, out=tmp_path / "out.json", skip_bad=True, instruction="")
    assert [row["prompt"][0]["content"] for row in rows] == ["P", "R", "S", "U"]
    printed = capsys.readouterr()
    assert f"warning: {torn}, line 2: not JSON" in printed.err and f"{dates}, row 2: day: holds" in printed.err
    assert "4 prompts from 6 rows (0 repeated, 2 skipped" in printed.out


@pytest.mark.parametrize(
    ("content", "out", "said"),
    [
        ('{"problem": "Q"}', "out.json", "no usable row is left"),
        ('{"problem": "Q", "answer": "1"}', "out.txt", "name it .json or .jsonl"),
        ("", "out.json", "holds no rows"),
        ('{"problem": "Q", "answer": "1"}', "in.jsonl/out.json", "choose another --out"),
    ],
)
def test_unusable_calls(tmp_path, capsys, content, out, said):
    (tmp_path / "in.jsonl").write_text(content)
    with pytest.raises(typer.Exit):
        convert(tmp_path / "in.jsonl", out=tmp_path / out, skip_bad=True)
    assert said in capsys.readouterr().err


def test_converted_again_is_the_same(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"problem": "P", "answer": "1", "id": "0"}')
    once = convert(tmp_path / "in.jsonl", out=tmp_path / "once.json", skip_bad=False)
    assert convert(tmp_path / "once.json", out=tmp_path / "twice.json", skip_bad=False) == once


def test_command_from_another_directory(tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"question": "P", "answer": "1"}))
    script = Path(__file__).parents[3] / "scripts/data/convert_dataset.py"
    done = subprocess.run(
        [sys.executable, str(script), "in.jsonl", "--out", "out.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(read_prompt_file(tmp_path / "out.json")) == 1
