"""A process that dies at a chosen change of the disk."""

import os
import shutil
from pathlib import Path

import pytest


class Crash(BaseException):
    """The end of the process: nothing that runs after it in the code under test may count."""


class Crashing:
    """Lets the process die at its k-th change of the disk; a removal dies half done."""

    CALLS = ((os, "replace"), (os, "fsync"), (os, "mkdir"), (shutil, "rmtree"), (os, "unlink"))

    def __init__(self, patch: pytest.MonkeyPatch, at: int):
        self.calls, self.at = 0, at
        for module, name in self.CALLS:
            patch.setattr(module, name, self._counted(getattr(module, name)))
        patch.setattr(os, "getpid", lambda: 1)  # another process than the one that goes on afterwards

    def _counted(self, function):
        def call(*arguments, **keywords):
            self.calls += 1
            if self.calls == self.at:
                if function.__name__ == "rmtree" and Path(arguments[0]).is_dir():
                    next(p for p in sorted(Path(arguments[0]).rglob("*")) if p.is_file()).unlink()
                raise Crash
            return function(*arguments, **keywords)

        return call
