"""What another upstream release would mean for us, section by section; nothing is written."""

import re
from collections import defaultdict
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

from tools.vendoring.config_keys import COMPOSED, our_keys, upstream_keys
from tools.vendoring.manifest import TREE, Manifest
from tools.vendoring.names import Package, Source, named_in_text, used_names
from tools.vendoring.wheel import Wheel, sha256

_SEARCHED = ("recipes", "tools", "tests", "scripts")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)[^;]*(;.*)?$")


def report(root: Path, manifest: Manifest, old: Wheel, new: Wheel) -> dict[str, list[str]]:
    """{section: findings, one line each}; a section without findings needs nothing done."""
    return {
        "Replaced files": list(_replaced(manifest, new)),
        "Added files": list(_added(manifest, new)),
        "What is taken and dropped": list(_layout(manifest, new)),
        "Names of upstream that we use": list(_names_gone(root, manifest, old, new)),
        "Configuration keys that we set": list(_keys_gone(root, old, new)),
        "Requirements": list(_requirements(old, new)),
    }


def pins(manifest: Manifest, new: Wheel) -> list[str]:
    """The lines vendor/verl.toml needs for the new release, in TOML."""
    data = new.path.read_bytes()
    lines = [f'version = "{wheel_version(new)}"', f'file = "{new.path.name}"', f"size = {len(data)}"]
    lines += [f'sha256 = "{sha256(data)}"', f'record_sha256 = "{sha256(new.read("dist-info/RECORD"))}"']
    for own in manifest.own:
        if own.kind == "replace" and (source := _wheel_path(manifest, new, own.path)):
            lines.append(f'replaces_sha256 = "{sha256(new.read(source))}"  # {own.path}')
    return lines


def wheel_version(wheel: Wheel) -> str:
    return str(BytesParser().parsebytes(wheel.read("dist-info/METADATA"))["Version"])


def _wheel_path(manifest: Manifest, wheel: Wheel, path: str) -> str | None:
    return next((name for name in wheel.paths if manifest.target(name) == path), None)


def _replaced(manifest: Manifest, new: Wheel) -> Iterator[str]:
    for own in manifest.own:
        if own.kind != "replace":
            continue
        source = _wheel_path(manifest, new, own.path)
        if source is None:
            yield f"{own.path}: gone upstream; ours becomes an 'add', or goes"
        elif sha256(new.read(source)) != own.replaces_sha256:
            yield f"{own.path}: changed upstream; carry the change over to ours (it can go when {own.until})"


def _added(manifest: Manifest, new: Wheel) -> Iterator[str]:
    for own in manifest.own:
        if own.kind == "add" and _wheel_path(manifest, new, own.path):
            yield f"{own.path}: upstream now ships this file; drop ours or make it a 'replace'"


def _layout(manifest: Manifest, new: Wheel) -> Iterator[str]:
    for source in manifest.extract:
        held = any(path == source or source.endswith("/") and path.startswith(source) for path in new.paths)
        if not held:
            yield f"{source}: [extract] takes it, the new wheel does not have it"
    targets = [manifest.target(path) or "" for path in new.paths]
    for drop in manifest.drop:
        count = sum(target.startswith(drop.folder) for target in targets)
        if count != drop.files:
            yield f"{drop.folder}: [[drop]] expects {drop.files} files, the new wheel has {count}"


def _names_gone(root: Path, manifest: Manifest, old: Wheel, new: Wheel) -> Iterator[str]:
    own = [_read(root, root / file.path) for file in manifest.own if (root / file.path).is_file()]
    before, after = _package(manifest, old, own), _package(manifest, new, own)
    for path, uses in _uses(root, own):
        for line, name in sorted(uses):
            if before.resolves(name) and not after.resolves(name):
                yield f"{path}:{line}: {name} is gone"


def _package(manifest: Manifest, wheel: Wheel, own: list[Source]) -> Package:
    """Upstream's modules as they would lie in verl/, with our own files over them."""
    sources = {}
    for path in wheel.paths:
        target = manifest.target(path)
        if target is not None and target.endswith(".py") and not manifest.is_dropped(target):
            sources[target] = Source(target, wheel.read(path).decode("utf-8"))
    return Package(list((sources | {source.path: source for source in own}).values()))


def _uses(root: Path, own: list[Source]) -> Iterator[tuple[str, set[tuple[int, str]]]]:
    for source in own:
        yield source.path, used_names(source, TREE)
    for folder in _SEARCHED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix == ".py":
                source = _read(root, path)
                yield source.path, used_names(source, TREE)
            elif path.suffix in (".yaml", ".sh"):
                source = _read(root, path)
                yield source.path, named_in_text(source.text, TREE)


def _read(root: Path, path: Path) -> Source:
    return Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))


def _keys_gone(root: Path, old: Wheel, new: Wheel) -> Iterator[str]:
    if COMPOSED not in new.paths:
        yield f"{COMPOSED}: not in the new wheel, so the keys could not be compared"
        return
    before, after = upstream_keys(old), upstream_keys(new)
    for key, path in our_keys(root).items():
        if key in before and key not in after:
            yield f"{path}: {key} is gone"


def _requirements(old: Wheel, new: Wheel) -> Iterator[str]:
    before, after = _required(old), _required(new)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key, []), after.get(key, [])
        if was != now:
            yield f"{', '.join(was) or 'nothing'}  ->  {', '.join(now) or 'nothing'}"


def _required(wheel: Wheel) -> dict[tuple[str, str], list[str]]:
    """What METADATA requires, grouped by (project, marker), so that a change of version is one finding."""
    metadata = BytesParser().parsebytes(wheel.read("dist-info/METADATA"))
    required = defaultdict(list, {("", "python"): [f"python {metadata.get('Requires-Python', 'any')}"]})
    for line in metadata.get_all("Requires-Dist", []):
        name, marker = _REQUIREMENT.match(line).groups()
        required[re.sub(r"[-_.]+", "-", name).lower(), marker or ""].append(line)
    return {key: sorted(lines) for key, lines in required.items()}
