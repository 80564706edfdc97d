"""Which configuration keys our YAML files set and which ones upstream's trainer configuration has."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.vendoring.manifest import VendorError
from tools.vendoring.wheel import Wheel

CONFIG = "recipes/archer/config"
# Upstream composes its defaults lists into this file, so it has every key of the trainer.
COMPOSED = "verl/trainer/config/_generated_ppo_trainer.yaml"
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


def upstream_keys(wheel: Wheel) -> set[str]:
    """Every dotted key of upstream's trainer; KeyError if the wheel has no composed configuration."""
    return set(_dotted(_load(wheel.read(COMPOSED).decode("utf-8"))))


def our_keys(root: Path) -> dict[str, str]:
    """Every dotted key our configuration sets, with the first file that sets it."""
    keys: dict[str, str] = {}
    for path in sorted((root / CONFIG).rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        prefix = _package(text, path.relative_to(root / CONFIG).parent)
        for key in _dotted(_load(text), prefix):
            keys.setdefault(key, path.relative_to(root).as_posix())
    return keys


def _package(text: str, group: Path) -> str:
    """Where Hydra puts a file's keys: its `# @package` header, else the folder it lies in."""
    header = _PACKAGE.search(text)
    package = header.group(1) if header else "_group_"
    if package == "_group_":
        return "".join(f"{part}." for part in group.parts)
    return "" if package == "_global_" else f"{package}."


def _dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from _dotted(value, f"{prefix}{key}.")


def _load(text: str) -> Any:
    try:
        import yaml  # not in the standard library, and only `upgrade` needs it
    except ModuleNotFoundError:
        raise VendorError("upgrade needs PyYAML; run it with .venv/bin/python after `make setup`") from None
    return yaml.safe_load(text)
