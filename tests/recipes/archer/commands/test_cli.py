"""Every command is in the documents, and its help helps."""

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from recipes.archer.commands.cli import app
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
