"""Files that are made from the experiments: resolved configurations and pages; written, or checked against."""

from pathlib import Path

from recipes.archer.experiments import pages, registry
from recipes.archer.files import write_atomically
from recipes.archer.reading.regular import read_text

INDEX = "README.md"  # beside the pages, written by hand


def resolved_files() -> dict[Path, str]:
    """Path and content of every resolved configuration."""
    return {registry.resolved_path(name): registry.resolved_yaml(name) for name in registry.names()}


def page_files() -> dict[Path, str]:
    """Path and content of every experiment's page."""
    return {pages.FOLDER / f"{name}.md": pages.page(name) for name in registry.names()}


def stale(files: dict[Path, str]) -> list[str]:
    """What differs between these files and the disk: ``missing``, ``differs`` or ``stray``, and the path."""
    problems = []
    for path, content in files.items():
        if not path.is_file():
            problems.append(f"missing {path}")
        elif read_text(path) != content:
            problems.append(f"differs {path}")
    return problems + [f"stray {path}" for path in _strays(files)]


def write(files: dict[Path, str]) -> list[Path]:
    """Makes the disk agree; returns what was written or removed."""
    touched = []
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or read_text(path) != content:
            write_atomically(path, content)
            touched.append(path)
    for path in _strays(files):
        path.unlink()
        touched.append(path)
    return touched


def _strays(files: dict[Path, str]) -> list[Path]:
    """Files of the same kind, in the same folders, of experiments that are gone."""
    kinds = {(path.parent, path.suffix) for path in files}
    there = {p for folder, suffix in kinds for p in folder.glob(f"*{suffix}")}
    return sorted(p for p in there - files.keys() if p.name != INDEX)
