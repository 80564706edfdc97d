"""Which dotted names a package defines and which ones our code uses, from the source alone."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def module_name(path: str) -> str:
    """ "verl/utils/device.py" -> "verl.utils.device"; a package's __init__.py -> the package."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Source:
    """One file of Python: its text and where it lies, as a POSIX path from the root of the checkout."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module an import statement names, with leading dots resolved."""
        if node.level == 0:
            return node.module or ""
        package = PurePosixPath(self.path).parts[: -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])


class Package:
    """The modules of a package, which can say whether a dotted name leads anywhere."""

    def __init__(self, sources: list[Source]):
        self._modules = {module_name(source.path): source for source in sources}
        self._folders = {".".join(folder.parts) for source in sources for folder in PurePosixPath(source.path).parents}
        self._names: dict[str, set[str]] = {}

    def resolves(self, dotted: str) -> bool:
        """Whether `dotted` is a module, or a module and one name it binds (what follows is not looked at)."""
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            module = ".".join(parts[:end])
            if module in self._modules:
                return end == len(parts) or self._binds(module, parts[end])
            if module in self._folders:
                return end == len(parts)
        return False

    def _binds(self, module: str, name: str) -> bool:
        if module not in self._names:
            self._names[module] = set(_bound_names(self._modules[module].tree))
        bound = self._names[module]
        # A module-level __getattr__ or a star import from elsewhere can bind anything.
        return bool(bound & {name, "__getattr__"}) or any(
            star not in self._modules or self._binds(star, name) for star in self._stars(module)
        )

    def _stars(self, module: str) -> Iterator[str]:
        source = self._modules[module]
        for node in source.tree.body:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                yield source.absolute(node)


def _bound_names(node: ast.AST) -> Iterator[str]:
    """The names bound at the top level of a module, also inside if, try, with and for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _NESTED):
            yield child.name
            continue
        if isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0]
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        yield from _bound_names(child)


def used_names(source: Source, package: str) -> set[tuple[int, str]]:
    """(line, dotted name) of all that a file imports from `package`, reaches into, or names in a string."""
    used: set[tuple[int, str]] = set()
    bound: dict[str, str] = {}  # local name -> dotted name
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used.add((node.lineno, alias.name))
                top = alias.name.partition(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                dotted = source.absolute(node) + ("" if alias.name == "*" else f".{alias.name}")
                used.add((node.lineno, dotted))
                bound[alias.asname or alias.name] = dotted
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and (chain := _chain(node)):
            root, rest = chain
            used.add((node.lineno, f"{bound.get(root, root)}.{rest}"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used |= {(node.lineno + line - 1, name) for line, name in named_in_text(node.value, package)}
    return {(line, name) for line, name in used if name == package or name.startswith(f"{package}.")}


def _chain(node: ast.Attribute) -> tuple[str, str] | None:
    """`a.b.c` as ("a", "b.c"); None where the chain does not start at a plain name."""
    rest: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        rest.insert(0, value.attr)
        value = value.value
    return (value.id, ".".join(rest)) if isinstance(value, ast.Name) else None


def named_in_text(text: str, package: str) -> set[tuple[int, str]]:
    """(line, dotted name) of every dotted name of `package` in YAML, shell or a string."""
    pattern = re.compile(rf"\b{package}(?:\.[A-Za-z_]\w*)+")
    lines = enumerate(text.splitlines(), start=1)
    return {(number, name) for number, line in lines for name in pattern.findall(line)}
