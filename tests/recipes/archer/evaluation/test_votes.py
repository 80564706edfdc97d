"""The vote against its definition, by brute force over every split."""

import random
from collections import Counter

import pytest

from recipes.archer.evaluation.responses import Response
from recipes.archer.evaluation.votes import majority


def responses(*answers: str | None, right: str = "r") -> list[Response]:
    """Answers to one question; the same letter in either case is the same answer, written otherwise."""

    def outcome(answer):
        return "no_answer" if answer is None else "correct" if answer.lower() == right else "wrong"

    return [Response("q", 0, i, "", 1, True, outcome(answer), answer) for i, answer in enumerate(answers)]


def equal(pairs):
    return [one.lower() == other.lower() for one, other in pairs]


def by_definition(answers) -> float:
    votes = Counter(answer.lower() for answer in answers if answer is not None)
    most = max(votes.values(), default=0)
    winners = [answer for answer, number in votes.items() if number == most]
    return (1 / len(winners)) if "r" in winners else 0.0


def test_the_vote_is_what_its_definition_says():
    random.seed(0)
    questions = [[random.choice([*"rRaAbBcCd", None]) for _ in range(random.randint(1, 9))] for _ in range(500)]
    found = majority([responses(*answers) for answers in questions], equal)
    assert found == pytest.approx([by_definition(answers) for answers in questions])
    assert len(set(found)) > 4  # wins, losses and ties


def test_only_answers_that_could_outvote_the_right_one_are_compared():
    asked = []

    def counted(pairs):
        asked.extend(pairs)
        return equal(pairs)

    assert majority([responses("r", "r", "a", None), responses("a", "b", "A"), responses(None)], counted) == [1, 0, 0]
    assert asked == []


def test_answers_that_cannot_be_read_vote_for_themselves_only():
    group = [
        Response("q", 0, 0, "", 1, True, "correct", "r"),
        Response("q", 0, 1, "", 1, True, "unparseable", "?!"),
        Response("q", 0, 2, "", 1, True, "unparseable", "?!"),
        Response("q", 0, 3, "", 1, True, "unparseable", "%%"),
    ]
    assert majority([group], lambda pairs: pytest.fail("nothing to ask") if pairs else []) == [0]
