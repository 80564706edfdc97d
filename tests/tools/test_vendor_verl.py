"""tools/vendor_verl.py what check names and what sync does about it; and check on the tree as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.vendor_verl import main
from tools.vendoring.manifest import load_manifest
from tools.vendoring.tree import ignore_problems

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "tools/vendor_verl.py"


def test_the_real_tree_is_right(capsys):
    status = main(["check"])
    assert status == 0, capsys.readouterr().out


def test_sync_unpacks_what_the_manifest_takes_and_nothing_else(checkout):
    assert checkout.sync() == 0
    unpacked = {path for path in checkout.state() if path.startswith("verl/")}
    assert unpacked == {
        "verl/LICENSE",
        "verl/RECORD",
        "verl/__init__.py",
        "verl/core.py",
        "verl/extra.py",
        "verl/ours.py",
        "verl/trainer/config/_generated_ppo_trainer.yaml",
        "verl/utils/device.py",
    }
    assert not (checkout.root / "tests").exists()
    assert (checkout.root / "verl/utils/device.py").read_text() == "name = 'cpu'\n"
    assert checkout.run("check") == 0


def test_a_second_sync_writes_nothing_and_needs_no_wheel(checkout):
    checkout.sync()
    before = checkout.state()
    checkout.wheel.unlink()
    assert checkout.run("sync") == 0
    assert checkout.state() == before


def test_check_before_any_sync_names_the_remedy(checkout, capsys):
    assert checkout.run("check") == 1
    assert capsys.readouterr().out.startswith("verl/RECORD: missing; run `python tools/vendor_verl.py sync`")


def test_an_altered_byte_is_named_and_restored_and_the_edit_is_kept(checkout, capsys, tmp_path):
    checkout.sync()
    checkout.write("verl/core.py", "def kept(): ...\ndef l0st(): ...\n")
    assert checkout.run("check") == 1
    assert "\nverl/core.py: altered" in capsys.readouterr().out
    assert checkout.sync() == 0
    assert "def lost" in (checkout.root / "verl/core.py").read_text()
    kept = list((tmp_path / "cache/altered").iterdir())
    assert [path.read_text() for path in kept] == ["def kept(): ...\ndef l0st(): ...\n"]


@pytest.mark.parametrize("path", ["verl/extra.py", "verl/LICENSE", "verl/RECORD"])
def test_a_missing_file_is_named_and_unpacked_again(checkout, capsys, path):
    checkout.sync()
    capsys.readouterr()
    (checkout.root / path).unlink()
    assert checkout.run("check") == 1
    assert capsys.readouterr().out.startswith(f"{path}: missing")
    assert checkout.sync() == 0


def test_a_damaged_record_cannot_vouch_for_an_altered_file(checkout):
    checkout.sync()
    checkout.write("verl/core.py", "altered = 1\n")
    checkout.write("verl/RECORD", "verl/core.py,sha256=,12\n")
    assert checkout.run("check") == 1
    assert checkout.sync() == 0
    assert "def kept" in (checkout.root / "verl/core.py").read_text()


def test_a_stray_file_is_named_by_both_verbs_and_never_deleted(checkout, capsys):
    checkout.sync()
    stray = checkout.write("verl/utils/notes.py", "work = 'unsaved'\n")
    (checkout.root / "verl/extra.py").unlink()
    capsys.readouterr()
    assert checkout.run("check") == 1
    assert "verl/utils/notes.py: neither upstream's nor listed" in capsys.readouterr().out
    assert checkout.sync() == 1, "the rest is mended, the stray file is left to a person"
    assert capsys.readouterr().out.splitlines()[-1].startswith("verl/utils/notes.py: neither upstream's")
    assert stray.read_text() == "work = 'unsaved'\n"
    assert (checkout.root / "verl/extra.py").exists()


def test_a_file_git_lets_in_but_the_manifest_does_not_list_is_named(checkout, capsys):
    checkout.sync()
    checkout.write("verl/second.py", "")
    ignore = checkout.root / ".gitignore"
    ignore.write_text(ignore.read_text().replace("!/verl/ours.py\n", "!/verl/second.py\n"))
    capsys.readouterr()
    assert checkout.run("check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["verl/second.py", "verl/ours.py", "verl/second.py"]
    assert "vendor/verl.toml does not list it" in lines[0] and ".gitignore has no negation" in lines[1]


def test_our_own_files_are_never_written(checkout, capsys):
    (checkout.root / "verl/ours.py").unlink()
    checkout.write("verl/utils/device.py", "name = 'cuda'\n")
    assert checkout.sync() == 1
    out = capsys.readouterr().out
    assert "verl/ours.py: missing, a file of our own" in out
    assert "verl/utils/device.py: still upstream's" in out
    assert not (checkout.root / "verl/ours.py").exists()


def test_dropped_files_are_removed_with_their_folder(checkout, capsys):
    checkout.sync()
    checkout.write("verl/stale/a.py", "a = 1\n")
    checkout.write("verl/stale/__pycache__/a.cpython-311.pyc", "bytecode")
    assert checkout.run("check") == 1
    assert "verl/stale/a.py: vendor/verl.toml drops it" in capsys.readouterr().out
    assert checkout.sync() == 0
    assert not (checkout.root / "verl/stale").exists()


def test_an_altered_copy_of_a_dropped_file_is_left_to_a_person(checkout):
    checkout.sync()
    edited = checkout.write("verl/stale/a.py", "a = 2\n")
    assert checkout.sync() == 1
    assert edited.read_text() == "a = 2\n"


def test_bytecode_is_ignored(checkout):
    checkout.sync()
    checkout.write("verl/utils/__pycache__/device.cpython-311.pyc", "bytecode")
    checkout.write("verl/utils/__pycache__/device.cpython-311.pyc.140735", "being written")
    assert checkout.run("check") == 0


@pytest.mark.parametrize("path", ["verl/__pycache__/hidden.py", "verl/utils/__pycache__/deeper/device.pyc"])
def test_what_hides_among_bytecode_is_a_stray_file(checkout, capsys, path):
    checkout.sync()
    checkout.write(path, "hidden = 1\n")
    assert checkout.run("check") == 1
    assert f"{path}: neither upstream's nor listed" in capsys.readouterr().out


def test_a_link_in_the_place_of_a_file_is_named_and_replaced(checkout, capsys, tmp_path):
    checkout.sync()
    path = checkout.root / "verl/core.py"
    path.rename(tmp_path / "elsewhere.py")
    path.symlink_to(tmp_path / "elsewhere.py")
    assert checkout.run("check") == 1
    assert "verl/core.py: altered" in capsys.readouterr().out
    assert checkout.sync() == 0 and not path.is_symlink()


def test_the_command_needs_no_packages_and_works_from_any_folder(tmp_path):
    command = [sys.executable, "-S", "-E", COMMAND, "check"]  # -S: without site-packages
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('kind = "add"', 'kind = "extra"', "verl/ours.py: kind is 'extra'"),
        ('path = "verl/ours.py"', 'path = "recipes/ours.py"', "recipes/ours.py: lies outside verl/"),
        ('path = "verl/ours.py"', 'path = "verl/utils/device.py"', "verl/utils/device.py: listed twice"),
        ("why = ", "reason = ", "reason"),
        ("[upstream]", "[upstream", "not valid TOML"),
    ],
)
def test_a_wrong_manifest_is_named(checkout, capsys, old, new, named):
    path = checkout.root / "vendor/verl.toml"
    path.write_text(path.read_text().replace(old, new))
    assert checkout.run("check") == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "files = 2",
            "files = 3",
            "verl/stale/: vendor/verl.toml does not fit RECORD: files = 3, the wheel has 2",
        ),
        (
            '"verl/ours.py"',
            '"verl/core.py"',
            "verl/core.py: vendor/verl.toml does not fit RECORD: kind = 'add'",
        ),
        (
            'replaces_sha256 = "',
            'replaces_sha256 = "0',
            "verl/utils/device.py: vendor/verl.toml does not fit",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_the_wheel_is_named(checkout, capsys, old, new, named):
    checkout.sync()
    path = checkout.root / "vendor/verl.toml"
    path.write_text(path.read_text().replace(old, new))
    assert checkout.run("check") == 1
    assert named in capsys.readouterr().out


def test_the_notice_names_the_vendored_release_and_every_file_of_our_own():
    manifest = load_manifest(ROOT)
    notice = (ROOT / "NOTICE").read_text()
    assert f"{manifest.upstream.name} {manifest.upstream.version}\n" in notice
    assert f"Copyright {manifest.upstream.copyright}" in notice
    assert [own.path for own in manifest.own if own.path not in notice] == []


def test_gitignore_lets_in_our_own_files_and_nothing_else(tmp_path):
    """git itself judges the committed .gitignore; the order of its lines matters."""
    manifest = load_manifest(ROOT)
    assert ignore_problems(ROOT, manifest) == []
    own = [file.path for file in manifest.own]
    others = ["verl/protocol.py", "verl/RECORD", "verl/utils/__pycache__/device.cpython-311.pyc"]
    others += ["verl/utils/__pycache__/", "recipes/archer/__pycache__/"]
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    ask = ["git", "-C", tmp_path, "check-ignore", *own, *others]
    done = subprocess.run(ask, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.stdout.splitlines() == others
