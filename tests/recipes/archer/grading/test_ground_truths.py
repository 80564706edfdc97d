"""The data sets' own formats, the check of a data file, and the table of the documentation."""

import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.archer.grading import ground_truths
from recipes.archer.grading.answers import GroundTruthError, accepted_forms, ground_truth_of
from recipes.archer.grading.grader import GradingPool
from recipes.archer.grading.ground_truths import check_file, check_ground_truths

DATA = Path(__file__).with_name("data")
DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "grading.md"
SETS = {
    "archer.jsonl": ["820", "3/11", "(x-2)(x+5)", r"6\pi", "108", "001"],
    "dapo_math_17k.jsonl": ["24", "-2", "7.0"],
    "aime2024.jsonl": ["150", "73", "204"],
    "aime2025.jsonl": ["46", "066", "8"],
    "math500.jsonl": [
        r"(5,\pi/2)", "Evelyn", "60000", "[-2,2]", "2212_{5}", "4i+3", r"\{3,-2\}",
        r"\begin{bmatrix}1\\2\end{bmatrix}", "C", "10.8", "111111.1", r"\sqrt{117}",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    with GradingPool(2) as pool:
        yield pool


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_graded_as_its_files_have_it(pool, name):
    rows, answers = rows_of(name), SETS[name]
    truths = [ground_truth_of(row)[1] for row in rows]
    sources = [row.get("data_source", name) for row in rows]
    assert all(accepted_forms(truth) for truth in truths)
    asks_for_a_line = name.startswith("dapo")
    assert all(("Answer: $Answer" in row["prompt"][0]["content"]) for row in rows if asks_for_a_line)

    def outcomes(answers: list[str]) -> list[str]:
        write = "Some steps.\nAnswer: {}".format if asks_for_a_line else r"Some steps. \boxed{{{}}}".format
        answer_format = "any" if asks_for_a_line else "boxed"
        responses = [write(answer) for answer in answers]
        grades = pool.submit(responses, truths, data_sources=sources, answer_format=answer_format).result()
        return [grade.outcome for grade in grades]

    assert outcomes(answers) == ["correct"] * len(rows)
    assert outcomes(["12345"] * len(rows)) == ["wrong"] * len(rows)


@pytest.mark.parametrize("name", SETS)
def test_the_ground_truths_of_a_set_pass_the_check(pool, name, tmp_path):
    check_file(DATA / name, pool=pool, cache_dir=tmp_path)


READABLE = r"""
77^\circ\text{F} | 77^{\circ}\mathrm{F} | 25^\circ\text{C} | 5:30\text{ p.m.} | 11:00\text{ a.m.} | 5\text{ p.m.}
5\text{ quarters} | 5\text{ halves} | 3\text{ fifths} | 3\text{ l} | 6\text{ d} | 5\text{ B} | 5\text{ MB}
1\text{st} | 3\text{ times as many} | 2.5\text{ times} | 8\text{th grade} | 8th grade | 6\text{ fifth graders}
4\text{ odd numbers} | 20\%\text{ off} | 20\text{ percent off} | 40\text{ percent increase}
5\text{ percentage points} | 50\text{ cents less} | 12\text{ degrees below zero} | 12^\circ\text{ below zero}
100\text{ meters below sea level} | 5\text{ minutes too late} | 4\text{ prime numbers} | 3\text{ more}
6\text{ fewer apples} | 5\text{ years older than Ann} | 2\text{ double rooms} | 4\text{ wins without loss}
5\text{ ft. }3\text{ in.} | 5\text{ sq. ft.} | 6\text{ oz.} | 6\text{ days a week} | 15\mbox{ cm}^2
10\text{ square units} | \$18.90 | 18.90\text{ dollars per hour} | 3\text{ units to the left} | 0.5\text{ mol/L}
20{,}000\ \mathrm{K} | 1.6e-19 | 9.8\mathrm{~m}/\mathrm{s}^2 | 5\text{ km/h faster} | 6\text{ (hours)}
"""
AMBIGUOUS = r"""
5\text{ plus something} | 5\text{ mil} | 1\text{ third} | 3\text{ tenths of a mile} | 3\text{ quarter miles}
5\text{ is wrong} | 7\text{ not counting Ann} | 5\text{ if even} | 5\text{ divided by }x | 12\text{ inches by }4
5\text{ apples squared}
"""


def test_words_after_the_number_of_a_ground_truth_make_it_unreadable_only_where_they_make_another_of_it(pool, tmp_path):
    path = tmp_path / "train.json"
    truths = [truth.strip() for truth in re.split(r"[|\n]", READABLE.strip())]
    path.write_text(json.dumps([{"ground_truth": truth} for truth in truths]))
    check_file(path, pool=pool, cache_dir=tmp_path)
    unclear = [truth.strip() for truth in re.split(r"[|\n]", AMBIGUOUS.strip())]
    readable = [truth for truth, why in zip(unclear, pool.unreadable(unclear), strict=True) if why is None]
    assert readable == []


def test_what_was_found_by_the_rules_of_an_earlier_version_counts_for_nothing(pool, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"ground_truth": r"77^\circ\text{F}"}]))
    check_file(path, pool=pool, cache_dir=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    version = int(kept.name.split("-")[1].removeprefix("v"))
    assert version >= 4  # 3 refused this one
    kept.with_name(kept.name.replace(f"-v{version}-", "-v3-")).write_text('{"row 1": "refused"}')
    check_file(path, pool=pool, cache_dir=tmp_path / "cache")


BAD_ROWS = [
    {"reward_model": {"ground_truth": "1/2"}},
    {"reward_model": {"ground_truth": r"\frac{1}{"}},
    {"reward_model": {"ground_truth": None}},
    {"ground_truth": "9^{9^{9^{9}}}"},
    {"prompt": "no truth here"},
]


def test_rows_without_a_usable_ground_truth_are_named(pool):
    with pytest.raises(GroundTruthError) as error:
        check_ground_truths(BAD_ROWS, source="train", pool=pool)
    message = str(error.value)
    assert message.startswith("train: row 2 (reward_model.ground_truth: ")
    assert "row 3" in message and "row 4 (ground_truth: " in message and "tower" in message
    assert "row 5 (no reward_model.ground_truth" in message and "row 1 " not in message
    assert message.endswith("correct or drop these rows") and "\n" not in message


def test_rows_for_a_reward_function_of_ones_own_may_have_any_ground_truth(pool, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"data_source": "code", "ground_truth": {"tests": []}}]))
    with GradingPool(1, data_sources={"code": "builtins:len"}) as mapped:
        check_file(path, pool=mapped, cache_dir=tmp_path)
    with pytest.raises(GroundTruthError):
        check_file(path, pool=pool, cache_dir=tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_a_file_of_each_kind_is_checked_once_for_its_content(pool, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"train{suffix}"
    rows = [{"reward_model": {"ground_truth": truth}} for truth in ("1/2", r"\frac{1}{")]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    cache = tmp_path / "cache"
    place = "line 2" if suffix == ".jsonl" else "row 2"  # as everywhere else that a data file is complained of
    with pytest.raises(GroundTruthError, match=f"train{suffix}: {place} "):
        check_file(path, pool=pool, cache_dir=cache)
    monkeypatch.setattr(ground_truths, "unreadable_rows", lambda *_: pytest.fail("checked again"))
    copy = shutil.copy(path, tmp_path / f"copy{suffix}")
    with pytest.raises(GroundTruthError, match=f"copy{suffix}: {place} "):
        check_file(copy, pool=pool, cache_dir=cache)


def test_a_file_that_is_not_data_is_named(pool, tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text("not json\n")
    with pytest.raises(GroundTruthError, match="notes.jsonl, line 1: not JSON"):
        check_file(path, pool=pool, cache_dir=tmp_path)
    path.write_text("[1]")
    with pytest.raises(GroundTruthError, match="row 1: not an object"):
        check_file(path, pool=pool, cache_dir=tmp_path)


def test_what_the_prompt_files_reader_takes_passes_here_too(pool, tmp_path):
    """A byte order mark, an empty line, and a line separator inside a text."""
    path = tmp_path / "train.jsonl"
    row = {"reward_model": {"ground_truth": "1/2"}, "prompt": "one\u2028two"}
    path.write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\n\n" + json.dumps(row) + "\n", "utf-8")
    check_file(path, pool=pool, cache_dir=tmp_path)


def test_the_table_in_the_documentation_is_what_the_grader_says(pool):
    cells = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (\w+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(cells) > 70
    grades = pool.grade_batch([rf"\boxed{{{answer}}}" for _, answer, _ in cells], [truth for truth, _, _ in cells])
    assert [grade.outcome for grade in grades] == [verdict for _, _, verdict in cells]


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"row 1": 5}', b"[" * 100_000, b"\xff", None])
def test_a_torn_result_of_an_earlier_check_is_as_good_as_none(tmp_path, monkeypatch, torn):
    checked = []
    monkeypatch.setattr(ground_truths, "unreadable_rows", lambda rows, _: checked.append(1) or {})
    monkeypatch.setattr(ground_truths, "_pool_or_own", lambda _: nullcontext())
    path, cache = tmp_path / "a.json", tmp_path / "cache"
    path.write_text("[]")
    check_file(path, cache_dir=cache)
    (kept,) = cache.iterdir()
    kept.unlink()
    os.mkfifo(kept) if torn is None else kept.write_bytes(torn)
    check_file(path, cache_dir=cache)
    assert checked == [1, 1]
