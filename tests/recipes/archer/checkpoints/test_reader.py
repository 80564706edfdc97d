"""torch's distributed checkpoint is read as data: the same bits as torch reads, and nothing is executed."""

import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import forging
from recipes.archer.checkpoints.reader import DataReader

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]


@pytest.fixture
def folder(tmp_path):
    return forging.save(tmp_path / "saved")


def _load(folder, reader=DataReader) -> dict:
    found = forging.empty()
    dcp.load(found, storage_reader=reader(folder), no_dist=True)
    return found


def _flat(tree) -> list:
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in _flat(tree[key])]
    if isinstance(tree, list):
        return [leaf for item in tree for leaf in _flat(item)]
    return [(tree.dtype, tree.tolist())] if isinstance(tree, torch.Tensor) else [tree]


def test_it_reads_what_torch_reads(folder):
    found = _flat(_load(folder))
    assert found == _flat(forging.state()) == _flat(_load(folder, dcp.FileSystemReader))
    assert found != _flat(forging.empty())


def _refusal(folder) -> str:
    with pytest.raises(CheckpointException) as caught:
        _load(folder)
    (cause, _), *_ = caught.value.failures.values()
    assert type(cause) is ValueError, cause
    assert "\n" not in str(cause) and str(cause).isprintable()
    return str(cause)


CONTENTS = {
    "a pickle": (lambda ran: pickle.dumps(ran), "an archive of torch's"),
    "an archive with a pickle that runs": (lambda ran: forging.archive(ran), "cannot be read as a tensor or a plain"),
    "an old file of torch's": (lambda ran: forging.legacy(torch.ones(3, 4)), "an archive of torch's"),
    "an old file that runs": (lambda ran: forging.legacy(ran), "an archive of torch's"),
    "a program": (lambda ran: forging.script(), "an archive with code"),
    "more than it has": (lambda ran: forging.compressed(), "a compressed archive"),
    "a torn archive": (lambda ran: forging.archive(torch.ones(3, 4))[:-30], "cannot be read as a tensor or a plain"),
    "nothing": (lambda ran: b"", "an archive of torch's"),
}


@pytest.mark.parametrize("place", ["model.w", "optimizer.param_groups.0.lr"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_what_runs_is_refused_in_place_of_a_tensor_and_of_a_value(folder, tmp_path, kind, place):
    make, said = CONTENTS[kind]
    forging.forge(folder, place, make(forging.Running(tmp_path / "ran")))
    assert said in _refusal(folder)
    assert not (tmp_path / "ran").exists()


def test_torchs_own_reader_would_have_run_it(folder, tmp_path):
    """Or the tests above would show nothing."""
    forging.forge(folder, "optimizer.param_groups.0.lr", forging.archive(forging.Running(tmp_path / "ran")))
    _load(folder, dcp.FileSystemReader)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model.w", 3.0),
        ("model.w", torch.nn.Parameter(torch.ones(3, 4))),
        ("model.w", torch.ones(3, 4).to_sparse()),
        ("model.w", torch.ones(3, 4, device="meta")),
        ("optimizer.param_groups.0.lr", torch.ones(1)),
        ("optimizer.param_groups.0.params", [{1, 2}]),
        ("optimizer.param_groups.0.params", [[[[[[[[[[]]]]]]]]]]),
    ],
)
def test_what_is_of_another_kind_is_refused(folder, place, value):
    forging.forge(folder, place, forging.archive(value))
    assert "something else where a" in _refusal(folder)


def test_a_value_is_bounded(folder, monkeypatch):
    monkeypatch.setattr("recipes.archer.checkpoints.reader.MOST_BYTES", 2000)
    forging.forge(folder, "optimizer.param_groups.0.params", forging.archive(["x" * 3000]))
    assert "a value of " in _refusal(folder)


def test_a_tensor_is_bounded_by_what_the_model_has(folder):
    forging.forge(folder, "model.w", forging.archive(torch.ones(1 << 18)))
    assert "more than a tensor where a tensor should be" in _refusal(folder)


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (3, 1), (3, 3)])
def test_a_tensor_of_another_size_does_not_fit(folder, shape):
    forging.forge(folder, "model.w", forging.archive(torch.ones(shape)))
    assert "another size than its metadata says" in _refusal(folder)


def test_a_link_is_not_followed(folder, tmp_path):
    (folder / forging.NAME).rename(tmp_path / "elsewhere")
    (folder / forging.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{forging.NAME} is a link"):
        DataReader(folder)
