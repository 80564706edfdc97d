"""What a run's folder holds of evaluations is listed, whoever wrote it; nothing outside of it is read."""

import json
import os

import pytest

from recipes.archer.evaluation.tables import (
    EVALUATIONS,
    best_lines,
    course_sentence,
    distinguished,
    evaluations_in,
    highest,
    lines,
    read_evaluations,
)
from run_folders import scores_of, write_scores


def scores(avg: float, step: int | None = None, n: int = 4, size: int = 40, **changes) -> dict:
    counts = [round(avg * n * (i + 1)) - round(avg * n * i) for i in range(size)]
    return scores_of(counts, n) | ({"step": step} if step is not None else {}) | changes


def test_what_is_there_is_found_by_step(tmp_path):
    write_scores(tmp_path, "step_40/aime-1", scores(0.5, 40))
    write_scores(tmp_path, "step_8/aime-2", scores(0.4, 8))
    write_scores(tmp_path, "model/aime-3", scores(0.45))
    found = evaluations_in(tmp_path)
    assert [one.get("step") for one in found] == [8, 40, None]
    assert highest(found) == "0.500 aime.json (step 40)"
    assert best_lines([found, [], [scores(0.2, 8, n=2)]]) == [
        ("aime.json, avg@2", ["–", "–", "0.200 [0.133, 0.290] (step 8)"]),
        ("aime.json, avg@4", ["0.500 [0.454, 0.546] (step 40)", "–", "–"]),
    ]
    assert evaluations_in(tmp_path / "absent") == [] and highest([]) == ""


def planned(avg: float, data: str, digest: str, model: str = "m", model_digest: str = "c") -> dict:
    return scores(avg, data=data, model=model, plan={"model": model_digest, "data": digest})


def test_a_file_is_known_by_its_content_and_not_by_its_name():
    here = [planned(0.5, "test.json", "a" * 64), planned(0.25, "test.json", "b" * 64)]
    there = [planned(0.75, "same.json", "a" * 64)]
    found = dict(best_lines([here, there]))
    assert list(found) == ["test.json (aaaaaaaa), avg@4", "test.json (bbbbbbbb), avg@4"]
    (one, other), (lower, none) = found.values()
    assert one[:5] == "0.500" and other[:5] == "0.750" and lower[:5] == "0.250" and none == "–"


def test_what_is_shown_together_is_told_apart():
    shown = distinguished(
        [
            planned(0.5, "t.json", "1" * 64),
            planned(0.5, "t.json", "2" * 64, model_digest="d" * 64),
            planned(0.5, "u.json", "3" * 64, "other", "e"),
        ]  # fmt: skip
    )
    assert [one["data"] for one in shown] == ["t.json (11111111)", "t.json (22222222)", "u.json"]
    assert [one["model"] for one in shown] == ["m (c)", "m (dddddddd)", "other"]


@pytest.mark.parametrize("content", ["{", "[]", scores(0.5) | {"avg": "high"}, scores(0.5) | {"questions": [1]}])
def test_what_is_no_evaluation_is_left_out_and_named(tmp_path, content):
    write_scores(tmp_path, "step_1/a", content if isinstance(content, str) else json.dumps(content))
    write_scores(tmp_path, "step_2/a", scores(0.5, 2))
    found, left_out = read_evaluations(tmp_path)
    assert [one["step"] for one in found] == [2]
    assert len(left_out) == 1 and left_out[0].startswith(f"left out: {EVALUATIONS}/step_1/a/scores.json: ")


@pytest.mark.parametrize("place", ["", "step_1", "step_1/a", "step_1/a/scores.json"])
def test_no_link_is_followed(tmp_path, place):
    write_scores(tmp_path / "elsewhere", "step_1/a", scores(0.5, 1))
    link = tmp_path / "run" / EVALUATIONS / place
    link.parent.mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere" / EVALUATIONS / place, link)
    assert evaluations_in(tmp_path / "run") == []


def test_a_line_has_dashes_where_there_is_nothing():
    by_source = {"a": scores(0.5), "b": scores(0.4)}
    first, *parts = lines(scores(0.5, 3, by_source=by_source, pass_at={}, truncated=None))
    assert first == (
        "m", "aime.json, 40 × 4", "0.500 [0.454, 0.546]", "– [0.907, 1.000]", "0.000 [0.000, 0.093]",
        "–", "0.100", "–/20",
    )  # fmt: skip
    assert [part[1] for part in parts] == ["  a, 40 × 4", "  b, 40 × 4"]


def test_the_course_says_whether_the_decline_is_noise():
    course = [scores(0.25, 10), scores(0.75, 20), scores(0.25, 30)]
    assert course_sentence(course).startswith("peak at step 20, 0.750")
    assert course_sentence(course).endswith("outside the noise")
    assert course_sentence([scores(0.5, 1), scores(0.5, 2)]).endswith("inside the noise")
    assert course_sentence(course[:2]).endswith("it is the last step that was evaluated")
