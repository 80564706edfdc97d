"""How much room a checkpoint takes, and whether it is there."""

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from recipes.archer.checkpoints.disk_space import first_size, readable, shortage

Usage = namedtuple("Usage", "total used free")


def test_the_first_size_is_counted_in_parameters_whatever_the_file_holds(tmp_path):
    """A checkpoint keeps every parameter and two moments of it in fp32, the model's file may be bf16."""
    save_file({"a": np.zeros((30, 10), np.float16), "b": np.zeros(7, np.float16)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((2, 2), np.float32)}, tmp_path / "model-2.safetensors", metadata={"format": "pt"})
    assert first_size(tmp_path) == (300 + 7 + 4) * 4 * 3
    assert first_size(tmp_path, bytes_each=2, copies=1) == 311 * 2


@pytest.mark.parametrize(("config", "counted"), [('{"tie_word_embeddings": true}', 12), ("{}", 24), ("torn", 24)])
def test_a_tied_head_counts_once_whatever_the_file_holds(tmp_path, config, counted):
    tensors = {"model.embed_tokens.weight": np.zeros((4, 3)), "lm_head.weight": np.zeros((4, 3))}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    assert first_size(tmp_path, bytes_each=1, copies=1) == counted


def test_weights_of_the_older_kind_and_files_that_are_none(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert first_size(tmp_path) == 0
    (tmp_path / "model.safetensors").write_bytes(b"no such header, only text")
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(200))
    assert first_size(tmp_path) == 100 * 4 * 3


@pytest.mark.parametrize(
    "header",
    [b'{"a": {}}', b'{"a": 1}', b"[]", b'{"a": {"shape": 3}}', b'{"a": {"shape": ["x"]}}', b"[" * 99_999, b"\xff"],
)
def test_a_header_of_another_kind_counts_nothing(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert first_size(tmp_path) == 0


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    assert first_size(tmp_path) == 0


def test_room_with_a_margin(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 1100))
    assert shortage(tmp_path, 1000) is None
    assert shortage(tmp_path, 1001) == f"it needs 1.1 KiB, {tmp_path} has 1.1 KiB free"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (7 * 2**30, "7.0 GiB"), (2**52, "4096.0 TiB")]
)
def test_sizes_as_people_read_them(size, text):
    assert readable(size) == text
