"""TOML, for the settings of a site."""

import tomllib
from pathlib import Path
from typing import Any

from recipes.archer.reading.regular import DamagedError, read_text

MOST = 1 << 20  # bytes


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        UnreadableError: as :func:`opened`; DamagedError: it is not TOML.
    """
    try:
        return tomllib.loads(read_text(path, MOST))
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise DamagedError(path, f"not readable as TOML: {reason}") from None
