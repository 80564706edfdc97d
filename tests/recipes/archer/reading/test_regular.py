"""Regular files only, no more of them than a cap, and through no link that leaves a folder."""

import ast
import os
from pathlib import Path

import pytest

from recipes.archer.reading.regular import (
    LIMIT,
    DamagedError,
    UnreadableError,
    line_blocks,
    opened,
    read_bytes,
    read_text,
)
from recipes.archer.reading.toml import read_toml


def test_lines_come_without_their_ends_whatever_they_are_cut_into(tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.archer.reading.regular._BLOCK", 7)
    for content in (b"", b"a", b"a\n", b"ab\n\ncdefghijklmnop\nq", b"\n\n", b"x" * 50 + b"\n"):
        (tmp_path / "a").write_bytes(content)
        assert [line for block in line_blocks(tmp_path / "a") for line in block] == content.split(b"\n")


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT, "2")
    (tmp_path / "a").write_bytes(b"x" * (2 << 20) + b"\n")
    with pytest.raises(UnreadableError, match="more than"):
        list(line_blocks(tmp_path / "a"))
    monkeypatch.setenv(LIMIT, "3")
    assert [len(line) for block in line_blocks(tmp_path / "a") for line in block] == [2 << 20, 0]


def test_a_file_may_have_no_more_than_the_cap(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "a", 11) == b"x" * 11
    with pytest.raises(UnreadableError, match=rf"has 11 bytes, more than the 10 .*{LIMIT}"):
        read_bytes(tmp_path / "a", 10)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "nowhere", "loop", "absent", "nul", "long"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind in ("pipe", "socket"):
        os.mkfifo(path) if kind == "pipe" else os.mknod(path, 0o140600)
    elif kind in ("device", "nowhere", "loop"):
        path.symlink_to({"device": "/dev/zero", "nowhere": "b", "loop": "a"}[kind])
    path = {"nul": tmp_path / "a\0", "long": tmp_path / ("a" * 300)}.get(kind, path)
    with pytest.raises(UnreadableError) as caught:
        opened(path)
    assert caught.value.absent == (kind == "absent") and "\n" not in str(caught.value)


def test_no_link_leaves_the_folder(tmp_path):
    folder, beside = tmp_path / "run", tmp_path / "run_too"
    for made in (folder, beside):
        made.mkdir()
        (made / "a").write_text(made.name)
    (folder / "in").symlink_to("a")
    (folder / "out").symlink_to(beside / "a")
    (folder / "up").symlink_to("..")
    (tmp_path / "alias").symlink_to(folder)
    for inside in (folder, tmp_path / "alias"):
        for name in ("a", "in", "up/run/a"):
            assert read_text(inside / name, inside=inside) == "run"
        for name in ("out", "up/run_too/a"):
            with pytest.raises(UnreadableError, match="leaves"):
                read_text(inside / name, inside=inside)


def test_a_descriptor_is_given_back(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(UnreadableError):
            opened(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("content", [b"a = [" * 50_000, b"a = ", b"\xff", b"a = 9" + b"9" * 5000, b"a = 2026-13-45"])
def test_toml_that_is_none(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(DamagedError, match="a.toml: not "):
        read_toml(tmp_path / "a.toml")


ARCHER = Path(__file__).resolve().parents[4] / "recipes" / "archer"
# what reads something else than a file that may be a stranger's, or has a reason in its own words
OTHERS = {
    "grading/pool.py": "frames of our own processes",
    "grading/worker.py": "frames of our own processes",
    "evaluation/plan.py": "its own content, as JSON has it",
    "runs/metrics_reader.py": "blocks of lines that the reader gave it",
    "prompts/rendering.py": "what a process of our own replies",
    "session/environment_agent.py": "/proc",
    "session/forked_worker.py": "what Ray and processes of our own say",
    "session/reaper.py": "/proc",
    "session/secrets.py": "a key file, whose mode is asked of the open file",
    "startup/memory.py": "the kernel's limits of memory",
    "workers/death.py": "/proc, and the logs of our own workers",
    "checkpoints/manifest.py": "hashes of whole files",
    "checkpoints/identity.py": "hashes of parts of files",
}
READS = ("json.load", "json.loads", "yaml.load", "yaml.safe_load", "tomllib.load", "tomllib.loads", "OmegaConf.load")


def test_no_other_module_reads_a_file_by_itself():
    wrong = []
    for file in ARCHER.rglob("*.py"):
        name = str(file.relative_to(ARCHER))
        if name.startswith("reading/") or name in OTHERS:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in READS or called.endswith((".read_text", ".read_bytes")):
                wrong.append(f"{name} line {node.lineno}: {called}")
    assert wrong == []
