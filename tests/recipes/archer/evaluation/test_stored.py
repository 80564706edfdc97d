"""Scores that anyone may have written: used where they can be, otherwise refused in one line that names the field."""

import json
import math

import pytest

from recipes.archer.evaluation import stored
from recipes.archer.evaluation.comparison import compare
from recipes.archer.evaluation.responses import SCORES
from recipes.archer.evaluation.stored import read_scores
from recipes.archer.evaluation.tables import best_lines, distinguished, highest, lines
from recipes.archer.reading.regular import UnreadableError
from run_folders import scores_of

GOOD = scores_of([4, 1, 0, 2, 2])


def written(tmp_path, content):
    path = tmp_path / SCORES
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_an_evaluation_wrote_is_read_as_it_is(tmp_path):
    assert read_scores(written(tmp_path, GOOD)) == GOOD
    earlier = GOOD | {"avg_ci95": [0.5, 0.5], "pass_at_ci95": None, "maj_ci95": "x", "pass_at": 7}
    assert read_scores(written(tmp_path, earlier)) == GOOD  # reckoned from the questions, whatever stood there
    assert read_scores(written(tmp_path, GOOD | {"step": None, "more": [1]}))["more"] == [1]
    many = scores_of([10**6, 3], 10**6)
    assert read_scores(written(tmp_path, many))["pass_at"][str(10**6)] == 1.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "model: is missing"),
        ("[" * 10**5, "nested too deep"),
        ('{"plan":' * 10**5, "nested too deep"),
    ],
)
def test_what_is_no_scores_is_refused(tmp_path, content, said):
    with pytest.raises(UnreadableError, match=said):
        read_scores(written(tmp_path, content))


def test_what_is_absent_or_a_link_is_refused(tmp_path):
    with pytest.raises(UnreadableError, match="no such file"):
        read_scores(tmp_path / "absent")
    (tmp_path / "link").symlink_to(written(tmp_path, GOOD))
    with pytest.raises(UnreadableError, match="is a link"):
        read_scores(tmp_path / "link")


ODD = (None, True, -1, 3, 1.5, math.nan, math.inf, 10**400, "x", "\ud800", [], [1], {}, {"a": [{}]})


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd!a:.12}")
def test_whatever_stands_in_a_field_it_is_used_or_refused_by_name(tmp_path, odd):
    """Each field, at every depth, is replaced and taken out; whoever shows or compares scores must not fail."""
    for path in [*places(GOOD)]:
        for content in (changed(GOOD, path, lambda at, key: at.__setitem__(key, odd)), changed(GOOD, path, pop)):
            try:
                found = read_scores(written(tmp_path, content))
            except UnreadableError as error:
                assert str(tmp_path) in str(error) and "\n" not in str(error)
                continue
            assert [*lines(found)] and highest([found]) and best_lines([[found]]) and distinguished([found, GOOD])
            compare(found, GOOD, "other"), compare(GOOD, found, "other")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("avg",), 0.46, "avg: is 0.46, where questions say 0.45"),
        (("num_questions",), 6, "num_questions: is 6, where questions say 5"),
        (("questions", 1, "num_correct"), 5, r"questions\[1\].num_correct: is 5"),
        (("questions", 1, "num_correct"), 2, "avg: is 0.45, where questions say 0.5"),
        (("questions", 1, "question"), "q0", "questions: one is there twice"),
        (("questions", 1, "maj"), math.nan, r"questions\[1\].maj: is nan"),
        (("questions", 1, "data_source"), "t", "by_source: names other sources"),
        (("by_source", "s", "truncated"), 2, "by_source.s.truncated: is 2"),
        (("plan", "data"), 1, "plan: is what cannot be"),
        (("step",), "4", "step: is '4'"),
        (("length_wrong",), -1, "length_wrong: is -1"),
    ],
)
def test_the_field_is_named(tmp_path, path, value, said):
    content = changed(GOOD, path, lambda at, key: at.__setitem__(key, value))
    with pytest.raises(UnreadableError, match=f"no scores of an evaluation: {said}"):
        read_scores(written(tmp_path, content))


def test_a_source_for_each_question_takes_no_look_at_every_question_each(tmp_path, monkeypatch):
    looked = []

    class Looked(dict):
        def __getitem__(self, key):
            looked.append(key)
            return super().__getitem__(key)

    one = scores_of([2])
    questions = [one["questions"][0] | {"question": f"q{i}", "data_source": f"s{i}"} for i in range(100)]
    content = scores_of([2] * 100, by_source={f"s{i}": one["by_source"]["s"] for i in range(100)})
    content["questions"] = [Looked(question) for question in questions]
    monkeypatch.setattr(stored, "read_json", lambda _: content)
    assert len(read_scores(tmp_path / SCORES)["by_source"]) == 100
    assert looked.count("data_source") <= 300


def places(value, path=()):
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def changed(content, path, change):
    copy = at = json.loads(json.dumps(content))
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return copy


def pop(at, key):
    at.pop(key)
