"""Every command is in the documents, and its help helps."""

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from recipes.archer.commands.cli import app, main
from recipes.archer.settings.configuration import ROOT

COMMANDS = get_command(app).commands
VERBS = [
    *(name for name, command in COMMANDS.items() if not hasattr(command, "commands")),
    *(f"{group} {name}" for group, command in COMMANDS.items() for name in getattr(command, "commands", ())),
]
DOCUMENTS = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_is_in_the_documents(verb):
    assert re.search(rf"archer {verb}\b", DOCUMENTS), f"neither README.md nor docs/ shows `archer {verb}`"


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_command_does_and_what_its_arguments_are(verb):
    shown = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    command = get_command(app)
    for word in verb.split():
        command = command.commands[word]
    assert command.help and command.help.splitlines()[0].endswith((".", "…"))
    described = [p for p in command.params if p.name != "help" and not getattr(p, "help", None)]
    assert described == [], f"archer {verb}: no help for {[p.name for p in described]}"


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "LONG", "--data", "d.json"),
        ("compare", "LONG", "b"),
        ("compare", "a", "b", "--out", "LONG"),
        ("export", "LONG"),
        ("monitor", "LONG"),
        ("report", "LONG"),
        ("samples", "LONG"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_one_line(words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["archer", *(word.replace("LONG", "a" * 5000) for word in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.err.count("\n") == 1 and said.out == ""
