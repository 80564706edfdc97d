"""Searches whose runs are a stand-in's, which writes run folders and trains nothing."""

import functools
import sys
import time
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipes.archer.ending import UserError
from recipes.archer.search import checks, records, starting
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.records import base_overrides, settings_of
from recipes.archer.search.starting import Search
from recipes.archer.settings.command_line import explain
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.preflight import check_anywhere

FAKE = Path(__file__).parent / "fake_launcher.py"
LR, KL = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.kl_loss_coef"
USUAL = {"base": "tiny", "set": {LR: "1e-4..1e-3:log"}, "trials": 4, "steps": 6, "every": 2, "pruner": "none"}


class Searches:
    """Starts searches, in this process, by options."""

    def __init__(self, output: Path, monkeypatch):
        self.output, self.starts, self.told = output, output / "starts", []
        output.mkdir()
        monkeypatch.setenv("OUTPUT_DIR", str(output))
        monkeypatch.setenv("STARTS", str(self.starts))
        monkeypatch.setattr("recipes.archer.search.driver.EVERY_S", 0.02)
        monkeypatch.setattr("recipes.archer.search.executors.launcher_command", lambda _: [sys.executable, str(FAKE)])
        monkeypatch.setattr(starting, "evaluate", lambda *_: None)

    def make(self, name="s", **options) -> Search:
        given = {key: value for key, value in (USUAL | options).items() if value is not None}
        return Search(name, given, ["false"], self.told.append)

    def run(self, name="s", **options) -> Search:
        search = self.make(name, **options)
        search.run()
        search.folder.give_back()
        return search

    def refused(self, name="s", **options) -> str:
        """What is said where a search cannot be; nothing has been run, no folder made."""
        with pytest.raises(UserError) as caught:
            self.make(name, **options)
        assert "\n" not in str(caught.value)
        assert not self.starts.exists() and not (self.output / name / "search.yaml").exists()
        return str(caught.value)

    def folder(self, name="s") -> SearchFolder:
        return SearchFolder(name)

    @property
    def started(self) -> list[str]:
        """The runs that were started, in their order."""
        return [line.split()[0] for line in self.starts.read_text().splitlines()] if self.starts.exists() else []


@functools.cache
def _composed(overrides: tuple[str, ...], local: bool):
    config = compose(list(overrides))
    check_anywhere(config, elsewhere=not local)
    return config


def compose_once(monkeypatch) -> None:
    """A configuration is composed and checked once a process: it takes a good part of a second."""

    def checked(plan, params):
        try:
            return _composed((*base_overrides(plan), *settings_of(plan, params)), plan.executor == "local")
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error)) from None

    monkeypatch.setattr(checks, "_checked", checked)
    monkeypatch.setattr(records, "_value", lambda base, key, text: float(text))


def outcome(search: Search) -> list[tuple]:
    """What a search found: settings, state and value of each trial, and what was measured on the way."""
    return [
        (trial.params, trial.state.name, trial.value, trial.intermediate_values, trial.user_attrs.get("outcome"))
        for trial in search.study.trials
    ]


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
