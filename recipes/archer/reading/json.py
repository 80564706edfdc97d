"""JSON: one value, nested no deeper than what is done with it can bear; a number beyond all floats is infinite."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from recipes.archer.reading.regular import DamagedError, decoded, read_bytes

DEPTH = 100  # levels of nesting: far beyond any file of ours, and far from what Python's recursion takes
DIGITS = 4000  # of a whole number; Python converts no more than 4,300
_KINDS = {dict: "a JSON object", list: "a JSON list", object: "JSON"}


def read_json(path: Path, kind: type = dict, *, inside: Path | None = None) -> Any:
    """A file of one JSON value.

    Args:
        kind: dict, list, or object for any.

    Raises:
        UnreadableError: as :func:`opened`; DamagedError: it is not JSON, not of that kind, or nested too deep.
    """
    value = parse_json(read_bytes(path, inside=inside), path)
    if not isinstance(value, kind):
        raise DamagedError(path, f"not {_KINDS[kind]}")
    return value


def parse_json(text: str | bytes, where: object) -> Any:
    """A JSON value; NaN and the infinities are read, too.

    Args:
        where: file and place, for errors.

    Raises:
        DamagedError: it is not JSON, or nested too deep.
    """
    text = decoded(text, where) if isinstance(text, bytes) else text
    try:
        return bounded(_loaded(text), where)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DamagedError(where, f"not JSON ({error.msg}, {place})", line=error.lineno) from None
    except RecursionError:
        raise DamagedError(where, f"nested too deep, more than {DEPTH} levels", too_deep=True) from None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python converts
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < DIGITS else float(digits))


def bounded(value: Any, where: object) -> Any:
    """The value, each whole number in it that no float reaches made infinite."""
    top: list[Any] = [value]
    level: list[Any] = [top]
    depth = -1
    while level:
        depth += 1
        if depth > DEPTH:
            raise DamagedError(where, f"nested too deep, more than {DEPTH} levels", too_deep=True)
        deeper: list[Any] = []
        for node in level:
            for key, child in node.items() if isinstance(node, dict) else enumerate(node):
                if isinstance(child, dict | list):
                    deeper.append(child)
                elif isinstance(child, int) and abs(child) > sys.float_info.max:
                    node[key] = math.copysign(math.inf, child > 0 or -1)
        level = deeper
    return top[0]
