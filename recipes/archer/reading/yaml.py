"""YAML as OmegaConf reads it, from libyaml's events: no recursion, no aliases, no constructors of tags."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from recipes.archer.reading.json import DEPTH, DIGITS, bounded
from recipes.archer.reading.regular import DamagedError, read_text

MOST = 1 << 20  # bytes; it takes seconds a MiB
_FLOAT = re.compile(  # OmegaConf's: also without a point
    r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)"
)
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + kind for kind in ("null", "bool", "int", "float", "str"))
_VALUES = yaml.constructor.SafeConstructor()
_RESOLVER: Any = yaml.resolver.Resolver()


def read_yaml(path: Path, *, as_written: bool = False, inside: Path | None = None) -> Any:
    """A YAML file; as :func:`parse_yaml`."""
    return parse_yaml(read_text(path, MOST, inside), path, as_written=as_written)


def parse_yaml(text: str, where: object, *, as_written: bool = False) -> Any:
    """A YAML document as OmegaConf reads one: dates stay text, 1e-6 is a number; an empty one is None.

    There are no aliases, whose expansion has no bound, and no tags but those of plain values.

    Args:
        as_written: every value as its text: 3.90 stays 3.90.

    Raises:
        DamagedError: it is not YAML, nested too deep, or has what is not read; names the line.
    """
    try:
        return _Tree(where, as_written).build(yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DamagedError(where, f"not YAML{line} ({error.problem or error.context})") from None
    except yaml.YAMLError as error:
        raise DamagedError(where, f"not YAML ({' '.join(str(error).split())})") from None


class _Tree:
    """Plain data from YAML's events, which libyaml gives one after the other, without recursion."""

    def __init__(self, where: object, as_written: bool):
        self.where, self.as_written = where, as_written

    def build(self, events: Iterable[yaml.Event]) -> Any:
        documents: list[Any] = []
        open_: list[Any] = [documents]  # the collections around an event, the innermost last
        keys: list[Any] = [None]  # of each of them, where it is a mapping: the key whose value comes next
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                raise self._fault(event, f"has the alias *{event.anchor}; write out what it stands for")
            if isinstance(event, yaml.CollectionEndEvent):
                open_.pop(), keys.pop()
            elif isinstance(event, yaml.NodeEvent):
                if isinstance(open_[-1], dict) and keys[-1] is None:
                    keys[-1] = self._key(event, open_[-1])
                    continue
                value = self._value(event)
                if isinstance(open_[-1], dict):
                    open_[-1][keys[-1]], keys[-1] = value, None
                else:
                    open_[-1].append(value)
                if isinstance(value, dict | list):
                    open_.append(value)
                    keys.append(None)
                    if len(open_) > DEPTH:
                        raise self._fault(event, f"is nested too deep, more than {DEPTH} levels")
                if len(documents) > 1:
                    raise self._fault(event, "has a second document")
        return documents[0] if documents else None

    def _key(self, event: yaml.NodeEvent, mapping: dict[str, Any]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._fault(event, "has a key that is no text")
        if event.value in mapping:
            raise self._fault(event, f"has {event.value} twice")
        return str(event.value)

    def _value(self, event: Any) -> Any:
        if not isinstance(event, yaml.ScalarEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            if event.tag not in (None, _TAG + ("map" if is_mapping else "seq")):
                raise self._fault(event, f"has the tag {event.tag}, which is not read")
            return {} if is_mapping else []
        tag = event.tag or self._implied(event)
        if tag == "!" or self.as_written:
            return event.value
        make = getattr(_VALUES, f"construct_yaml_{tag.removeprefix(_TAG)}", None) if tag in _TAGS else None
        if make is None:
            raise self._fault(event, f"has the tag {tag}, which is not read")
        try:
            if len(event.value) > DIGITS and tag in (_TAG + "int", _TAG + "float"):
                raise ValueError
            value = make(yaml.ScalarNode(tag, event.value))
        except (ValueError, KeyError, IndexError, OverflowError):
            raise self._fault(event, f"has {event.value[:40]!r}, which is no {tag.removeprefix(_TAG)}") from None
        return bounded(value, self.where)

    def _implied(self, event: yaml.ScalarEvent) -> str:
        tag: str = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
        if event.implicit[0] and tag in (_TAG + "str", _TAG + "int") and _FLOAT.fullmatch(event.value):
            return _TAG + "float"
        return tag if tag in _TAGS else _TAG + "str"  # a date, and YAML 1.1's = and <<

    def _fault(self, event: Any, reason: str) -> DamagedError:
        return DamagedError(self.where, f"line {event.start_mark.line + 1} {reason}")
