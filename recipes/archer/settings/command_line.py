"""What is wrong with a command line, in one line: Hydra's own messages take several and end with exit code 1."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import WRONG_CALL, UserError
from recipes.archer.printable import complain
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import compose, plain
from recipes.archer.settings.leaks import check_overrides, masked
from recipes.archer.settings.names import quoted_names

GROUPS = ("experiment", "device")
_NO_SUCH_SETTING = re.compile(r"Could not override '([^']+)'")


def exit_code_of(entry: Callable[[], None], judge: Callable[[DictConfig], None] = check_settings) -> int | str | None:
    """Runs a Hydra entry point on this process's arguments; what is wrong with them is said in one line.

    Args:
        entry: takes them from ``sys.argv``.
        judge: of a configuration that is printed and not run; raises `UserError`.

    Returns:
        The exit code that the entry point ended with, or that of a wrong call.
    """
    upstream = Path(os.environ["ARCHER_VERL_CONFIG"])
    if not upstream.is_dir():
        complain(f"error: {upstream} is missing, so verl is not unpacked; run: make setup")
        return WRONG_CALL
    sys.argv[1:] = quoted_names(sys.argv[1:])
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing
    try:
        check_overrides((word for word in sys.argv[1:] if not word.startswith("-")), os.environ)
        entry()
        if "--cfg" in sys.argv:  # Hydra has printed the configuration; is it one that could be trained with?
            words = (word for word in sys.argv[1:] if not word.startswith("-"))
            judge(compose([word for word in words if "=" in word or word.startswith("~")]))
    except UserError as error:
        complain(f"error: {error}")
        return WRONG_CALL
    except (HydraException, OmegaConfBaseException) as error:
        complain(f"error: {explain(error)}")
        return WRONG_CALL
    except SystemExit as end:
        return end.code
    return 0


def explain(error: Exception) -> str:
    """One line for an error of Hydra or OmegaConf: the setting that is wrong, and the remedy."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option} is not known; use {' or '.join(sorted(error.options))}"
    if found := _NO_SUCH_SETTING.search(str(error)):
        return f"{found[1]}: there is no such setting; {remedy(found[1])}"
    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        if "=" in value and not value.startswith(("'", '"', "[", "{")):
            return f"{masked(error.override)}: a value with = in it needs quotation marks: '{name}=\"{masked(value)}\"'"
        return f"{masked(error.override)} is no Hydra override; write name=value, or 'name=\"...\"' for several words"
    return masked(" ".join(f"{error} {error.__cause__ or ''}".split()))


def remedy(name: str) -> str:
    """What to do about a setting that there is not."""
    known, leaf = [*GROUPS, *settings(plain(compose(), resolve=False))], name.rpartition(".")[2]
    same_leaf = [other for other in known if other.rpartition(".")[2] == leaf]
    if near := (get_close_matches(name, same_leaf, 1, 0.0) or get_close_matches(name, known, 1, 0.6)):
        return f"did you mean {near[0]}? (a setting that the configuration does not have needs a + in front)"
    return "DRY_RUN=1 prints those that there are (one that the configuration does not have needs a + in front)"


def settings(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings of a plain configuration."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
