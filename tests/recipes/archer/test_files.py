"""Files appear whole or not at all, and nothing is written through a link."""

import os

import pytest

from recipes.archer.files import LinkError, open_to_append, refuse_link, replacing, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "a", "old")
    write_atomically(tmp_path / "a", b"new")
    with pytest.raises(KeyError), replacing(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "a").read_text() == "new" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("write", [lambda p: write_atomically(p, "x"), lambda p: open_to_append(p).close()])
def test_no_link_is_written_through(tmp_path, write):
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.write_text("kept")
    for target in (secret, tmp_path / "nowhere", link):
        link.symlink_to(target)
        with pytest.raises(LinkError, match="link"):
            write(link)
        link.unlink()
    assert secret.read_text() == "kept" and not (tmp_path / "nowhere").exists()


def test_a_link_that_waits_where_the_temporary_file_would_be_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(tmp_path / "secret")
    write_atomically(tmp_path / "a", "x")
    assert (tmp_path / "secret").read_text() == "kept" and (tmp_path / "a").read_text() == "x"


def test_folders_and_pipes_are_no_place_for_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(LinkError, match=name):
            write_atomically(tmp_path / name, "x")
    refuse_link(tmp_path / "folder", folder=True)
    refuse_link(tmp_path / "free", folder=True)
    with pytest.raises(LinkError):
        refuse_link(tmp_path / "pipe", folder=True)
