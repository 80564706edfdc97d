"""A current folder in which nothing may be taken for a module: each module that there is has a namesake in it."""

import atexit
import shutil
import sys
import tempfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

TRAP = "import os\nos.write(2, b'taken from the current folder: %s\\n')\nos._exit(97)\n"


@cache
def folder_of_traps() -> Path:
    """The folder; a process that imports one of its modules ends with code 97 and a word about it."""
    folder = Path(tempfile.mkdtemp(prefix="traps-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    for name in {*sys.stdlib_module_names, *packages_distributions(), "recipes", "verl", "sitecustomize"} - {"os"}:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(TRAP % name)
    return folder
