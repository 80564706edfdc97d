"""docs/developing.md names files that are there."""

import re
from pathlib import Path

from recipes.archer.settings.configuration import ROOT

PAGE = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
PLACES = (ROOT, ROOT / "recipes" / "archer", ROOT / "tests" / "recipes" / "archer")


def test_every_file_that_a_recipe_names_is_there():
    names = re.findall(r"`([\w./]+(?:\.py|\.yaml|\.md|\.toml|/))`", PAGE)
    assert len(names) > 25
    assert [name for name in names if not any((place / Path(name)).exists() for place in PLACES)] == []


def test_commands_of_make_are_there():
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z -]*)?:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", PAGE, re.M)) <= targets | {"train"}
