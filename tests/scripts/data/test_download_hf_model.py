"""Downloading: what is there is kept, what broke off is continued, what is damaged is named and fetched again."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from recipes.archer.settings.weight_check import INDEX, folder_faults

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts/data/download_hf_model.py"
TOKEN = "hf_" + "s3cr3t" * 5
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

_spec = importlib.util.spec_from_file_location("fake_hub", Path(__file__).with_name("fake_hub.py"))
fake_hub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_hub)


def sharded_model() -> dict[str, bytes]:
    """A whole repository: two shards and an index, and a file in another format that nobody needs."""
    tensors = {shard: {f"layer.{n}": np.full(500, n, np.float32)} for n, shard in enumerate(SHARDS)}
    weight_map = {name: shard for shard, held in tensors.items() for name in held}
    return {
        "config.json": b'{"model_type": "qwen3"}',
        "tokenizer.json": b"{}",
        INDEX: json.dumps({"weight_map": weight_map}).encode(),
        **{shard: save(held) for shard, held in tensors.items()},
        "pytorch_model.bin": b"not wanted",
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if name != "pytorch_model.bin":
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def hub():
    with fake_hub.FakeHub(sharded_model()).running() as running:
        yield running


def download(url: str, folder: Path, *more: str, repo: str = "owner/tiny") -> subprocess.CompletedProcess:
    """The command in a process of its own: the hub's client reads its environment on import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder.parent / "home")}
    command = [sys.executable, str(SCRIPT), repo, "--out", str(folder), *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=folder.parent)


def test_download_then_nothing_to_do_then_repair(hub, tmp_path):
    folder = tmp_path / "model"
    done = download(hub.url, folder)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir() if path.is_file()} == hub.files.keys() - {"pytorch_model.bin"}
    assert sorted(hub.fetched()) == sorted(hub.files.keys() - {"pytorch_model.bin"})

    hub.log.clear()
    again = download(hub.url, folder)
    assert again.returncode == 0 and "whole, nothing to fetch" in again.stdout and hub.log == []

    shard = folder / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-7])
    repaired = download(hub.url, folder)
    assert repaired.returncode == 0, repaired.stderr
    assert f"{shard} has {len(hub.files[SHARDS[1]]) - 7} bytes, its header says" in repaired.stderr
    assert hub.fetched() == [SHARDS[1]] and shard.read_bytes() == hub.files[SHARDS[1]]
    assert all(TOKEN not in text for run in (done, again, repaired) for text in (run.stdout, run.stderr))


def test_what_broke_off_is_continued(hub, tmp_path):
    """A connection that breaks is taken up where it stopped, by the client or by the next command."""
    hub.files[SHARDS[0]] = save({"layer.0": np.zeros(6_000_000, np.float32)})  # the client keeps pieces of 10 MiB
    hub.cut = {SHARDS[0]}
    folder = tmp_path / "model"
    if download(hub.url, folder).returncode != 0:
        assert download(hub.url, folder).returncode == 0
    assert ("GET", SHARDS[0], f"bytes={10 * 2**20}-") in hub.log
    assert folder_faults(folder) == []


def test_revision_asks_the_hub_but_fetches_nothing_twice(hub, tmp_path):
    folder = tmp_path / "model"
    assert download(hub.url, folder).returncode == 0
    hub.log.clear()
    assert download(hub.url, folder, "--revision", "main").returncode == 0
    assert any("/revision/main" in path for _, path, _ in hub.log) and hub.fetched() == []


@pytest.mark.parametrize(
    ("status", "repo", "said"),
    [
        (401, "owner/tiny", "no such model, or no access to it; check the name and HF_TOKEN"),
        (503, "owner/tiny", "the hub answered 503; run the same command again"),
        (200, "not/a/name", "not a model's name; write it as owner/name"),
    ],
)
def test_refusals_are_one_line_with_a_remedy(hub, tmp_path, status, repo, said):
    hub.status = status
    done = download(hub.url, tmp_path / "model", repo=repo)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {repo}: {said}") and done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr


def test_no_hub_and_half_a_folder(tmp_path):
    """Half a folder must not pass for a model because nobody answers."""
    folder = write(tmp_path / "model", {"config.json": b"{}"})
    done = download("http://127.0.0.1:9", folder)
    assert done.returncode == 1
    assert "cannot reach http://127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1


def test_repository_without_safetensors(hub, tmp_path):
    for shard in (*SHARDS, INDEX):
        del hub.files[shard]
    done = download(hub.url, tmp_path / "model")
    assert done.returncode == 1 and "model.safetensors: is missing" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "config.json: is missing"),
        ("config.json", b"{", "config.json: is not JSON"),
        ("config.json", b"[]", "config.json: is not a JSON object"),
        ("tokenizer.json", None, "tokenizer.json: is missing"),
        ("tokenizer.json", b'{"a": "\xff"}', "tokenizer.json: is not UTF-8 text"),
        (INDEX, b"[", f"{INDEX}: is not JSON"),
        (INDEX, b"[]", f"{INDEX}: is not a JSON object"),
        (INDEX, b'{"weight_map": {}}', f"{INDEX}: has no weight_map"),
        (INDEX, None, "model.safetensors: is missing"),
        (SHARDS[0], None, f"{SHARDS[0]}: is missing"),
        (SHARDS[0], b"", f"{SHARDS[0]}: is cut short"),
        (SHARDS[0], b"version https://git-lfs\n", f"{SHARDS[0]}: is cut short or is no safetensors file"),
        (SHARDS[0], b"\x02" + b"\0" * 7 + b"[]", f"{SHARDS[0]}: has a damaged header"),
        (SHARDS[0], save({"other": np.zeros(3)}), f"{SHARDS[0]}: lacks 1 tensors of the index"),
    ],
)
def test_damage_is_named(tmp_path, file, content, said):
    files = sharded_model() | ({file: content} if content is not None else {})
    folder = write(tmp_path / "model", files)
    if content is None:
        (folder / file).unlink()
    assert [str(fault)[: len(said)] for fault in folder_faults(folder)] == [said]


def test_single_file_model(tmp_path):
    folder = write(tmp_path / "model", {"config.json": b"{}", "vocab.json": b"{}"})
    weights = save({"w": np.ones(100, np.float32)})
    (folder / "model.safetensors").write_bytes(weights)
    assert folder_faults(folder) == []
    (folder / "model.safetensors").write_bytes(weights + b"x")
    assert [str(fault) for fault in folder_faults(folder)] == [
        f"model.safetensors: has {len(weights) + 1} bytes, its header says {len(weights)}"
    ]


def test_setup_script_dry_run(tmp_path):
    environment = os.environ | {"DRY_RUN": "1", "MODEL_DIR": str(tmp_path / "a 'b'")}
    script = ROOT / "scripts/train/setup_qwen3_0.6b.sh"
    done = subprocess.run(
        ["bash", str(script), "--revision", "main"], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    command = yaml.safe_load(done.stdout)["command"]
    assert command[1:] == [str(SCRIPT), "Qwen/Qwen3-0.6B-Base", "--out", f"{tmp_path}/a 'b'", "--revision", "main"]
    assert list(tmp_path.iterdir()) == []
