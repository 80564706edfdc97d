"""`archer export` as it is called: what it prints, and the exit codes of what it refuses."""

import errno
import sys

import pytest

from exporting import model, save_checkpoint, save_run
from recipes.archer.commands import cli
from recipes.archer.ending import DISK


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, made = save_run(tmp_path_factory.mktemp("export") / "run", {}), model()
    save_checkpoint(folder / "global_step_2", made.state_dict(), config=made.config)
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Words to the command's exit code, output and errors."""

    def called(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archer", "export", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return called


def test_it_says_what_it_did_and_how_to_load_it(run, tmp_path, call):
    code, output, errors = call(run, tmp_path / "model", "--dtype", "bf16", "--verify")
    lines = output.splitlines()
    assert (code, errors) == (0, "") and "step 2, 24 tensors" in lines[0] and "bfloat16" in lines[0]
    assert "all equal" in lines[1] and lines[2].startswith("from transformers import") and len(lines) == 5


def test_pushing_comes_last_and_the_card_has_the_name(run, tmp_path, call, monkeypatch):
    pushed = []
    monkeypatch.setattr("recipes.archer.export.hub.push", lambda folder, name: pushed.append((folder, name)) or "there")
    code, output, _ = call(run, tmp_path / "model", "--push", "owner/name")
    assert code == 0 and "pushed to there" in output and pushed == [(tmp_path / "model", "owner/name")]
    assert "'owner/name'" in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere"], "neither a path nor a run"),
        (["RUN", "--step", "7"], "no checkpoint of step 7"),
        (["RUN", "--push", "name"], "write it as OWNER/NAME"),
        (["RUN", "OUT"], "is not empty"),
        (["RUN/global_step_2", "--step", "last"], "leave out --step"),
        (["RUN/config.yaml"], "is no folder"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_2(run, tmp_path, call, words, problem):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").touch()
    words = [word.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for word in words]
    code, output, errors = call(*words)
    assert code == 2 and output == "" and problem in errors and errors.count("\n") == 1


def test_a_disk_that_fills_is_one_line_and_exit_23(run, tmp_path, call, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recipes.archer.export.weights.save_file", refuse)
    code, _, errors = call(run, tmp_path / "model")
    assert code == DISK and "the disk is full, nothing was exported" in errors and errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
