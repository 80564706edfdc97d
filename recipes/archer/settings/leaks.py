"""Keeps secrets out of what is printed, stored and uploaded: commands, manifests and the configuration.

One rule for ``archer submit`` and for the trainer.  No message has a secret's value in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError

_KEYS = "api|access|secret|private|auth|signing|encryption|account|master|subscription|ssh|deploy"
# of a vocabulary, not of an account
_WORDS = "pad|eos|bos|unk|mask|sep|cls|stop|start|end|image|video|audio|special|think|next|last|max|min|num|per|dp"
_NAME = re.compile(
    rf"({_KEYS})[_-]?key|passw(or)?d|passphrase|secret|credential|bearer|[_-](pass|pwd|pat|dsn)$|^pat$|^aws_"
    rf"|^(?!({_WORDS})[_-]?tokens?$)(?!.*[_-]({_WORDS})[_-]tokens?$)(.*[_-])?([a-z]*token)$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(  # where one is, what it is called, or what it is for
    r"[_-](file|path|dir|env|name|var|type)$|^aws_((default_)?region|profile|endpoint_url.*|ca_bundle|ec2_.*|max_.*"
    r"|retry_mode|role_(arn|session_name)|default_output)$|^google_application_credentials$",
    re.IGNORECASE,
)
_VALUES = {
    "a Hugging Face token": r"(?<!\w)hf_[A-Za-z0-9]{20,}",
    "a GitHub token": r"(?<!\w)(gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a GitLab token": r"(?<!\w)gl[a-z]{2,5}-[\w-]{20,}",
    "an API key": r"(?<![\w-])(sk|pk|rk)[-_](?=[\w-]*\d)[\w-]{20,}",
    "a key of AWS": r"(?<!\w)A(KI|SI|ID|RO)A[A-Z0-9]{16}(?!\w)",
    "a key of Google": r"(?<!\w)AIza[\w-]{30,}",
    "a Slack token": r"(?<!\w)xox[a-z]-[\w-]{10,}",
    "a W&B key": r"(?<!\w)wandb_v\d+_\w{20,}",
    "a token of a package index": r"(?<!\w)(pypi-[\w-]{40,}|npm_[A-Za-z0-9]{30,})",
    "a signed token": r"(?<!\w)eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a URL with a password": r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:]*:[^\s/?#@]+@",
    "a URL with a key": r"(?i:[?&]([a-z_-]*(token|key|secret|password|signature)|sig)=)[^&\s]{6,}",
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in _VALUES.items()}
_FROM_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*['\"]?(\w+)")
_ASSIGNMENT = re.compile(r"([\w.-]+)(['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,{}\[\]]+)")
_SHORTEST = 8  # characters of a value that is looked for in a text: a shorter one would be found anywhere


@lru_cache(maxsize=4096)  # each setting's value is held against every variable of the environment
def is_secret_name(name: str) -> bool:
    """Whether a variable's or setting's name says that its value is a secret; a path to a file (``…_FILE``) is none."""
    return bool(_NAME.search(name)) and not _NO_SECRET.search(name)


def secret_in(text: str, environ: Mapping[str, str]) -> str | None:
    """What secret a text carries, in words without its value; None where it looks like none.

    Args:
        environ: whose secrets must not be in it: those of whoever submits or trains.
    """
    for name in environ:
        if is_secret_name(name) and len(environ[name]) >= _SHORTEST and environ[name] in text:
            return f"the value of {name}"
    for name in _FROM_ENVIRONMENT.findall(text):
        if is_secret_name(name):
            return f"the value of {name}"
    return next((f"what looks like {what}" for what, pattern in _PATTERNS.items() if pattern.search(text)), None)


def masked(text: str) -> str:
    """A text in which values that are secrets, by their names or by how they look, are ``***``."""
    for pattern in _PATTERNS.values():
        text = pattern.sub("***", text)
    return _ASSIGNMENT.sub(lambda m: f"{m[1]}{m[2]}***" if _is_secret_path(m[1]) else m[0], text)


def check_environment(environment: Mapping[str, str], source: object) -> None:
    """Refuses a plain value that is a secret, by its name or by how it looks.

    Raises:
        UserError: names the variable, and the remedy.
    """
    for name, value in environment.items():
        if is_secret_name(name) or secret_in(value, {}):
            raise UserError(
                f"{name} as a plain value can be read by anyone who describes the job: "
                f"use [secrets.{name}] in {source} (docs/cluster.md)"
            )


def check_overrides(overrides: Iterable[str], environ: Mapping[str, str]) -> None:
    """Refuses an override that would bring a secret into the configuration.

    Raises:
        UserError: names the override, and the remedy.
    """
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        _refuse(name, value, environ, f"override {name}")
        for inner in _ASSIGNMENT.finditer(value):  # of a mapping
            _refuse(inner[1], inner[3], environ, f"override {name}")


def check_configuration(config: DictConfig, environ: Mapping[str, str]) -> None:
    """Refuses a configuration with a secret in it, also one that it would take from the environment.

    Raises:
        UserError: names the setting, and the remedy.
    """
    for name, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        _refuse(name, value, environ, name)
        if isinstance(value, str) and "${" in value:
            _refuse(name, _resolved(config, name), environ, name)


def check_text(rendered: str, environ: Mapping[str, str]) -> None:
    """Refuses a command or manifest with a secret in it.

    Raises:
        UserError: says which, never its value.
    """
    if what := secret_in(rendered, environ):
        raise UserError(f"the job would carry {what}: remove it from settings and overrides")


def _refuse(name: str, value: Any, environ: Mapping[str, str], who: str) -> None:
    if value is None or isinstance(value, bool) or str(value).lower() in ("", "null", "none", "true", "false", "???"):
        return
    what = "a secret" if _is_secret_path(name) else secret_in(str(value), environ)
    if what:
        raise UserError(
            f"{masked(who)} is {what}: the configuration is printed and uploaded, no place for a secret; "
            "what needs it reads it from the environment"
        )


def _is_secret_path(name: str) -> bool:
    """Of a setting, any part of whose dotted name counts."""
    return any(map(is_secret_name, re.split(r"[.@/\[\]]", name)))


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}[{index}]")
    else:
        yield prefix, tree


def _resolved(config: DictConfig, name: str) -> Any:
    try:
        return OmegaConf.select(config, name)
    except OmegaConfBaseException:  # the checks of the settings say what is wrong
        return None
