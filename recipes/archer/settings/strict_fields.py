"""Reads one mapping of an experiment's record strictly: every field known, present and of its type."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipes.archer.ending import UserError


class RecordError(UserError):
    """An experiment's record does not say what it has to; names the file and the field."""


_MISSING = object()
_KINDS = {str: "text", int: "a whole number", float: "a finite number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Fields:
    """One mapping and where it stands.

    Args:
        data: the mapping.
        where: file and path in it, for example ``v3.yaml: record.criteria[0]``.
        known: all its fields.

    Raises:
        RecordError: it is no mapping, or has a field that is not known.
    """

    data: Mapping[str, Any]
    where: str
    known: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.data, Mapping):
            raise RecordError(f"{self.where} must be a mapping with {', '.join(self.known)}, not {self.data!r:.200}")
        for name in self.data:
            if name not in self.known:
                raise RecordError(f"{self.where}.{name} is not known; use {', '.join(self.known)}")

    def get(self, name: str, kind: type, *, default: Any = _MISSING, least: int | None = None) -> Any:
        """The field ``name``; ``default`` where it is absent or null, if there is one.

        Raises:
            RecordError: it is missing, of another kind, or less than ``least``.
        """
        value = self.data.get(name)
        if value is None:
            if default is _MISSING:
                raise RecordError(f"{self.where}.{name} is missing; give {_KINDS[kind]}")
            return default
        if not _is(value, kind) or (kind is str and not value.strip()):
            raise RecordError(f"{self.where}.{name} must be {_KINDS[kind]}, not {value!r:.200}")
        if least is not None and value < least:
            raise RecordError(f"{self.where}.{name} must be at least {least}, not {value}")
        return value

    def stated(self, *names: str) -> None:
        """Checks that these fields are written down, if only as null.

        Raises:
            RecordError: one is not.
        """
        for name in names:
            if name not in self.data:
                raise RecordError(f"{self.where}.{name} is missing; write null where there is none")

    def fail(self, problem: str) -> RecordError:
        """An error about this mapping as a whole."""
        return RecordError(f"{self.where} {problem}")


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, Mapping if kind is dict else kind)
