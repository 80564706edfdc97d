"""JSON that may be anyone's: a value or a word, and never anything else."""

import json
import math
import random
import time

import pytest

import hostile
from recipes.archer.reading.json import DEPTH, parse_json, read_json
from recipes.archer.reading.regular import DamagedError, UnreadableError


@pytest.mark.parametrize("kind", hostile.JSON)
def test_what_is_no_object_is_named_in_one_line(tmp_path, kind):
    path = tmp_path / "a.json"
    path.write_bytes(hostile.JSON[kind])
    try:
        value = read_json(path)
    except DamagedError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert isinstance(value, dict)


def test_a_fault_has_its_place():
    with pytest.raises(DamagedError, match="line 3 column 6") as caught:
        parse_json('{"a": 1,\n"b": 2,\n"c": }', "f")
    assert caught.value.line == 3
    with pytest.raises(DamagedError, match=r"f: not JSON \(.*, column 2\)"):
        parse_json("{", "f")
    with pytest.raises(DamagedError, match="at byte 1"):
        parse_json(b"{\xff", "f")


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_nesting_is_bounded_also_where_python_would_still_read_it():
    assert parse_json(nested(DEPTH), "f") == json.loads(nested(DEPTH))
    for levels in (DEPTH + 1, 500, 100_000):
        with pytest.raises(DamagedError, match="nested too deep") as caught:
            parse_json(nested(levels), "f")
        assert caught.value.too_deep


def test_numbers_beyond_all_floats_are_infinite():
    text = f'{{"a": [{"9" * 5000}, -{"9" * 400}, 1e999], "b": {10**308}, "c": NaN}}'
    value = parse_json(text, "f")
    assert value["a"] == [math.inf, -math.inf, math.inf] and value["b"] == 10**308 and math.isnan(value["c"])
    assert parse_json("9" * 5000, "f") == math.inf


def test_a_mark_of_byte_order_is_no_hindrance():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "f") == {"a": 1}


def test_another_kind_and_a_file_that_is_not_there_are_told(tmp_path):
    (tmp_path / "a").write_text("[1]")
    assert read_json(tmp_path / "a", list) == [1] == read_json(tmp_path / "a", object)
    with pytest.raises(DamagedError, match="not a JSON object"):
        read_json(tmp_path / "a")
    with pytest.raises(UnreadableError) as caught:
        read_json(tmp_path / "b")
    assert caught.value.absent


def test_fuzz():
    """Seeded: whole texts with bytes changed, dropped, doubled; time is bounded by what one text takes."""
    dice = random.Random(15)
    whole = json.dumps({"step": 1, "a": [1, 2.5, None, {"é": "\ud800"}], "b": {"c": "x" * 20}, "d": -1e-7}).encode()
    start = time.monotonic()
    for _ in range(4000):
        text = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            place = dice.randrange(len(text))
            part = dice.choice([b"", b"[", b"{", b'"', b"\\", b"9" * 30, b"\xff", b"\0", b"NaN", b"e9", text[:place]])
            text[place : place + dice.randint(0, 3)] = part
        try:
            parse_json(bytes(text), "f")
        except DamagedError as error:
            assert str(error).startswith("f: ")
    assert time.monotonic() - start < 30
