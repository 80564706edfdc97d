"""A folder appears whole or not at all, and what is not a model is not replaced."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors import SafetensorError

from recipes.archer.ending import DISK, DiskFullError, UserError
from recipes.archer.export.placing import check_place, written_beside

MADE = ["config.json", "model.safetensors"]


def _write(out, text="new", **options):
    with written_beside(out, **options) as folder:
        (folder / "config.json").write_text(text)
        (folder / "model.safetensors").write_text("weights")


def test_it_is_written_beside_and_renamed(tmp_path):
    out = tmp_path / "made" / "model"
    with written_beside(out) as folder:
        (folder / "config.json").write_text("{}")
        assert not out.exists() and folder == tmp_path / "made" / ".model.archer-partial" / "new"
    assert [p.name for p in out.iterdir()] == ["config.json"] and os.listdir(out.parent) == ["model"]


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "model").mkdir()
    _write(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors"])
def test_a_model_is_replaced_only_when_told(tmp_path, name):
    out = tmp_path / "model"
    out.mkdir()
    for one in (name, "config.json", "notes.md"):
        (out / one).write_text("earlier")
    with pytest.raises(UserError, match="is not empty: .* with --overwrite"):
        _write(out)
    assert (out / name).read_text() == "earlier"
    _write(out, overwrite=True)
    assert sorted(os.listdir(out)) == MADE and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "names",
    [["train.json", "notes.txt", "README.md"], ["config.json", "train.json"], ["vectors.safetensors", "notes.md"]],
)
def test_a_folder_without_settings_and_weights_is_no_model(tmp_path, names):
    out = tmp_path / "data"
    out.mkdir()
    for name in names:
        (out / name).write_text("mine")
    with pytest.raises(UserError, match=r"data holds no model \(config.json and \*.safetensors\): name another"):
        _write(out, overwrite=True)
    assert sorted(os.listdir(out)) == sorted(names) and os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize("name", ["thesis.tex", ".ssh", "a folder/", "weights.pt", "a\x1bb.json"])
def test_what_is_no_model_is_never_replaced(tmp_path, name):
    out = tmp_path / "model"
    out.mkdir()
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    with pytest.raises(UserError, match="which is no file of a model"):
        _write(out, overwrite=True)
    assert (out / name).exists() and os.listdir(tmp_path) == ["model"]


def test_where_one_is_written_no_second_one_is(tmp_path):
    out = tmp_path / "model"
    with written_beside(out) as folder:
        for _ in range(2):
            with pytest.raises(UserError, match="model: another process is exporting into it; wait"):
                _write(out, "second", overwrite=True)
        (folder / "config.json").write_text("first")
        _write(tmp_path / "other")
    assert (out / "config.json").read_text() == "first" and sorted(os.listdir(tmp_path)) == ["model", "other"]


def test_an_export_that_was_killed_holds_up_no_other(tmp_path):
    out = tmp_path / "model"
    program = f"""
from pathlib import Path
from recipes.archer.export.placing import check_place, written_beside
with written_beside(Path({str(out)!r})) as folder:
    (folder / "half.json").write_text("")
    print("written", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout.readline() == "written\n"
        with pytest.raises(UserError, match="another process is exporting"):
            _write(out)
        killed.kill()
    assert os.listdir(tmp_path / ".model.archer-partial/new") == ["half.json"]
    _write(out)
    assert sorted(os.listdir(out)) == MADE and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rename_that_fails_leaves_the_earlier_model_where_it_was(tmp_path, monkeypatch, failing):
    out, real, renames = tmp_path / "model", os.replace, []
    _write(out, "earlier")

    def replace(*paths):
        renames.append(paths)
        if len(renames) - 1 == failing:
            raise OSError(errno.EIO, "Input/output error")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(UserError, match="model cannot be written \\(Input/output error\\)"):
        _write(out, overwrite=True)
    assert (out / "config.json").read_text() == "earlier" and os.listdir(tmp_path) == ["model"]


def test_what_cannot_be_put_back_is_kept_for_the_next_export(tmp_path, monkeypatch):
    out, real, renames = tmp_path / "model", os.replace, []
    _write(out, "earlier")

    def replace(*paths):
        renames.append(paths)
        if len(renames) > 1:
            raise OSError(errno.EIO, "Input/output error")
        real(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(UserError, match="cannot be written"):
            _write(out, overwrite=True)
    out.mkdir()
    with pytest.raises(UserError, match="is not empty"):
        _write(out)
    assert (out / "config.json").read_text() == "earlier" and os.listdir(tmp_path) == ["model"]


def test_the_working_folder_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    _write(Path())
    assert sorted(os.listdir(tmp_path / "model")) == MADE and os.listdir(tmp_path) == ["model"]


def test_links_are_not_followed(tmp_path):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "model"
    elsewhere.mkdir()
    out.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link"):
        _write(out, overwrite=True)
    out.unlink()
    out.mkdir()
    (out / "config.json").symlink_to(elsewhere / "x")
    with pytest.raises(UserError, match="which is no file of a model"):
        _write(out, overwrite=True)
    (out / "config.json").unlink()
    (tmp_path / ".model.archer-partial").symlink_to(elsewhere)
    with pytest.raises(UserError, match="archer-partial is a link"):
        _write(out)
    assert os.listdir(elsewhere) == []


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        _write(tmp_path / "model", overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        _write(tmp_path / "model" / "below")
    for name in ("a" * 250, "a" * 5000):
        with pytest.raises(UserError, match="cannot be written .File name too long"):
            _write(tmp_path / name)
    with pytest.raises(UserError, match="cannot be written .File name too long"):
        check_place(tmp_path / name, overwrite=True)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, DISK),
        (OSError(errno.EDQUOT, "Quota exceeded"), DiskFullError, DISK),
        (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFullError, DISK),
        (OSError(errno.EROFS, "Read-only file system"), UserError, 2),
        (RuntimeError("a bug"), RuntimeError, None),
    ],
)
def test_what_breaks_off_leaves_what_was_there(tmp_path, there, error, kind, code):
    out = tmp_path / "model"
    if there:
        _write(out, "earlier")
    with pytest.raises(kind) as caught, written_beside(out, overwrite=True) as folder:
        (folder / "config.json").write_text("half")
        raise error
    assert getattr(caught.value, "exit_code", None) == code and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["model"] * there
    assert not there or (out / "config.json").read_text() == "earlier"


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_at_any_rename_the_earlier_or_the_new_one_is_there(tmp_path, monkeypatch, renames):
    """The next export brings it to its end, and leaves nothing beside it."""
    out, real, left = tmp_path / "model", os.replace, [renames]
    _write(out, "earlier")

    def replace(*paths):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # nor is there time to tidy up
    with suppress(KeyboardInterrupt):
        _write(out, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="is not empty"):
        _write(out)
    assert (out / "config.json").read_text() == ("new" if renames == 2 else "earlier")
    _write(out, "last", overwrite=True)
    assert (out / "config.json").read_text() == "last" and os.listdir(tmp_path) == ["model"]
