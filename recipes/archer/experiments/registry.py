"""The experiments: their records, lineage, what each changes, and their resolved configurations.

An experiment is a file ``config/experiment/<name>.yaml``: its parent plus a minimal delta, and its record.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from recipes.archer.experiments.records import Record, RecordError, parse_record
from recipes.archer.reading.regular import DamagedError, UnreadableError, read_text
from recipes.archer.reading.yaml import parse_yaml, read_yaml
from recipes.archer.settings import configuration

if TYPE_CHECKING:
    from recipes.archer.cluster.job import Launcher

# What the machine decides is not the experiment's; resolved configurations name it in capitals.
PLACEHOLDERS = {
    "data.train_files": "TRAIN_FILES",
    "data.val_files": "VAL_FILES",
    "actor_rollout_ref.model.path": "MODEL_PATH",
}


def folder() -> Path:
    """Where the experiments' files are."""
    return configuration.CONFIG_DIR / "experiment"


def names() -> list[str]:
    """All experiments, in the order v0, v1, …, v10, then the others."""
    stems = [path.stem for path in folder().glob("*.yaml")]
    return sorted(stems, key=lambda stem: (not _is_version(stem), int(stem[1:]) if _is_version(stem) else 0, stem))


def load_record(name: str) -> Record:
    """The record of an experiment, as its own file states it.

    Raises:
        RecordError: no such experiment, or its record is not one; names file and field.
    """
    return record_of(name, _load(name))


def record_of(name: str, data: dict[str, Any]) -> Record:
    """The record in the content of an experiment's file, which it has to agree with.

    Raises:
        RecordError: it does not, or it is no record; names file and field.
    """
    where = f"{name}.yaml"
    if not data.get("record"):
        raise RecordError(f"{where} has no record; `archer experiment new` shows the form")
    record = parse_record(data["record"], f"{where}: record")
    if record.name != name:
        raise RecordError(f"{where}: record.name is {record.name!r}; it must be the file's stem, {name!r}")
    if record.parent != _parent_in(data):
        raise RecordError(f"{where}: record.parent is {record.parent}, but defaults name {_parent_in(data)}")
    changed, explained = list(_changes_in(data)), [change.key for change in record.changes]
    for key in changed:
        if key not in explained:
            raise RecordError(f"{where}: record.changes does not say why {key} is changed")
    for key in explained:
        if key not in changed:
            raise RecordError(f"{where}: record.changes explains {key}, which the file does not change")
    return record


def lineage(name: str) -> list[str]:
    """The experiment's ancestors, the first one first, and itself."""
    chain = [name]
    while (parent := _parent(chain[0])) is not None:
        if parent in chain:
            raise RecordError(f"{parent}.yaml is its own ancestor: {' -> '.join([parent, *chain])}")
        chain.insert(0, parent)
    return chain


def changes(name: str) -> dict[str, Any]:
    """Configuration keys that the experiment's file sets, with their values, in the file's order."""
    return _changes_in(_load(name))


def _changes_in(data: dict[str, Any]) -> dict[str, Any]:
    return dict(_flat({key: value for key, value in data.items() if key not in ("defaults", "record")}))


def delta(name: str) -> dict[str, tuple[Any, Any]]:
    """For each key that the file sets: the parent's value and its own, resolved."""
    before, after = composed(_parent(name)), composed(name)
    return {key: (value_at(before, key), value_at(after, key)) for key in changes(name)}


def derived(name: str) -> dict[str, tuple[Any, Any]]:
    """Keys of data, actor, rollout and reference that differ from the parent without being set in the file."""
    before, after = dict(_flat(_relevant(_parent(name)))), dict(_flat(_relevant(name)))
    own = changes(name)
    changed = {key: (before.get(key), value) for key, value in after.items() if before.get(key) != value}
    return {key: pair for key, pair in changed.items() if key not in own and pair[1] != PLACEHOLDERS.get(key)}


@cache
def composed(name: str | None) -> DictConfig:
    """The experiment's whole configuration, the machine's facts left open; None: the base configuration."""
    if name is None:
        return configuration.compose(machine_overrides(None))
    _load(name)  # an unknown name is an error of ours, not Hydra's
    return configuration.compose([f"experiment={name}", *machine_overrides(name)])


def machine_overrides(name: str | None) -> list[str]:
    """What the launcher adds to the experiment, with placeholders for the machine's facts; None: the base's."""
    from recipes.archer.cluster.job import MATH

    chosen = launcher(name) if name else MATH
    left_open = [f"{key}={PLACEHOLDERS[key]}" for key in chosen.machine if key in PLACEHOLDERS]
    return [*(chosen.overrides if name else ()), *left_open]


def launcher(name: str) -> "Launcher":
    """The launcher that runs the experiment, which also knows its device and its jobs' names."""
    from recipes.archer.cluster.job import MATH, TINY

    return TINY if name.startswith("tiny") else MATH


def resolved_yaml(name: str) -> str:
    """The resolved configuration as YAML, without the record; independent of the machine."""
    config = configuration.plain(composed(name))
    config.pop("record")
    header = f"# experiment={name}, resolved. Regenerate with: archer experiment resolve\n"
    return header + OmegaConf.to_yaml(OmegaConf.create(config), sort_keys=True)


def resolved_path(name: str) -> Path:
    """Where the resolved configuration is committed."""
    return configuration.CONFIG_DIR / "resolved" / f"{name}.yaml"


def figures_as_written(name: str) -> list[dict[str, str]]:
    """The rows of the results with the digits of the file: 3.90 stays 3.90."""
    load_record(name)
    results = read_yaml(folder() / f"{name}.yaml", as_written=True)["record"]["results"]
    rows: list[dict[str, str]] = results["rows"] if isinstance(results, dict) else []  # null is a text here
    return rows


def plan_as_written(name: str) -> dict[str, Any]:
    """Criteria and contingency of an experiment, as plain data."""
    return {key: _load(name)["record"][key] for key in ("criteria", "contingency")}


def forget() -> None:
    """Reads the files anew from here on."""
    composed.cache_clear()
    _load.cache_clear()


def value_at(config: DictConfig, key: str) -> Any:
    """The resolved value at a dotted key, plain; None where there is none."""
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


@cache
def _load(name: str) -> dict[str, Any]:
    path = folder() / f"{name}.yaml"
    if not path.is_file():
        raise RecordError(f"unknown experiment {name!r}; there are {', '.join(names())}")
    try:
        return content_of(read_text(path), path.name)
    except UnreadableError as error:
        raise RecordError(f"{path.name} is not a configuration: {error.reason}") from None


def content_of(text: str, where: str) -> dict[str, Any]:
    """What an experiment's file says.

    Raises:
        UnreadableError: it is not YAML, or no mapping.
    """
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise DamagedError(where, "not a mapping")
    return data


def _parent(name: str) -> str | None:
    """The experiment that the defaults list names beside ``_self_``."""
    return _parent_in(_load(name))


def _parent_in(data: dict[str, Any]) -> str | None:
    defaults = data.get("defaults")
    listed = defaults if isinstance(defaults, list) else []
    return next((item for item in listed if isinstance(item, str) and item != "_self_"), None)


def _relevant(name: str | None) -> dict[str, Any]:
    config = configuration.plain(composed(name))
    return {"data": config["data"], "actor_rollout_ref": config["actor_rollout_ref"]}


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_version(stem: str) -> bool:
    return stem[:1] == "v" and stem[1:].isdigit()
