"""Weights and settings of a model folder of unknown making: whole, or a fault that names the file."""

import json
import random
import struct

import pytest

import hostile
from recipes.archer.ending import UserError
from recipes.archer.settings.model_folder import COUNTS, context_length, model_settings
from recipes.archer.settings.weight_check import (
    INDEX,
    SINGLE,
    Fault,
    json_fault,
    tensor_file,
    tensor_file_fault,
    weight_faults,
)

HEADER = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def write(path, header, data=bytes(24)):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def test_a_whole_file_has_no_fault(tmp_path):
    path = write(tmp_path / SINGLE, HEADER)
    assert tensor_file_fault(path, {"w"}) is None
    assert tensor_file(path)[1] == {"w": [2, 3]}


@pytest.mark.parametrize(
    "header",
    [*hostile.JSON.values(), {"w": {}}, {"w": {"data_offsets": [0, 24]}}, {"w": {"shape": [2], "data_offsets": 24}}]
    + [{"w": {"shape": shape, "data_offsets": [0, 24]}} for shape in ("x", 3, ["x"], [-1], [True], None, [1e308])]
    + [{"w": {"shape": [2], "data_offsets": ends}} for ends in ([0, "x"], [0], [0, -1], [0, 10**400], [0, None], "ab")],
)
def test_a_header_that_is_none(tmp_path, header):
    if header not in (b"", hostile.JSON["lone surrogates"]):
        assert "header" in str(tensor_file_fault(write(tmp_path / SINGLE, header), set()))


def test_headers_fuzz(tmp_path):
    """Seeded: parts of another type, and bytes changed."""
    dice = random.Random(15)
    for seed in range(300):
        header = (
            json.dumps(hostile.spoilt(HEADER, seed)).encode() if seed % 2 else bytearray(json.dumps(HEADER), "ascii")
        )
        if seed % 2 == 0:
            header[dice.randrange(len(header))] = dice.randrange(256)
        fault = tensor_file_fault(write(tmp_path / SINGLE, bytes(header)), {"w"})
        assert fault is None or isinstance(fault, Fault)


@pytest.mark.parametrize("weight_map", [None, [], "x", {"w": 5}, {"w": ["a"]}, {"w": "../a"}, {"w": "/etc/passwd"}, {}])
def test_an_index_that_is_none(tmp_path, weight_map):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (fault,) = weight_faults(tmp_path)
    assert fault.file == INDEX


@pytest.mark.parametrize("kind", hostile.JSON)
def test_settings_that_are_none(tmp_path, kind):
    (tmp_path / "config.json").write_bytes(hostile.JSON[kind])
    fault = json_fault(tmp_path / "config.json", dict)
    whole = kind in ("5,000 digits", "10 to the 400", "lone surrogates")
    assert (fault is None) == whole and (whole or fault.file == "config.json")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["8", 0, -1, 1.5, True, [8], 10**400])
def test_a_text_where_a_number_is_expected_is_named(tmp_path, name, value):
    (tmp_path / "config.json").write_text(json.dumps({name: value}))
    (tmp_path / "tokenizer.json").write_text("{}")
    write(tmp_path / SINGLE, HEADER)
    with pytest.raises(UserError, match=f"config.json: {name} must be a whole number"):
        model_settings(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_position_embeddings": "4096"},
        {"max_position_embeddings": 0},
        {"rope_scaling": "yarn"},
        {"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": [1]}},
        {"max_position_embeddings": 10, "rope_scaling": {"type": "linear", "factor": "2"}},
        {"max_position_embeddings": 10, "rope_scaling": {"type": "linear", "factor": float("nan")}},
    ],
)
def test_lengths_that_are_none(settings):
    with pytest.raises(UserError, match="config.json must be"):
        context_length(settings)


def test_a_length_without_end():
    scaling = {"type": "linear", "factor": float("inf")}
    assert context_length({"max_position_embeddings": 10, "rope_scaling": scaling}) == float("inf")
