"""The house: rooms in one order, which every import keeps; docs/dataflow.md shows the same list."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ARCHER = ROOT / "recipes" / "archer"
PACKAGE = "recipes.archer"

# From the top floor down: a room imports only what stands on a floor below its own; those on one floor do not know
# each other.
FLOORS = (
    ("main",),
    ("trainer", "commands"),
    ("search",),
    ("reports", "startup"),
    ("control",),
    ("monitoring", "workers", "metrics", "export"),
    ("experiments", "checkpoints", "step"),
    ("cluster", "runs", "evaluation", "reward"),
    ("session", "settings", "grading", "rollout"),
    ("losses", "packed", "prompts", "text", "mathematics"),
    ("files", "reading"),
    ("ending", "printable", "collector"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(reversed(FLOORS)) for room in rooms}
FOLDERS = [room for room in FLOOR_OF if (ARCHER / room).is_dir()]
MOST_FILES, MOST_LINES = 14, 300


def _imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere in it, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def _direct(module: str) -> frozenset[str]:
    """Modules of the recipe that one of them imports, both as names below the package."""
    prefix = f"{PACKAGE}."
    inside = {name.removeprefix(prefix) for name in _imported(_path(module)) if name.startswith(prefix)}
    return frozenset(name for name in inside if name not in FOLDERS and _path(name).is_file())


def _path(module: str) -> Path:
    path = ARCHER / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _all_modules() -> list[str]:
    files = (p for p in sorted(ARCHER.rglob("*.py")) if p.name != "__init__.py")
    return [".".join(p.relative_to(ARCHER).with_suffix("").parts) for p in files]


def _room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_is_in_a_room_and_every_room_is_there():
    assert {_room(module) for module in _all_modules()} == set(FLOOR_OF)


@pytest.mark.parametrize("room", FLOOR_OF)
def test_imports_go_down_the_floors(room):
    modules = [module for module in _all_modules() if _room(module) == room]
    wrong = [
        f"{module} imports {other}"
        for module in modules
        for other in sorted(_direct(module))
        if _room(other) != room and FLOOR_OF[_room(other)] >= FLOOR_OF[room]
    ]
    assert wrong == []


def test_no_import_comes_back_to_where_it_began():
    try:
        TopologicalSorter({module: _direct(module) for module in _all_modules()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("room", FOLDERS)
def test_a_room_says_what_it_is_for_and_is_no_hall(room):
    files = {path.stem: path for path in (ARCHER / room).glob("*.py")}
    tree = ast.parse(files["__init__"].read_text(encoding="utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr], f"{room}/__init__.py is a docstring and nothing else"
    assert 1 <= len(ast.get_docstring(tree).splitlines()) <= 5
    assert len(files) - 1 <= MOST_FILES
    stem = room.removesuffix("s")
    # the worker in workers/ and the monitor in monitoring/ are what the rooms are named for
    assert [name for name in files if name.startswith((f"{room}_", f"{stem}_")) or name == room] == []


@pytest.mark.parametrize("module", _all_modules())
def test_a_file_has_the_size_of_a_stage(module):
    assert len(_path(module).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_page_shows_the_same_floors():
    page = (ROOT / "docs" / "dataflow.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \| `(\w+)(?:\.py|/)` \|", page, re.M)
    assert [(int(floor), room) for floor, room in table] == [
        (FLOOR_OF[room], room) for rooms in FLOORS for room in rooms
    ]


def test_tests_stand_where_what_they_test_stands():
    """tests/recipes/archer/<room>/test_<file>[_<aspect>].py."""
    here = Path(__file__).parent
    for path in here.rglob("test_*.py"):
        room = path.parent.relative_to(here)
        if room == Path("."):
            continue  # of the top floor, or of the whole house
        stems = {p.stem for p in (ARCHER / room).glob("*.py")}
        name = path.stem.removeprefix("test_")
        assert any(name == stem or name.startswith(f"{stem}_") for stem in stems), f"{path} tests no file of {room}/"


def test_upstreams_side_does_not_import_the_recipe():
    manifest = tomllib.loads((ROOT / "vendor" / "verl.toml").read_text(encoding="utf-8"))
    ours = [entry["path"] for entry in manifest["own"]]
    assert len(ours) >= 3
    for path in ours:
        wrong = [name for name in _imported(ROOT / path) if name.split(".")[0] in ("recipes", "tools", "scripts")]
        assert wrong == [], f"{path} imports {wrong}"


def test_the_driver_does_not_load_the_engine():
    """It takes seconds; only workers need it."""
    code = "import sys, recipes.archer.trainer, recipes.archer.workers.worker; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=240).returncode == 0


def test_tests_and_tools_are_not_imported():
    for module in _all_modules():
        wrong = {name.split(".")[0] for name in _imported(_path(module))} & {"tests", "tools", "scripts", "benchmarks"}
        assert not wrong, f"{module} imports {wrong}"
