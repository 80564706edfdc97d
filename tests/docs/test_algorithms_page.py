"""docs/algorithms.md names, for every defect of the published code, tests that exist; every path in it is there."""

import ast
import re
from pathlib import Path

from recipes.archer.losses.constants import POLICY_LOSSES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \|.*\| ([^|]*`test_[^|]*) \|$", PAGE, re.MULTILINE)  # other tables count things, too


def names_of_tests() -> set[str]:
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


def test_each_of_the_seventeen_defects_has_a_test_of_its_number_that_exists():
    assert [int(number) for number, _ in ROWS] == list(range(1, 18))
    existing = names_of_tests()
    for number, cell in ROWS:
        named = re.findall(r"`(\w+)`", cell)
        assert set(named) <= existing, set(named) - existing
        assert named[0].startswith(f"test_{int(number):02}_")


def test_every_test_of_a_defect_is_on_the_page():
    source = (ROOT / "tests" / "recipes" / "archer" / "test_published_defects.py").read_text(encoding="utf-8")
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    numbered = [name for name in names if re.match(r"test_\d\d_", name)]
    assert len(numbered) >= 17 and [name for name in numbered if f"`{name}`" not in PAGE] == []


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGE)
    assert links and [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_loss_is_defined():
    defined = {name.replace("-", "_") for name in re.findall(r"\*\*([\w-]+)\*\*", PAGE)}
    assert set(POLICY_LOSSES) - defined == set()
