"""Imports go one way: upstream's side never imports the recipe, and a stage never imports a later one."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ARCHER = ROOT / "recipes" / "archer"
PACKAGE = "recipes.archer"

# In the order in which data flows. Modules that several stages share (settings, endings, counting) are in none.
STAGES = {
    "prompts": ("prompt_file", "prompts"),
    "rollout": ("response_seeds", "rollout"),
    "reward": ("grading", "grading_pool", "grading_worker", "overlong", "format_reward", "reward_manager"),
    "group filter": ("group_filter",),
    "actor loss": ("policy_loss", "kl_loss", "covariance_loss", "step_loss", "actor"),
    "metrics": ("batch_metrics", "step_row"),
    "run log": ("run_log", "run_history", "trackers"),
    "monitor": ("monitor", "guard"),
}
STAGE_OF = {module: stage for stage, modules in STAGES.items() for module in modules}
ORDER = list(STAGES)


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
    return frozenset(name for name in inside if _path(name).is_file())


def _path(module: str) -> Path:
    path = ARCHER / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _reachable(module: str) -> set[str]:
    found, todo = set(), [module]
    while todo:
        new = _direct(todo.pop()) - found
        found |= new
        todo += new
    return found


def _all_modules() -> list[str]:
    return [".".join(p.relative_to(ARCHER).with_suffix("").parts) for p in sorted(ARCHER.rglob("*.py"))]


def test_upstreams_side_does_not_import_the_recipe():
    manifest = tomllib.loads((ROOT / "vendor" / "verl.toml").read_text(encoding="utf-8"))
    ours = [entry["path"] for entry in manifest["own"]]
    assert len(ours) >= 3
    for path in ours:
        wrong = [name for name in _imported(ROOT / path) if name.split(".")[0] in ("recipes", "tools", "scripts")]
        assert wrong == [], f"{path} imports {wrong}"


def test_stages_are_there():
    assert [module for module in STAGE_OF if not _path(module).is_file()] == []


@pytest.mark.parametrize("module", STAGE_OF)
def test_a_stage_does_not_import_a_later_one(module):
    """Nor does what it imports."""
    own = ORDER.index(STAGE_OF[module])
    later = sorted(m for m in _reachable(module) if m in STAGE_OF and ORDER.index(STAGE_OF[m]) > own)
    assert later == [], f"{module} ({STAGE_OF[module]}) reaches {later}"


def test_only_the_trainer_and_what_starts_it_know_the_whole_way():
    """Nobody else sees both the prompts at one end and the metrics at the other, or the trainer itself."""
    ends = ({"prompts"}, {"response_seeds"}, {"reward_manager"}, {"group_filter"}, {"batch_metrics"})
    assert all(_direct("trainer") & end for end in ends)
    whole = {module for module in _all_modules() if all((_direct(module) | {module}) & end for end in ends)}
    assert whole == {"trainer"}
    assert {module for module in _all_modules() if "trainer" in _direct(module)} == {"main"}


def test_the_driver_does_not_load_the_engine():
    """It takes seconds; only workers need it."""
    code = "import sys, recipes.archer.trainer, recipes.archer.workers; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=240).returncode == 0


def test_tests_and_tools_are_not_imported():
    for module in _all_modules():
        wrong = {name.split(".")[0] for name in _imported(_path(module))} & {"tests", "tools", "scripts", "benchmarks"}
        assert not wrong, f"{module} imports {wrong}"
