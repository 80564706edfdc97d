"""Several engines in a real Ray session: nothing is lost and nothing drawn twice, whatever becomes of an engine."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from recipes.archer.ending import FAILED
from recipes.archer.evaluation import engine_pool
from recipes.archer.evaluation.drawing import Drawn, EngineRefusedError, Request
from recipes.archer.evaluation.engine_pool import EngineFailedError, EnginePool
from recipes.archer.evaluation.plan import Sampling

SAMPLING = Sampling(4, 1.0, 1.0, 8, 0)
REQUESTS = [Request(number, (1, 2), 7 * number) for number in range(40)]


class Engine:
    """Ends a response a step, with tokens that follow from its seed; a marker in its folder says what befalls it.

    A marker is taken away by the engine that it befalls, unless it is for all.
    """

    def __init__(self, folder: Path, device: str, max_model_len: int):
        self.folder, self.waiting, self.steps = folder, [], 0
        if (folder / "refused").exists():
            raise ValueError("no room for the cache\nat all")

    def add(self, requests, sampling, stop_token_ids):
        self.waiting += requests

    @property
    def busy(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Drawn]:
        time.sleep(0.02)
        self.steps += 1
        if self.steps == 4 and (self._befalls("killed") or (self.folder / "all killed").exists()):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == 4 and self._befalls("error"):
            raise RuntimeError("CUDA error: an illegal memory access")
        if self.steps == 4 and self._befalls("silent"):
            time.sleep(1000)
        request = self.waiting.pop()
        return [Drawn(request.number, (request.seed, os.getpid() * 0), True)]

    def _befalls(self, name: str) -> bool:
        try:
            (self.folder / name).unlink()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def session():
    import ray

    from recipes.archer.session.ray_session import ray_session
    from recipes.archer.settings.configuration import compose

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr("recipes.archer.session.ray_session.worker_environment", lambda config: {})
        with ray_session(compose(["device=cpu", "trainer.n_gpus_per_node=2"])):
            yield


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def pool(model: Path, num_engines: int = 2) -> EnginePool:
    return EnginePool(Engine, model, "cpu", 64, num_engines, lambda text: "it was killed")


def drawn(engines: EnginePool, requests=REQUESTS) -> dict[int, tuple[int, ...]]:
    found = [response for some in engines.respond(requests, SAMPLING, [9]) for response in some]
    numbers = [response.number for response in found]
    assert sorted(numbers) == [request.number for request in requests]
    return {response.number: response.token_ids for response in found}


@pytest.mark.parametrize("befalls", ["killed", "error", "silent"])
def test_what_an_engine_was_drawing_is_drawn_by_the_other(session, model, capsys, monkeypatch, befalls):
    monkeypatch.setattr(engine_pool, "SILENCE_S", 2.0)
    engines = pool(model)
    whole = drawn(engines)  # and the same ones answer again, with whatever they had left
    engines.close()
    (model / befalls).touch()
    engines = pool(model)
    assert drawn(engines) == whole == {r.number: (r.seed, 0) for r in REQUESTS}
    said = capsys.readouterr().err
    assert said.count("warning: engine ") == 1 and "questions go to the others" in said
    assert {"killed": "died: it was killed", "error": "illegal memory", "silent": "not answered"}[befalls] in said
    assert drawn(engines, REQUESTS[:3])
    engines.close()


def test_without_any_engine_it_ends_in_one_line(session, model):
    (model / "all killed").touch()
    engines = pool(model)
    kept = []
    with pytest.raises(EngineFailedError, match="the same command goes on") as failed:
        for some in engines.respond(REQUESTS, SAMPLING, [9]):
            kept += some
    assert failed.value.exit_code == FAILED
    engines.close()


def test_what_cannot_be_made_is_told_before_anything_is_drawn(session, model, tmp_path):
    (model / "refused").touch()
    with pytest.raises(EngineRefusedError, match="no room for the cache'\\); lower --max-tokens"):
        pool(model, 1)
    with pytest.raises(EngineRefusedError, match="does not see .*a disk that all nodes share"):
        pool(tmp_path / "elsewhere", 1)
