"""courses.json, which may be anyone's."""

import json
from dataclasses import replace

import pytest

from recipes.archer.ending import UserError
from recipes.archer.runs.courses import COURSES, Course, Courses, as_fact, course_of, read_courses, write_courses

FIRST = Course(
    1, 9, 4, "entropy_collapse", "bad", "guard.rollback.courses[0]", "half", ("a.b=1",), "2026-11-28T20:00:00"
)


def test_what_was_written_is_read(tmp_path):
    assert read_courses(tmp_path) == Courses()
    courses = Courses((FIRST, replace(FIRST, number=2, overrides=("c=2",))), settled=False)
    write_courses(tmp_path, courses)
    assert read_courses(tmp_path) == courses
    assert courses.overrides == ["a.b=1", "c=2"] and courses.number == 2
    assert {name: as_fact(FIRST)[name] for name in ("from", "back_to", "verdict", "change")} == {
        "from": 9, "back_to": 4, "verdict": "bad", "change": "half",
    }  # fmt: skip


DAMAGES = {
    "torn": lambda text: text[:30],
    "a list": lambda text: "[]",
    "without an end": lambda text: text.replace('"settled": true', '"settled": 1'),
    "another order": lambda text: text.replace('"number": 1', '"number": 2'),
    "a step that is none": lambda text: text.replace('"back_to": 4', '"back_to": -4'),
    "a truth value for a step": lambda text: text.replace('"back_to": 4', '"back_to": true'),
    "overrides that are none": lambda text: text.replace('"a.b=1"', "3"),
    "a text without end": lambda text: text.replace('"half"', json.dumps("x" * 5000)),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_a_run_does_not_write_is_refused_in_one_line(tmp_path, kind):
    write_courses(tmp_path, Courses((FIRST,)))
    text = (tmp_path / COURSES).read_text()
    assert DAMAGES[kind](text) != text
    (tmp_path / COURSES).write_text(DAMAGES[kind](text))
    with pytest.raises(UserError, match="courses.json.*set trainer.experiment_name") as refusal:
        read_courses(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    write_courses(tmp_path, Courses((FIRST,)))
    (tmp_path / "run" / COURSES).symlink_to(tmp_path / COURSES)
    with pytest.raises(UserError):
        read_courses(tmp_path / "run")


def test_a_fact_of_run_json_that_is_none():
    assert course_of(as_fact(FIRST)) == FIRST
    assert [course_of(fact) for fact in (None, 3, {}, [], {**as_fact(FIRST), "from": "x"})] == [None] * 5
