"""Whose files a checkpoint has and what they hold, judged before anything of it is used."""

import json
import os
import shutil

import pytest

import forging
from recipes.archer.checkpoints import bounded
from recipes.archer.checkpoints.manifest import write_manifest
from recipes.archer.checkpoints.reading import read
from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.ending import UserError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def folder(tmp_path):
    """A whole checkpoint, without tensors."""
    path = tmp_path / "run" / "global_step_7"
    (path / "model_config").mkdir(parents=True)
    (path / "model_config" / "config.json").write_text("{}")
    (path / "state.json").write_text('{"step": 7}')
    write_manifest(path)
    return path


STRANGERS = {
    "a file": (lambda p, _: (p / "host_0.pt").write_bytes(b"x"), "manifest.json does not list host_0.pt"),
    "a file further down": (lambda p, _: (p / "model_config/a.py").touch(), "does not list model_config/a.py"),
    "a hidden file": (lambda p, _: (p / ".metadata").touch(), "manifest.json does not list .metadata"),
    "a link to a file": (lambda p, out: (p / "host_0.pt").symlink_to(out), "host_0.pt is a link"),
    "a link to nothing": (lambda p, out: (p / "a").symlink_to(out / "nothing"), "a is a link"),
    "a link to a folder": (lambda p, out: (p / "more").symlink_to(out), "more is a link"),
    "a link inside the folder": (lambda p, _: (p / "more").symlink_to("state.json"), "more is a link"),
    "a pipe": (lambda p, _: os.mkfifo(p / "pipe"), "pipe is no regular file"),
    "a name that a terminal obeys": (lambda p, _: (p / "\x1b]52;c;x\x07").touch(), "an odd name in it, '\\x1b]52;c"),
    "a name in another encoding": (lambda p, _: open(os.fsencode(p) + b"/\xff", "w").close(), "an odd name in it"),
    "a name that turns the text round": (lambda p, _: (p / "a\u202eb").touch(), "an odd name in it, 'a\\u202eb'"),
    "folders in folders": (lambda p, _: (p / "/".join("a" * 12)).mkdir(parents=True), "an odd name in it"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_the_manifest_does_not_list_is_refused_and_not_passed_over(folder, tmp_path, kind):
    """Passed over, an older one would be continued, and this one removed at the next save."""
    make, said = STRANGERS[kind]
    make(folder, tmp_path)
    with pytest.raises(UserError) as caught:
        CheckpointStore(folder.parent).newest_whole()
    message = str(caught.value)
    assert message.startswith(f"checkpoint {folder}: ") and said in message and message.isprintable()
    assert "move out of the folder what does not belong to it" in message


def test_there_is_an_end_to_looking(folder, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_FILES", 3)
    with pytest.raises(UserError, match="more than 3 files"):
        read(folder)


REPLACED = {
    "a link to itself elsewhere": (lambda file, out: file.rename(out) and file.symlink_to(out), UserError, "is a link"),
    "a pipe": (lambda file, _: file.unlink() or os.mkfifo(file), UserError, "is no regular file"),
    "a folder": (lambda file, _: file.unlink() or file.mkdir(), ValueError, "is no regular file"),
    "a device": (lambda file, _: file.unlink() or file.symlink_to("/dev/zero"), UserError, "is a link"),
}


@pytest.mark.parametrize("name", ["state.json", "model_config/config.json", "manifest.json"])
@pytest.mark.parametrize("kind", REPLACED)
def test_a_listed_file_is_a_regular_file(folder, tmp_path, kind, name):
    replace, refusal, said = REPLACED[kind]
    replace(folder / name, tmp_path / "elsewhere")
    with pytest.raises(ValueError if name == "manifest.json" else refusal, match=said):
        read(folder)


def test_a_folder_that_became_a_link_is_not_followed(folder, tmp_path):
    shutil.move(folder / "model_config", tmp_path / "elsewhere")
    (folder / "model_config").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="model_config is a link"):
        read(folder)


@pytest.mark.parametrize(
    "name",
    ["../state.json", "/etc/passwd", "a/../../b", "a//b", "", ".", "a\nb", "a\\b", "a\x1b[31m", "a" * 300, "\u202e"],
)
def test_a_manifest_names_files_in_its_folder(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["state.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        read(folder)


@pytest.mark.parametrize("size", [-1, 1.0, True, "11", None, [11], 10**400])
def test_a_size_is_a_number_of_bytes(folder, size):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["state.json"]["size"] = size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged|state\.json has 11 bytes instead of 1"):
        read(folder)


STATES = {
    "[]": "state.json is no JSON object",
    "7": "state.json is no JSON object",
    "null": "state.json is no JSON object",
    "{": "state.json is damaged",
    "[" * 100_000: "state.json is damaged",
    '{"step": ' + "1" * 5000 + "}": "state.json is damaged",
    "{}": "state.json: step is no number of a step",
    '{"step": "7"}': "state.json: step is no number of a step",
    '{"step": true}': "state.json: step is no number of a step",
    '{"step": 7.0}': "state.json: step is no number of a step",
    '{"step": -7}': "state.json: step is no number of a step",
    '{"step": NaN}': "state.json: step is no number of a step",
    '{"step": 7, "identity": []}': "state.json: identity is no JSON object",
    '{"step": 7, "stream": 3}': "state.json: stream is no JSON object",
    '{"step": 7, "guard": "bad"}': "state.json: guard is no JSON object",
    '{"step": 7, "row": [1]}': "state.json: row is no JSON object",
    '{"step": 7, "row": null} x': "state.json is damaged",
}


@pytest.mark.parametrize("text", STATES, ids=lambda text: text[:24])
def test_a_state_of_another_kind_is_not_whole(folder, text):
    (folder / "state.json").write_text(text, encoding="utf-8")
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    checkpoint, (line,) = CheckpointStore(folder.parent).newest_whole()
    assert checkpoint is None and line == f"skipped checkpoint {folder}: {STATES[text]}"
    CheckpointStore(folder.parent, keep_last=1).repair()  # which looks at states, too


def test_a_state_is_bounded(folder, monkeypatch):
    monkeypatch.setattr("recipes.archer.checkpoints.reading.MOST_BYTES", 5)
    with pytest.raises(ValueError, match=r"state\.json has more than 5 bytes"):
        read(folder)


@pytest.fixture
def whole(tmp_path):
    path = forging.save(tmp_path / "run" / "global_step_7")
    forging.save_host(path)
    (path / "state.json").write_text('{"step": 7}')
    write_manifest(path)
    return path


def test_what_the_workers_will_read_is_read_before_they_start(whole):
    assert read(whole).step == 7


@pytest.mark.parametrize("name", [".metadata", "host_0.json", "host_0.safetensors"])
@pytest.mark.parametrize("content", [b"cos\nsystem\n(S'true'\ntR.", b"", b"[]", b"\x80\x04N."])
def test_what_they_would_not_take_is_refused(whole, name, content):
    (whole / name).write_bytes(content)
    (whole / "manifest.json").unlink()
    write_manifest(whole)
    with pytest.raises(ValueError, match=rf"^{name.replace('.', '[.]')} "):
        read(whole)


@pytest.mark.parametrize("name", [".metadata", "host_0.json", "host_0.safetensors"])
def test_what_is_not_there_is_refused(whole, name):
    (whole / name).unlink()
    (whole / "manifest.json").unlink()
    write_manifest(whole)
    with pytest.raises(ValueError, match=rf"{name.replace('.', '[.]')}"):
        read(whole)


def _as_format_1(path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))


def test_what_an_earlier_version_wrote_is_refused_and_not_passed_over(folder):
    _as_format_1(folder)
    with pytest.raises(UserError) as caught:
        CheckpointStore(folder.parent).newest_whole()
    assert str(caught.value) == (
        f"checkpoint {folder} is of an earlier format, with pickles that run what is in them; if it is your own, "
        "continue it with trainer.trust_old_checkpoints=true, or set trainer.experiment_name to another name"
    )


def test_it_is_read_where_a_setting_says_so(folder):
    _as_format_1(folder)
    checkpoint, skipped = CheckpointStore(folder.parent, trust_old=True).newest_whole()
    assert (checkpoint.step, checkpoint.is_old, skipped) == (7, True, [])


def test_the_setting_opens_nothing_else(folder, tmp_path):
    _as_format_1(folder)
    (folder / "host_0.pt").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"host_0\.pt is a link"):
        read(folder, trust_old=True)
