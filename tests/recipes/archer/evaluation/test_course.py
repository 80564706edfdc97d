"""A whole evaluation with an engine that answers by its seeds: whatever interrupts it, it ends with the same files."""

import json
from types import SimpleNamespace

import pytest

from recipes.archer.evaluation.course import Evaluation
from recipes.archer.evaluation.drawing import Drawn
from recipes.archer.evaluation.plan import Plan, Sampling
from recipes.archer.evaluation.questions import Question
from recipes.archer.evaluation.responses import RESPONSES, SCORES
from recipes.archer.evaluation.stored import read_scores
from recipes.archer.grading.grader import GradingPool

NUM_QUESTIONS, N = 5, 4


class Killed(BaseException):
    """The process is gone."""


class Engine:
    """Answers with its seed modulo 3, the longest first, so many at a time."""

    def __init__(self, at_once: int, dies_after: int | None = None):
        self.at_once, self.left, self.asked = at_once, dies_after, 0

    def respond(self, requests, sampling, stop_token_ids):
        waiting = sorted(requests, key=lambda request: -request.seed)
        self.asked += len(waiting)
        while waiting:
            now, waiting = waiting[: self.at_once], waiting[self.at_once :]
            if self.left is not None:
                self.left -= len(now)
                if self.left < 0:
                    raise Killed
            yield [Drawn(r.number, (r.seed % 3, 9), r.seed % 5 > 0) for r in now]


@pytest.fixture(scope="module")
def pool():
    with GradingPool(1) as pool:
        yield pool


def evaluation(folder) -> Evaluation:
    questions = [
        Question(f"{12345 * (i + 1):016x}", i, "ab"[i % 2], str(i % 3), {}, (1, 2)) for i in range(NUM_QUESTIONS)
    ]
    plan = Plan("m", "d", Sampling(N, 1.0, 1.0, 8, 0), (9,), {"answer_format": "boxed"}, "cpu")
    decode = SimpleNamespace(batch_decode=lambda ids, skip_special_tokens: [f"\\boxed{{{row[0]}}}" for row in ids])
    return Evaluation(plan, folder, questions, decode, {"model": "m", "data": "d.json"})


def run(folder, pool, engine) -> dict:
    return evaluation(folder).run(lambda: engine, pool, lambda num_done, num_correct: None)


def files(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (RESPONSES, SCORES)]


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_interrupted_anywhere_it_ends_with_the_same_files(tmp_path, pool, at_once):
    run(tmp_path / "whole", pool, Engine(20))
    for number, dies_after in enumerate(range(0, NUM_QUESTIONS * N, 3)):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run(folder, pool, Engine(at_once, dies_after))
        assert evaluation(folder).finished() is None
        engine = Engine(at_once)
        run(folder, pool, engine)
        assert files(folder) == files(tmp_path / "whole")
        assert engine.asked <= NUM_QUESTIONS * N - max(0, dies_after // at_once - 1) * at_once  # not all once more


def test_what_is_finished_is_neither_drawn_nor_written_again(tmp_path, pool):
    scores = run(tmp_path, pool, Engine(20))
    assert evaluation(tmp_path).finished() == scores == read_scores(tmp_path / SCORES)
    evaluation(tmp_path).run(lambda: pytest.fail("an engine was made"), pool, lambda *_: None)


def test_the_scores_are_those_of_the_responses(tmp_path, pool):
    scores = run(tmp_path, pool, Engine(7))
    lines = (tmp_path / RESPONSES).read_text().splitlines()
    right = sum('"correct"' in line for line in lines)
    assert len(lines) == NUM_QUESTIONS * N and 0 < right < len(lines)
    assert scores["avg"] == pytest.approx(right / len(lines))
    assert sum(question["num_correct"] for question in scores["questions"]) == right
    assert scores["truncated"] == pytest.approx(sum('"ended": false' in line for line in lines) / len(lines))
    assert set(scores["by_source"]) == {"a", "b"}
    assert list(scores["pass_at"]) == ["1", "2", "4"]
    assert scores["avg_ci95"][0] < scores["avg"] < scores["avg_ci95"][1]
    assert 0 <= scores["maj"] <= 1 and scores["length"] == 2.0


def test_intervals_that_were_reckoned_otherwise_are_reckoned_again_from_the_responses(tmp_path, pool):
    """Nothing is drawn or graded for it; where the responses are gone, the file stays, and says how it reckoned."""
    scores = run(tmp_path, pool, Engine(20))
    assert "bootstrap" in scores["intervals"]
    earlier = scores | {"intervals": "otherwise", "truncated_ci95": [0, 0], "avg_ci95": [0, 0]}
    (tmp_path / SCORES).write_text(json.dumps(earlier))
    assert evaluation(tmp_path).finished() is None
    assert evaluation(tmp_path).run(lambda: pytest.fail("an engine"), pool, lambda *_: None) == scores
    (tmp_path / SCORES).write_text(json.dumps(earlier))
    (tmp_path / RESPONSES).unlink()
    kept = evaluation(tmp_path).finished()
    assert kept["intervals"] == "otherwise" and kept["truncated_ci95"] == [0, 0]
    assert kept["avg_ci95"] == scores["avg_ci95"]  # what follows from the questions is always reckoned
