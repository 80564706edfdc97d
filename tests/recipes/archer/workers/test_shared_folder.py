"""Several machines, one folder or not, and what a save must have brought."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp

from recipes.archer.ending import UserError
from recipes.archer.workers import shared_folder as module
from recipes.archer.workers.shared_folder import machines_of, missing_after_save


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(module, "SEEN_S", 0.2)
    monkeypatch.setattr(module, "_appears", lambda file, seconds=0.0: file.is_file())


def _machines(folder: Path, second, nnodes: int = 2) -> list[str]:
    """Of two workers, the second of which does ``second(folder of marks)``."""

    def leave_mark(path):
        (Path(path) / "rank_0").touch()
        return [("node-a", None), ("node-b", second(Path(path)))]

    trainer = SimpleNamespace(nnodes=nnodes, default_local_dir=str(folder))
    return machines_of(SimpleNamespace(leave_mark=leave_mark), trainer)


def test_one_folder_for_all(tmp_path):
    assert _machines(tmp_path, lambda marks: (marks / "rank_1").touch()) == ["node-a", "node-b"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [None, "[Errno 2] No such file or directory"])
def test_a_machine_with_a_folder_of_its_own_is_named(tmp_path, problem):
    with pytest.raises(UserError, match="worker rank 1 on node-b does not write into it") as caught:
        _machines(tmp_path, lambda marks: problem)
    assert "trainer.default_local_dir=" in str(caught.value) and (problem or "do not appear") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_on_one_machine_nobody_is_asked(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert machines_of(None, SimpleNamespace(nnodes=1)) == []


def test_one_machine_of_a_cluster_may_be_another_than_the_drivers(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match="worker rank 1 on node-b does not write into it"):
        _machines(tmp_path, lambda marks: None, nnodes=1)


@pytest.fixture
def saved(tmp_path) -> Path:
    """What two workers have written; the file of the second as its metadata names it."""
    dcp.save({"model": {"a": torch.ones(3), "b": torch.ones(2)}}, checkpoint_id=tmp_path)
    metadata = pickle.loads((tmp_path / ".metadata").read_bytes())
    index = next(index for index in metadata.storage_data if index.fqn == "model.b")
    metadata.storage_data[index].relative_path = "__1_0.distcp"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    for name in ("__1_0.distcp", *(f"host_{rank}.{kind}" for rank in (0, 1) for kind in ("json", "safetensors"))):
        (tmp_path / name).touch()
    return tmp_path


def test_a_save_that_is_all_there(saved):
    assert missing_after_save(saved, 2, ["node-a", "node-b"]) is None
    assert missing_after_save(saved, 2, []) is None


@pytest.mark.parametrize(
    ("name", "rank"), [("__1_0.distcp", 1), ("host_1.json", 1), ("host_0.safetensors", 0), (".metadata", 0)]
)
def test_a_file_that_is_elsewhere_is_named_with_its_machine(saved, name, rank):
    (saved / name).unlink()
    machines = ["node-a", "node-b"]
    said = missing_after_save(saved, 2, machines)
    assert said.startswith(f"{name}, which worker rank {rank} on {machines[rank]} has written, is not in {saved}; all ")
    assert missing_after_save(saved, 2, []) == f"{name}, which worker rank {rank} has written, is not in {saved}"
