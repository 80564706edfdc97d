"""`archer search` as a user calls it."""

import os
import signal
import sys

import pytest

from recipes.archer.commands.cli import main
from recipes.archer.commands.search import _settings
from recipes.archer.ending import UserError
from searching import LR, USUAL, Searches, compose_once


@pytest.fixture
def archer(tmp_path, monkeypatch, capsys):
    compose_once(monkeypatch)
    searches = Searches(tmp_path / "output", monkeypatch)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["archer", "search", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    call.searches, call.folder = searches, tmp_path
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


OPTIONS = ("--base", "tiny", "--set", f"{LR}=1e-4..1e-3:log", "--trials", 3, "--steps", 6, "--every", 2)


def test_from_start_to_adoption(archer, monkeypatch):
    code, out, err = archer("start", "s", *OPTIONS)
    assert code == 0 and "archer search report s" in out
    assert "search s: trial-000 begins: lr=0.0002" in err and "best so far" in err
    code, out, _ = archer("show", "s")
    assert code == 0 and "budget: 3 of 3 trials" in out and "finished" in out
    code, out, _ = archer("show", "s", "--follow")  # it is over
    assert code == 0 and "best so far" in out
    code, out, _ = archer("report", "s", "--out", archer.folder / "page.html")
    assert code == 0 and "<h1>Search s</h1>" in (archer.folder / "page.html").read_text()
    written = []
    monkeypatch.setattr(
        "recipes.archer.search.records.write_new", lambda *given: written.append(given) or "tiny_x.yaml"
    )
    code, out, _ = archer("adopt", "s", "1", "--as", "tiny_x")
    assert code == 0 and "archer experiment resolve" in out
    name, parent, overrides, _, words = written[0]
    assert (name, parent) == ("tiny_x", "tiny") and overrides[0].startswith(f"{LR}=")
    assert "val/accuracy" in words.why[LR]


def test_a_file_says_the_same_as_the_options(archer):
    archer("start", "by-options", *OPTIONS)
    kept = archer.folder / "output" / "by-options" / "search.yaml"
    code, _, _ = archer("start", "by-file", "--file", kept)
    assert code == 0
    assert (archer.folder / "output" / "by-file" / "search.yaml").read_text() == kept.read_text()


def test_its_name_alone_goes_on_with_it_and_another_plan_is_refused(archer):
    archer("start", "s", *OPTIONS)
    assert archer("start", "s")[0] == 0
    code, _, err = archer("start", "s", "--steps", 9)
    assert code == 2 and "is under way with another --steps" in err and err.count("\n") == 1
    assert len(archer.searches.started) == 3


@pytest.mark.parametrize("verb", ["show", "report", "adopt"])
def test_a_search_that_is_none(archer, verb):
    code, out, err = archer(verb, "nope")
    assert (code, out) == (2, "") and "holds no search" in err and err.count("\n") == 1


def test_a_folder_in_use_has_a_code_of_its_own(archer):
    search = archer.searches.make(trials=3)
    code, _, err = archer("start", "s")
    assert code == 24 and "another process works on search s" in err
    search.folder.give_back()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["starting.check_plan", "driver.Driver._follow"])
def test_a_signal_ends_it_with_its_code_and_the_same_command_goes_on(archer, monkeypatch, number, where):
    with monkeypatch.context() as patched:
        patched.setattr(f"recipes.archer.search.{where}", lambda *_: os.kill(os.getpid(), number))
        patched.setattr("recipes.archer.search.driver.Driver.stop", lambda *_: None)
        code, _, err = archer("start", "s", *OPTIONS)
    assert code == 128 + number and "Traceback" not in err
    assert archer("start", "s", *OPTIONS)[0] == 0


@pytest.mark.parametrize("texts", [["a"], ["a="], ["=1"], ["a=1,2", "a=3,4"]])
def test_a_set_that_is_none(texts):
    with pytest.raises(UserError, match="--set"):
        _settings(texts)


def test_a_file_that_is_none(archer):
    (archer.folder / "s.yaml").write_text("- a\n")
    for path in ("s.yaml", "nowhere.yaml"):
        code, _, err = archer("start", "s", "--file", archer.folder / path)
        assert code == 2 and err.count("\n") == 1
    assert USUAL["base"] == "tiny"
