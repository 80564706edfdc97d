"""Prompt files: every kind is read, every fault is named with file, row and field."""

import json
import re
import struct
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.archer.prompts.file import (
    PARQUET_BATCH,
    RESERVED_SOURCES,
    PromptFileError,
    prompt_row,
    read_prompt_file,
    row_fault,
    write_prompt_file,
)

ROWS = [prompt_row("set", f"What is {n}+1?", str(n + 1), index=n, split="train") for n in range(3)]


def changed(path: str, value: object) -> dict:
    """A good row with one value replaced, or removed when `value` is Ellipsis; `path` is dotted."""
    row = json.loads(json.dumps(ROWS[0]))
    *parents, last = path.split(".")
    target = row
    for name in parents:
        target = target[int(name)] if name.isdigit() else target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return row


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_what_is_written_is_read_back(tmp_path, name):
    write_prompt_file(tmp_path / "deep" / name, ROWS)
    assert read_prompt_file(tmp_path / "deep" / name) == ROWS
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]  # no scratch file stays


@pytest.mark.parametrize(("name", "written_as"), [("a.json", "a.jsonl"), ("a.jsonl", "a.json")])
def test_array_and_lines_are_accepted_under_both_suffixes(tmp_path, name, written_as):
    write_prompt_file(tmp_path / written_as, ROWS)
    (tmp_path / written_as).rename(tmp_path / name)
    assert read_prompt_file(tmp_path / name) == ROWS


def test_parquet(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read_prompt_file(tmp_path / "a.parquet") == ROWS


def test_line_separator_inside_a_string_and_byte_order_mark(tmp_path):
    row = prompt_row("set", "one\u2028two", "2", index=0, split="train")
    text = "\ufeff" + json.dumps(row, ensure_ascii=False) + "\n\n" + json.dumps(row) + "\r\n"
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    assert read_prompt_file(str(tmp_path / "a.jsonl")) == [row, row]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.json", None, "no such file"),
        ("empty.json", b"", "holds no rows"),
        ("blank.jsonl", b"\n \n", "holds no rows"),
        ("none.json", b"[]", "holds no rows"),
        ("kind.csv", b"a,b", "unknown kind of file"),
        ("cut.json", b'[{"a": 1},\n{"b": ', "line 2: not JSON"),
        ("cut.jsonl", json.dumps(ROWS[0]).encode() + b"\n{oops}\n", "line 2: not JSON"),
        ("deep.json", b"[" * 100_000, "nested too deep"),
        ("latin.json", b'["\xe9"]', "not UTF-8 text at byte 2"),
        ("scalar.json", b"[3]", "row 1: is a number, must be an object"),
        ("torn.parquet", b"PAR1 and no more", "not a whole Parquet file"),
    ],
)
def test_file_faults(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PromptFileError) as caught:
        read_prompt_file(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_folder_is_named_as_one(tmp_path):
    with pytest.raises(PromptFileError, match="is a folder"):
        read_prompt_file(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("data_source", ..., "data_source: is missing"),
        ("data_source", 3, "data_source: is a number, must be text"),
        ("prompt", ..., "prompt: is missing"),
        ("prompt", "What?", "prompt: is text, must be a list"),
        ("prompt", [], "prompt: is a list without entries"),
        ("prompt", ["What?"], "prompt[0]: is text"),
        ("prompt.0.role", ..., "prompt[0].role: is missing"),
        ("prompt.0.content", ..., "prompt[0].content: is missing"),
        ("prompt.0.content", " ", "prompt[0].content: is empty"),
        ("prompt.0.content", True, "prompt[0].content: is a boolean"),
        ("prompt.0.content", None, "prompt[0].content: is missing"),
        ("prompt.0.content", [{"type": "text", "text": "1"}], "prompt[0].content: is a list, must be text"),
        ("prompt.0.content", {"text": "1"}, "prompt[0].content: is an object, must be text"),
        ("prompt.0.role", None, "prompt[0].role: is missing"),
        ("reward_model", None, "reward_model: is missing"),
        ("reward_model", [], "reward_model: is a list without entries, must be an object"),
        ("reward_model.ground_truth", ..., "reward_model.ground_truth: is missing"),
        ("reward_model.ground_truth", "", "reward_model.ground_truth: is empty"),
        ("reward_model.ground_truth", True, "reward_model.ground_truth: is a boolean"),
        ("reward_model.ground_truth", ["1", None], "reward_model.ground_truth[1]: is missing"),
        ("reward_model.ground_truth", float("nan"), "reward_model.ground_truth: is nan, must be a finite number"),
        ("data_source", "\ud800", "data_source: holds \\ud800, half of a surrogate pair, as character 1"),
        ("prompt.0.content", "a \udcff", "prompt[0].content: holds \\udcff, half of a surrogate pair, as character 3"),
        ("reward_model.ground_truth", ["1", "\ud800"], "reward_model.ground_truth[1]: holds \\ud800"),
        ("extra_info", "x", "extra_info: is text, must be an object"),
    ],
)
def test_row_faults_name_row_and_field(tmp_path, path, value, said):
    lines = [json.dumps(row) for row in (ROWS[0], changed(path, value))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(PromptFileError) as caught:
        read_prompt_file(tmp_path / "a.jsonl")
    assert f"a.jsonl, line 2: {said}" in str(caught.value)


@pytest.mark.parametrize(("sign", "said"), [("", "is inf"), ("-", "is -inf")])
def test_more_digits_than_python_converts(tmp_path, sign, said):
    line = json.dumps(changed("reward_model.ground_truth", 0)).replace(": 0}", f": {sign}{'9' * 4301}}}")
    (tmp_path / "a.json").write_text(f"[{json.dumps(ROWS[0])},\n{line}]")
    with pytest.raises(PromptFileError, match=f"a.json, row 2: reward_model.ground_truth: {said}, must be a finite"):
        read_prompt_file(tmp_path / "a.json")


@pytest.mark.parametrize("truth", ["12", 10**4000, 12, 0.5, 0, ["1/2", 0.5]])
def test_ground_truth_may_be_text_number_or_list(truth):
    assert row_fault(changed("reward_model.ground_truth", truth)) is None


@pytest.mark.parametrize("path", ["ability", "extra_info", "reward_model.style"])
def test_optional_fields(path):
    assert row_fault(changed(path, ...)) is None


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_prompt_file(path, ROWS)
    with pytest.raises(TypeError):
        write_prompt_file(path, [ROWS[0], {"bad": object()}])
    assert read_prompt_file(path) == ROWS
    assert list(tmp_path.iterdir()) == [path]


def test_import_is_light():
    """The reader runs before anything heavy is wanted: launchers fail in a moment on a bad file."""
    code = "import sys, recipes.archer.prompts.file; print(sorted({'torch', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"


def test_another_field_for_the_messages(tmp_path):
    row = ROWS[0] | {"chat": [{"role": "user"}]}
    write_prompt_file(tmp_path / "a.json", [row])
    for key, said in (
        ("chat", r"chat\[0\].content: is missing"),
        ("text", "text: is missing, which data.prompt_key names"),
    ):
        with pytest.raises(PromptFileError, match=f"a.json, row 1: {said}"):
            read_prompt_file(tmp_path / "a.json", key)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("low", "would be the metric val/accuracy/low"),
        ("high", "would be the metric val/accuracy/high"),
        ("a\nb", "no control characters"),
        ("a\x1b[31m", "no control characters"),
        (" math", "no blanks at its ends"),
        ("m" * 129, "has 129 characters"),
    ],
)
def test_a_data_source_that_breaks_a_key_is_refused(source, said):
    assert said in row_fault(prompt_row(source, "q", "1", index=0, split="test"))


