"""``.metadata``: what torch wrote is read as torch reads it; whatever else a pickle can say is refused, uncalled."""

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata

import forging
from recipes.archer.checkpoints.metadata import read_metadata
from recipes.archer.checkpoints.reader import tensor_files

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return forging.save(tmp_path_factory.mktemp("saved"))


def test_it_says_what_torch_reads_there(saved):
    found, expected = read_metadata(saved, tensor_files(saved)), pickle.loads((saved / ".metadata").read_bytes())
    assert found.state_dict_metadata == expected.state_dict_metadata and len(expected.state_dict_metadata) > 8
    assert found.storage_data == expected.storage_data
    assert found.planner_data == expected.planner_data


@pytest.mark.parametrize("protocol", [4, 5])
def test_by_whichever_protocol_python_writes_it(saved, tmp_path, protocol):
    (tmp_path / ".metadata").write_bytes(pickle.dumps(_metadata(saved), protocol))
    assert read_metadata(tmp_path, tensor_files(saved)).storage_data == _metadata(saved).storage_data


def _metadata(folder: Path) -> Metadata:
    return pickle.loads((folder / ".metadata").read_bytes())


def _refusal(folder: Path, sizes: dict, content: bytes) -> str:
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match=r"^\.metadata ") as caught:
        read_metadata(folder, sizes)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 200
    return str(caught.value)


class _Nested:
    """A call of the pickle's choice, with arguments of its choice."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "a function": lambda path: _Nested(os.mkdir, path),
    "the builtin": lambda path: _Nested(eval, f"__import__('os').mkdir({path!r})"),
    "an attribute of what is allowed": lambda path: _Nested(getattr, torch.Size, "__subclasses__"),
    "a module's function of torch": lambda path: _Nested(torch.load, path),
    "a name that only begins like one": lambda path: _Nested(torch.serialization.load, path),
}
PLACES = ("state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", [None, *PLACES])
@pytest.mark.parametrize("kind", CALLS)
def test_no_call_is_made(saved, tmp_path, kind, place, protocol):
    call = CALLS[kind](str(tmp_path / "ran"))
    value = call
    if place is not None:
        value = _metadata(saved)
        setattr(value, place, call)
    said = _refusal(tmp_path, tensor_files(saved), pickle.dumps(value, protocol))
    assert "which no checkpoint needs" in said or "which torch does not write" in said
    assert not (tmp_path / "ran").exists()


HEAD = b"\x80\x04"
PROGRAMS = {
    "empty": b"",
    "only an end": b".",
    "no end": HEAD + b"}",
    "nothing on the stack": HEAD + b".",
    "a call of a class that was never named": HEAD + b")R.",
    "a state for a class itself": HEAD + b"\x8c\x05torch\x8c\x04Size\x93}b.",
    "a class where an object should be": HEAD + b"\x8c\x05torch\x8c\x04Size\x93.",
    "a memo of gigabytes": HEAD + b"}r\xff\xff\xff\x7f.",
    "a buffer of gigabytes": HEAD + b"\x96\x00\x00\x00\x00\x10\x00\x00\x00.",
    "a text that is not there": HEAD + b"X\xff\xff\xff\x7fabc.",
    "a memo that is not there": HEAD + b"h\x09.",
    "a mark that is not there": HEAD + b"}u.",
    "a name in two parts that are no texts": HEAD + b"})\x93.",
    "a number of thousands of digits": b"I" + b"9" * 10_000 + b"\n.",
    "tuples in tuples as a key": HEAD + b"})" + b"\x85" * 200_000 + b"Ns.",
    "lists in lists": HEAD + b"]" * 200_000 + b"a" * 199_999 + b".",
    "a list in itself": HEAD + b"]\x94h\x00a.",
    "an extension": HEAD + b"\x82\x01.",
    "a persistent name": HEAD + b"}Q.",
    "an old kind of object": b"(cos\nsystem\nS'true'\no.",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_what_no_writer_writes_is_refused(tmp_path, kind):
    _refusal(tmp_path, {}, PROGRAMS[kind])


def _place(metadata: Metadata):
    return next(iter(metadata.storage_data.values()))


def _tensor(metadata: Metadata):
    return next(entry for entry in metadata.state_dict_metadata.values() if hasattr(entry, "chunks"))


CHANGES = {
    "a file above": lambda m: setattr(_place(m), "relative_path", "../__0_0.distcp"),
    "a file elsewhere": lambda m: setattr(_place(m), "relative_path", "/etc/passwd"),
    "a file that is none of tensors": lambda m: setattr(_place(m), "relative_path", "state.json"),
    "no file": lambda m: setattr(_place(m), "relative_path", None),
    "a place beyond its file": lambda m: setattr(_place(m), "offset", 1 << 40),
    "a place before its file": lambda m: setattr(_place(m), "offset", -1),
    "a length beyond its file": lambda m: setattr(_place(m), "length", 1 << 40),
    "a length that is a fraction": lambda m: setattr(_place(m), "length", True),
    "a transformation": lambda m: setattr(_place(m), "transform_descriptors", ["zstd"]),
    "no places": lambda m: setattr(m, "storage_data", None),
    "places by text": lambda m: setattr(m, "storage_data", {"a": _place(m)}),
    "entries in a list": lambda m: setattr(m, "state_dict_metadata", []),
    "an entry of text": lambda m: setattr(m, "state_dict_metadata", {"a": "b"}),
    "chunks of numbers": lambda m: setattr(_tensor(m), "chunks", [1, 2]),
    "chunks that are none": lambda m: setattr(_tensor(m), "chunks", None),
    "a size of text": lambda m: setattr(_tensor(m), "size", "3"),
    "a size of a list": lambda m: setattr(_tensor(m), "size", [3]),
    "a size of thousands of dimensions": lambda m: setattr(_tensor(m), "size", torch.Size([1] * 5000)),
    "a size below nothing": lambda m: setattr(_tensor(m), "size", torch.Size([-1])),
    "no properties": lambda m: setattr(_tensor(m), "properties", None),
    "a path of objects": lambda m: setattr(m, "planner_data", {"a": (_place(m),)}),
    "a path that is none": lambda m: setattr(m, "planner_data", {"a": "model"}),
    "the same chunks without end": lambda m: setattr(
        m, "state_dict_metadata", dict.fromkeys(map(str, range(3000)), _tensor(m)) | _many_chunks(_tensor(m))
    ),
}


def _many_chunks(tensor) -> dict:
    tensor.chunks = tensor.chunks * 3000
    return {}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_of_another_kind_is_refused(saved, tmp_path, change):
    metadata = _metadata(saved)
    CHANGES[change](metadata)
    _refusal(tmp_path, tensor_files(saved), pickle.dumps(metadata))


def test_no_change_of_bytes_does_more_than_be_refused(saved, tmp_path):
    """Torn, spliced and altered at random: read, or refused in a line; nothing else."""
    content, generator, refused = (saved / ".metadata").read_bytes(), random.Random(1), 0
    for _ in range(150):
        altered = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            altered[generator.randrange(len(altered))] = generator.randrange(256)
        if generator.random() < 0.3:
            del altered[generator.randrange(len(altered)) :]
        (tmp_path / ".metadata").write_bytes(altered)
        try:
            read_metadata(tmp_path, tensor_files(saved))
        except ValueError as error:
            assert str(error).startswith(".metadata ")
            refused += 1
    assert refused > 30


def test_it_is_bounded(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.archer.checkpoints.metadata.MOST_BYTES", 100)
    (tmp_path / ".metadata").write_bytes((saved / ".metadata").read_bytes())
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_metadata(tmp_path, tensor_files(saved))
