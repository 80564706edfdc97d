"""Site settings: what a cluster is called and where things lie on it (docs/cluster.md has an example)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.reading.toml import read_toml

BACKENDS = ("runai", "kubernetes")  # what starts jobs
DEFAULT_FILE = Path(".config/archer/cluster.toml")  # under the home directory


@dataclass(frozen=True)
class Claim:
    """A persistent volume claim that exists already, and where the container sees it."""

    claim: str
    path: str


@dataclass(frozen=True)
class SecretKey:
    """Where a secret value lies: an entry of a Kubernetes secret. Never the value itself."""

    name: str
    key: str


@dataclass(frozen=True)
class Settings:
    """One site. Every field is optional in the file; `need` says which one is missing for a command.

    Attributes:
        source: the file that the settings come from, for error messages.
        project: RunAI project; also the namespace ``runai-<project>`` unless ``namespace`` is given.
        image: container image with the project's requirements.
        workdir: the checkout, as the container sees it; None: the image's own working directory is one.
        node_pools: RunAI node pools, by preference.
        cli: generation of the runai command line, ``v1`` or ``v2``; None: found out from the binary.
        shell: login shell and its flags; the job's script is its last argument.
        retries: how often a failed job is started again.
        grace_s: seconds between SIGTERM and SIGKILL; None: the trainer's own grace and 30 s more.
        preemptible, priority: passed on where the command line has them (v2).
        env: plain environment values. A name that looks like a secret is refused.
        secrets: environment variable -> entry of a Kubernetes secret.
        wandb_key_file: path of the W&B key inside the container, mode 0600; an alternative to ``secrets``.
        flags: renames a flag for a site whose command line spells it differently.
        not_found: a text by which the site's runai says that it knows no such job, where that is not recognised.
        namespace, scheduler, node_selector, operator_namespace: the ``[kubernetes]`` table; the last is where KubeRay's
            operator runs, which has to reach the dashboard of a RayJob.
    """

    source: Path
    project: str | None = None
    image: str | None = None
    workdir: str | None = None
    node_pools: tuple[str, ...] = ()
    cli: str | None = None
    runai: str = "runai"
    kubectl: str = "kubectl"
    shell: str = "/bin/bash -lc"
    large_shm: bool = True
    retries: int = 3
    grace_s: int | None = None
    preemptible: bool | None = None
    priority: str | None = None
    wandb_key_file: str | None = None
    pvc: tuple[Claim, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    not_found: str | None = None
    namespace: str | None = None
    scheduler: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    operator_namespace: str | None = None

    def need(self, name: str, option: str | None = None) -> str:
        """The value of a setting that the job cannot do without.

        Raises:
            UserError: it is not set; names the setting, the file and the option.
        """
        value = getattr(self, name)
        if value:
            return value
        instead = f", or give {option}" if option else ""
        raise UserError(f'no {name}: set {name} = "…" in {self.source}{instead} (docs/cluster.md)')


def load_settings(path: Path | None = None) -> Settings:
    """Settings from a TOML file; an absent default file gives defaults, so that options alone suffice.

    Raises:
        UserError: the named file is absent, is not TOML, or has an unknown or ill-typed setting.
    """
    source = path or Path.home() / DEFAULT_FILE
    try:
        table = read_toml(source)
    except UnreadableError as error:
        if not error.absent:
            raise
        if path is not None:
            raise UserError(f"{source}: no such settings file") from None
        return Settings(source)
    kubernetes = _typed(source, "kubernetes", table.pop("kubernetes", {}), dict)
    _refuse_unknown(source, "", table, _TOP)
    _refuse_unknown(source, "kubernetes.", kubernetes, _KUBERNETES)
    values = {name: _converted(source, name, value) for name, value in {**table, **kubernetes}.items()}
    return Settings(source, **values)


_KUBERNETES = {"namespace", "scheduler", "node_selector", "operator_namespace"}
_TOP = {f.name for f in fields(Settings)} - _KUBERNETES - {"source"}
_SCALARS = {"large_shm": bool, "preemptible": bool, "retries": int, "grace_s": int}
_CHOICES = {"cli": ("v1", "v2")}


def _refuse_unknown(source: Path, prefix: str, table: Mapping[str, Any], known: set[str]) -> None:
    for name in table:
        if name not in known:
            raise UserError(f"{source}: unknown setting {prefix}{name}; known: {', '.join(sorted(known))}")


def _converted(source: Path, name: str, value: Any) -> Any:
    if name == "pvc":
        entries = _typed(source, name, value, list)
        return tuple(Claim(**_record(source, name, entry, {"claim", "path"})) for entry in entries)
    if name == "secrets":
        table = _typed(source, name, value, dict)
        records = {key: _record(source, f"secrets.{key}", entry, {"name", "key"}) for key, entry in table.items()}
        return {key: SecretKey(**record) for key, record in records.items()}
    if name == "node_pools":
        return tuple(_typed(source, name, pool, str) for pool in _typed(source, name, value, list))
    if name in ("env", "flags", "node_selector"):
        table = _typed(source, name, value, dict)
        return {key: _typed(source, f"{name}.{key}", text, str) for key, text in table.items()}
    value = _typed(source, name, value, _SCALARS.get(name, str))
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UserError(f"{source}: {name} = {value!r}: expected {' or '.join(_CHOICES[name])}")
    if isinstance(value, int) and value < 0:
        raise UserError(f"{source}: {name} = {value}: expected 0 or more")
    return value


def _record(source: Path, name: str, entry: Any, keys: set[str]) -> dict[str, str]:
    entry = _typed(source, name, entry, dict)
    if set(entry) != keys:
        raise UserError(f"{source}: {name}: expected the keys {', '.join(sorted(keys))}")
    return {key: _typed(source, f"{name}.{key}", value, str) for key, value in entry.items()}


_NAMES = {str: "a string", bool: "true or false", int: "a whole number", list: "a list", dict: "a table"}


def _typed(source: Path, name: str, value: Any, kind: type) -> Any:
    # a bool is an int to Python, not to the reader of a settings file
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{source}: {name}: expected {_NAMES[kind]}, found {value!r:.200}")
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{source}: {name}: a NUL cannot be part of a command")
    return value