@pytest.mark.parametrize("source", ["HuggingFaceH4/MATH-500", "lower", "数学 2024", "a:b c", "m" * 128])
def test_a_data_source_may_be_any_other_name(source):
    assert row_fault(prompt_row(source, "q", "1", index=0, split="test")) is None


def test_what_is_reserved_is_what_the_metrics_have():
    """A key of validation that another one is added to is reserved too."""
    from recipes.archer.metrics.row import VALIDATION_KEYS

    prefix = "val/accuracy/"
    assert {key.removeprefix(prefix) for key in VALIDATION_KEYS if key.startswith(prefix)} == {*RESERVED_SOURCES}


def _text(*parts: bytes) -> pa.Array:
    """Text that its writer did not check."""
    ends = [0, *accumulate(map(len, parts))]
    return pa.StringArray.from_buffers(
        len(parts), pa.py_buffer(struct.pack(f"<{len(ends)}i", *ends)), pa.py_buffer(b"".join(parts))
    )


def _nested(levels: int) -> pa.Array:
    kind, value = pa.int64(), 1
    for _ in range(levels):
        kind, value = pa.list_(kind), [value]
    return pa.array([[], value, []], kind)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (lambda: pa.array([1, 2**60, 3], pa.timestamp("ms")), r"timestamp\[ms\] that cannot be read"),
        (lambda: pa.array([1, -(2**62), 3], pa.timestamp("us")), r"timestamp\[us\] that cannot be read"),
        (lambda: pa.array([None, 2, 3], pa.timestamp("us", "Nowhere/Else")), "tz=Nowhere/Else"),
        (lambda: pa.array([1, 2**31 - 1, 3], pa.date32()), "date32"),
        (lambda: pa.array([1, 2**62, 3], pa.duration("s")), "duration"),
        (lambda: pa.array([1, 2**62, 3], pa.int64()).view(pa.time64("us")), "time64"),
        (lambda: _text(b"a", b"\xff", b"b"), "of type string that cannot be read"),
        (lambda: pa.array([None, {"a": [1, 2**60]}, None], pa.struct([("a", pa.list_(pa.timestamp("ms")))])), "struct"),
        (lambda: _nested(200), "nested too deep"),
        (lambda: _nested(1200), "cannot be read"),
    ],
)
def test_a_parquet_value_that_python_cannot_hold_is_named(tmp_path, values, said):
    path = tmp_path / "odd.parquet"
    table = pa.Table.from_pylist([*ROWS, *ROWS, *ROWS][:3]).append_column("when", values())
    is_deep = said in ("nested too deep", "cannot be read")
    pq.write_table(table, path, store_schema=not is_deep)  # with it arrow itself refuses the file
    where = "row 2: nested" if "nested" in said else "row 2: when: holds a value of type .*"
    with pytest.raises(PromptFileError, match=f"odd.parquet, {where}") as caught:
        read_prompt_file(path)
    assert re.search(said, str(caught.value)) and "\n" not in str(caught.value)


def test_the_row_is_counted_over_the_pieces_of_a_file(tmp_path):
    times = pa.array([1] * (PARQUET_BATCH + 6) + [2**60], pa.timestamp("ms"))
    pq.write_table(pa.Table.from_pylist(ROWS[:1] * len(times)).append_column("when", times), tmp_path / "a.parquet")
    with pytest.raises(PromptFileError, match=f"row {PARQUET_BATCH + 7}: when: "):
        read_prompt_file(tmp_path / "a.parquet")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.Table.from_pylist(ROWS[:1]).append_column("data_source", pa.array(["other"]))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PromptFileError, match="two columns 'data_source'"):
        read_prompt_file(tmp_path / "a.parquet")
