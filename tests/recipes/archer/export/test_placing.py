"""A folder appears whole or not at all, and what is not a model is not replaced."""

import errno
import os
from contextlib import suppress

import pytest
from safetensors import SafetensorError

from recipes.archer.ending import DISK, DiskFullError, UserError
from recipes.archer.export.placing import written_beside


def _write(out, text="new", **options):
    with written_beside(out, **options) as folder:
        (folder / "config.json").write_text(text)


def test_it_is_written_beside_and_renamed(tmp_path):
    out = tmp_path / "made" / "model"
    with written_beside(out) as folder:
        (folder / "config.json").write_text("{}")
        assert not out.exists() and folder.parent == out.parent
    assert [p.name for p in out.iterdir()] == ["config.json"] and os.listdir(out.parent) == ["model"]


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "model").mkdir()
    _write(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["config.json", "notes.md"])
def test_a_model_is_replaced_only_when_told(tmp_path, name):
    out = tmp_path / "model"
    out.mkdir()
    (out / name).write_text("earlier")
    with pytest.raises(UserError, match="is not empty: .* with --overwrite"):
        _write(out)
    assert (out / name).read_text() == "earlier"
    _write(out, overwrite=True)
    assert os.listdir(out) == ["config.json"] and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["thesis.tex", ".ssh", "a folder/", "weights.pt", "a\x1bb.json"])
def test_what_is_no_model_is_never_replaced(tmp_path, name):
    out = tmp_path / "model"
    out.mkdir()
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    with pytest.raises(UserError, match="which is no file of a model"):
        _write(out, overwrite=True)
    assert (out / name).exists() and os.listdir(tmp_path) == ["model"]


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
    assert os.listdir(elsewhere) == []


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        _write(tmp_path / "model", overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        _write(tmp_path / "model" / "below")


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
