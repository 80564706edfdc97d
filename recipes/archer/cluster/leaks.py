"""Keeps secret values out of commands and manifests: `describe` prints plain environment values."""

import re
from collections.abc import Iterable, Mapping

from recipes.archer.ending import UserError

_SECRET_NAME = re.compile(r"api_?key|passw(or)?d|secret|credential|(auth|access|hf|hub)_?token", re.IGNORECASE)
_KNOWN_SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_names(environment: Mapping[str, str], overrides: Iterable[str], source: object) -> None:
    """Refuse a plain value under a name that looks like a secret; a path to a file (``…_FILE``) is none.

    Raises:
        UserError: names the variable or override, and the remedy.
    """
    for name in environment:
        if _SECRET_NAME.search(name) and not name.upper().endswith("_FILE"):
            raise UserError(
                f"{name} as a plain value can be read by anyone who describes the job: "
                f"use [secrets.{name}] in {source} (docs/cluster.md)"
            )
    for override in overrides:
        name = override.partition("=")[0]
        if _SECRET_NAME.search(name):
            raise UserError(f"override {name}: the configuration is printed and uploaded, no place for a secret")


def check_values(rendered: str, environ: Mapping[str, str]) -> None:
    """Refuse a command or manifest which contains a key of the submitting user's environment.

    Raises:
        UserError: names the variable, never its value.
    """
    for name in _KNOWN_SECRETS:
        value = environ.get(name, "")
        if len(value) >= 8 and value in rendered:
            raise UserError(f"the job would carry the value of {name}: remove it from settings and overrides")
