"""A run from its configuration to its end, over several sessions: what trains is made up, folder and files are real."""

import json
from types import SimpleNamespace

import pytest

from configurations import configuration
from recipes.archer import main
from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.control.going_back import GoingBack
from recipes.archer.ending import FINISHED, GUARD, Cause, Ending
from recipes.archer.runs.log import RunLog
from recipes.archer.session.signals import StopRequested, StopSignals
from recipes.archer.startup import inputs, stop_tokens
from recipes.archer.startup.resuming import store_of

BAD_FROM, STEPS, LR = 4, 8, 1e-4


class Sessions:
    """Trains by itself: every step is sound until ``BAD_FROM`` while the learning rate is above ``LR``."""

    def __init__(self):
        self.rates, self.agains, self.interrupt = [], [], None

    def __call__(self, written, config, courses, run, again):
        log, rate, store = run.log, config.actor_rollout_ref.actor.optim.lr, store_of(config)
        self.rates.append(rate)
        self.agains.append(again)
        checkpoint, _ = store.newest_whole()
        first = checkpoint.step if checkpoint else 0
        log.open(config, {"name": "run", "courses": courses.facts()}, first)
        for step in range(first + 1, STEPS + 1):
            bad = rate > LR and step >= BAD_FROM
            log.write({"step": step, "rate": rate})
            _save(store, step, sound=not bad)
            if bad and step == BAD_FROM + 2:
                ending = Ending("stopped", "guard: bad", GUARD, Cause("c", "actor/entropy", BAD_FROM))
                ended = GoingBack(written, log).after(ending, store)
                if self.interrupt is not None:
                    self.interrupt()
                return ended
        return Ending("finished", "done", FINISHED)


def _save(store: CheckpointStore, step: int, sound: bool) -> None:
    partial = store.begin(step)
    store.commit(partial, step, {"step": step, "sound": sound, "row": {"step": step}})
    store.settle(step)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the same command once more; ``sessions`` says what it trained with."""
    sessions = Sessions()
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(main, "_attempt", sessions)
    monkeypatch.setattr(inputs, "tokenizer_and_prompts", lambda config: (None, None))
    monkeypatch.setattr(stop_tokens, "settle_stop_tokens", lambda config, tokenizer: None)

    def start(*settings, stop=None):
        fixed = (f"actor_rollout_ref.model.path={tmp_path}", f"trainer.default_local_dir={tmp_path}/run")
        config = configuration("guard.action=rollback", "record=null", "trainer.save_freq=1", *fixed, *settings)
        log = RunLog(tmp_path / "run")
        try:
            return main._train(config, config, log, stop or StopSignals())
        finally:
            log._lock.close()

    return SimpleNamespace(start=start, sessions=sessions, folder=tmp_path / "run")


def _rows(folder) -> list[tuple[int, float]]:
    return [(row["step"], row["rate"]) for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]


GONE_BACK = [(1, 2e-4), (2, 2e-4), *((step, 1e-4) for step in range(3, STEPS + 1))]


def test_it_goes_back_and_on_with_half_the_rate_in_one_process(start):
    assert start.start().exit_code == FINISHED
    assert start.sessions.rates == [2e-4, 1e-4] and start.sessions.agains == [False, True]
    assert _rows(start.folder) == GONE_BACK
    assert _rows(start.folder / "branches/1") == [(step, 2e-4) for step in (3, 4, 5, 6)]
    (course,) = json.loads((start.folder / "run.json").read_text())["courses"]
    assert (course["from"], course["back_to"]) == (6, 2)
    assert start.start().exit_code == FINISHED and start.sessions.rates[-1] == 1e-4, "it stays on its course"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_interrupted_right_after_the_decision_the_same_command_goes_on(start, how):
    stop = StopSignals()

    def interrupt():
        start.sessions.interrupt = None
        if how == "killed":
            raise SystemExit
        stop._received = 15

    start.sessions.interrupt = interrupt
    with pytest.raises(SystemExit if how == "killed" else StopRequested):
        start.start(stop=stop)
    assert len(_rows(start.folder)) == 6 and not (start.folder / "branches").exists()
    assert start.start().exit_code == FINISHED
    assert _rows(start.folder) == GONE_BACK and len(_rows(start.folder / "branches/1")) == 4


def test_with_nothing_left_to_change_it_ends_as_with_stop(start):
    ending = start.start("guard.rollback.courses=[['actor_rollout_ref.actor.optim.lr=1.5e-4']]")
    assert ending.exit_code == GUARD and "not gone back: there is nothing left to change" in ending.reason
    assert start.sessions.rates == [2e-4, 1.5e-4]
    assert [step for step, _ in _rows(start.folder)] == [1, 2, 3, 4, 5, 6]
