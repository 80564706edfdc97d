"""Which of two is better, in words that hold."""

import numpy as np
import pytest
from scipy.stats import binom

from recipes.archer.ending import UserError
from recipes.archer.evaluation.comparison import ALIKE, BETTER, WORSE, compare, shared, with_comparison


def scores(counts, n: int = 4, first: int = 0) -> dict:
    questions = [{"question": f"q{first + i}", "num_correct": int(count)} for i, count in enumerate(counts)]
    return {"n": n, "questions": questions, "model": "m", "plan": {}}


def drawn(seed: int, gap: float, size: int = 64, n: int = 4) -> tuple[dict, dict]:
    random = np.random.default_rng(seed)
    chance = random.beta(0.6, 0.9, size)
    return tuple(scores(random.binomial(n, np.clip(chance + g, 0, 1)), n) for g in (gap, 0.0))


def test_the_sentence_is_seldom_wrong_over_seeds():
    alike = [compare(*drawn(seed, 0.0), "base").verdict for seed in range(100)]
    assert sum(verdict != ALIKE for verdict in alike) <= 10
    better = [compare(*drawn(seed, 0.2), "base").verdict for seed in range(100)]
    assert better.count(WORSE) == 0 and better.count(BETTER) >= 95
    small = [compare(*drawn(seed, 0.04), "base").verdict for seed in range(100)]
    assert small.count(WORSE) <= 2


@pytest.mark.parametrize(("size", "seeds"), [(30, 500), (64, 500), (500, 200)])
def test_two_that_are_alike_are_seldom_called_better_or_worse(size, seeds):
    """What is allowed is what a true rate of 5% passes in 99 of 100 cases; either word is as likely as the other."""
    verdicts = [compare(*drawn(1000 + seed, 0.0, size), "base").verdict for seed in range(seeds)]
    wrong = [verdict for verdict in verdicts if verdict != ALIKE]
    assert len(wrong) <= binom.ppf(0.99, seeds, 0.05)
    assert min(wrong.count(BETTER), wrong.count(WORSE)) >= binom.ppf(0.005, len(wrong), 0.5)


def test_the_comparison_counts_what_changed_sides():
    found = compare(scores([4, 3, 0, 2, 1]), scores([0, 2, 4, 2, 1]), "base")
    assert (found.gained, found.lost, found.num_questions) == (2, 1, 5)
    assert found.difference == pytest.approx((4 + 1 - 4) / 20)
    assert found.verdict == ALIKE
    assert "not told apart from base by this benchmark at n=4" in found.sentence


def test_the_sentence_says_what_would_tell_them_apart():
    one, other = next(pair for seed in range(99) if 0 < compare(*(pair := drawn(seed, 0.04)), "b").difference < 0.06)
    found = compare(one, other, "base")
    assert found.questions_needed > 64
    assert f"{found.questions_needed:,} questions at n=4" in found.sentence
    turned = compare(other, one, "base")
    assert turned.questions_needed == found.questions_needed
    assert compare(*drawn(0, 0.3), "base").sentence.startswith("better than base: +")


def test_only_questions_of_both_count():
    found = compare(scores([4] * 10), scores([0] * 10, n=2, first=2), "base")
    assert (found.num_questions, found.only_here, found.only_there) == (8, 2, 2)
    assert found.verdict == BETTER
    assert not shared(scores([1]), scores([1], first=9))
    with pytest.raises(UserError, match="other questions"):
        compare(scores([1]), scores([1], first=9), "base")


def test_the_same_is_not_told_apart_from_itself():
    own = scores([4, 0, 1])
    found = with_comparison(own, own)
    assert found["difference"] == 0 and found["difference_ci95"][0] == -found["difference_ci95"][1] < 0
    assert found["against"]["verdict"] == ALIKE
    assert "takes about" not in found["against"]["sentence"]
    one = compare(scores([4]), scores([0]), "base")  # a single question says nothing about others
    assert one.verdict == ALIKE and one.difference_ci95 == [-1, 1]
