"""The estimators against closed forms and brute force; the intervals by how often they hold what they should."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from recipes.archer.evaluation.scores import (
    effort,
    interval,
    paired_difference,
    pass_at_k,
    ratio_interval,
    sampling_noise,
    steps_of_k,
)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_one(n):
    for correct in range(n + 1):
        right = [i < correct for i in range(n)]
        for k in range(1, n + 1):
            subsets = [any(chosen) for chosen in combinations(right, k)]
            assert pass_at_k(correct, n, k) == pytest.approx(sum(subsets) / len(subsets), abs=1e-12)


def test_pass_at_k_of_many_questions_and_samples_is_the_closed_form():
    random, n = np.random.default_rng(0), 1024
    counts = random.integers(n + 1, size=40)
    for k in (1, 7, 512, 1024):
        closed = [1 - math.comb(n - c, k) / math.comb(n, k) for c in counts.tolist()]
        assert pass_at_k(counts, n, k) == pytest.approx(closed, abs=1e-9)
    assert pass_at_k(counts, n, 1) == pytest.approx(counts / n)


@pytest.mark.parametrize(("correct", "n", "k"), [(1, 4, 5), (1, 4, 0), (5, 4, 1), (-1, 4, 1), (0.5, 4, 1), (0, 0, 1)])
def test_pass_at_k_refuses_what_cannot_be(correct, n, k):
    with pytest.raises(ValueError, match="k must be|whole numbers"):
        pass_at_k(correct, n, k)


def test_the_steps_of_k_end_at_n():
    assert steps_of_k(1) == [1]
    assert steps_of_k(4) == [1, 2, 4]
    assert steps_of_k(6) == [1, 2, 4, 6]


def _coverage(draw, mean: float, tries: int = 400) -> float:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(tries):
        low, high = interval(draw(random))
        held += low <= mean <= high
    return held / tries


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("size", [30, 300])
@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (2.0, 0.1), (1.0, 15.0)])
def test_an_interval_of_a_share_holds_the_truth_as_often_as_it_says(a, b, size, n):
    def draw(random):
        return random.binomial(n, random.beta(a, b, size)) / n

    assert 0.915 <= _coverage(draw, a / (a + b)) <= 0.985


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("size", [2, 3, 5, 10])
@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (2.0, 0.1), (1.0, 9.0), (5000, 5000), (9000, 1000)])
def test_an_interval_of_a_share_of_few_questions_holds_the_truth_at_least_as_often(a, b, size, n):
    """The last two are questions of one difficulty, whose shares are often all alike."""

    def draw(random):
        return random.binomial(n, random.beta(a, b, size)) / n

    assert _coverage(draw, a / (a + b)) >= 0.93


def _lengths(random, size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of n responses to each question, some questions taking far longer, and which responses are right."""
    long = random.gamma(1.5, 400, (size, 1))
    return np.minimum(1 + random.gamma(4, long / 4, (size, n)), 8192), random.random((size, n)) < 1 / (1 + long / 600)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("size", [2, 3, 4, 6, 10, 15, 60])
def test_an_interval_of_a_mean_length_does_too(size, n):
    random, held, held_of_right, tries = np.random.default_rng(1), 0, 0, 300
    lengths, right = _lengths(random, 200_000, 1)
    truth, truth_of_right = lengths.mean(), lengths[right].mean()
    for _ in range(tries):
        lengths, right = _lengths(random, size, n)
        low, high = ratio_interval(lengths.sum(1), np.full(size, n), 8192)
        held += low <= truth <= high
        right[0, 0] = True  # one at least
        low, high = ratio_interval((lengths * right).sum(1), right.sum(1), 8192)
        held_of_right += low <= truth_of_right <= high
    assert held / tries >= 0.89
    assert held_of_right / tries >= 0.87


def test_what_is_alike_everywhere_is_not_certain():
    """Another question may be unlike them; the fewer there are, the likelier."""
    widths = []
    for size in (1, 2, 3, 5, 30, 500):
        low, high = interval(np.full(size, 0.5))
        assert 0 <= low < 0.5 < high <= 1
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[0] == 1.0 and widths[-1] < 0.01
    assert interval(np.full(30, 0.1 + 0.2)) == pytest.approx(interval(np.full(30, 0.3)))
    cut = ratio_interval([4 * 8192] * 3, [4] * 3, 8192)  # every response was cut
    assert cut.low < 0.2 * 8192 and cut.high == 8192
    assert ratio_interval([40], [2], 100) == (0, 100)
    assert ratio_interval([40, 0, 0], [2, 0, 0], 100) == (0, 100)  # two questions without a right response


def test_all_right_is_not_certainly_right():
    for size in (1, 3, 30, 500):
        low, high = interval(np.ones(size))
        assert high == 1.0
        assert low < 1 - 2 / (size + 2)  # at least what one wrong one among so many more would be
        assert interval(np.zeros(size)) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize("values", [[], [[0.5]], [0.1, math.nan], [math.inf], [1.5, 0.5], [-0.1]])
def test_an_interval_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="one finite value|from 0 to 1"):
        interval(values)


def test_a_ratio_leaves_out_questions_without_a_denominator():
    some, more = [10, 30, 14] * 8, [1, 2, 1] * 8
    low, high = ratio_interval(some, more, 100)
    assert 12.5 <= low <= 13.5 <= high <= 14.5
    assert ratio_interval(some + [0] * 30, more + [0] * 30, 100) == (low, high)


@pytest.mark.parametrize(
    ("size", "n", "tries"), [(16, 4, 2000), (30, 4, 2000), (64, 1, 1000), (64, 4, 1000), (500, 4, 300)]
)
def test_two_that_are_alike_are_told_apart_no_more_often_than_one_time_in_twenty(size, n, tries):
    """What is allowed on either side is what a true rate of 5% passes in 99 of 100 cases."""
    random, apart = np.random.default_rng(2), 0
    for _ in range(tries):
        chances = random.beta(0.3, 0.6, size)
        a, b = (random.binomial(n, chances) / n for _ in range(2))
        apart += paired_difference(a, b).told_apart
    few, many = binom.ppf([0.01, 0.99], tries, 0.05)
    assert few <= apart <= many


@pytest.mark.parametrize("n", [1, 2, 4, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 15])
@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (5000, 5000), (1, 9)])
def test_on_few_questions_neither(a, b, size, n):
    random, apart, tries = np.random.default_rng(2), 0, 500
    for _ in range(tries):
        chances = random.beta(a, b, size)
        apart += paired_difference(random.binomial(n, chances) / n, random.binomial(n, chances) / n).told_apart
    assert apart <= binom.ppf(0.999, tries, 0.05)  # there are 84 cases


def test_a_difference_on_few_questions_is_found_where_it_is_large():
    random = np.random.default_rng(6)
    better = [paired_difference(random.binomial(8, 0.9, 6) / 8, random.binomial(8, 0.4, 6) / 8) for _ in range(100)]
    assert sum(found.low > 0 for found in better) >= 90
    assert paired_difference(np.ones(8), np.zeros(8)).told_apart  # as a sign test says, where all gaps are alike
    assert not paired_difference(np.ones(5), np.zeros(5)).told_apart


def test_a_difference_is_held_by_its_interval_and_has_its_sign():
    random, held = np.random.default_rng(3), 0
    for _ in range(200):
        chances = random.uniform(0, 0.8, 64)
        a, b = random.binomial(4, chances + 0.1) / 4, random.binomial(4, chances) / 4
        found = paired_difference(a, b)
        assert found.difference == pytest.approx((a - b).mean())
        opposite = paired_difference(b, a)
        assert (opposite.low, opposite.high) == pytest.approx((-found.high, -found.low), abs=0.01)
        held += found.low <= 0.1 <= found.high
    assert 0.9 <= held / 200 <= 0.99


def test_the_same_answers_are_no_difference():
    a = np.array([1, 1, 0]) / 3
    found = paired_difference(a, a)
    assert found.difference == 0 and -1 < found.low < -0.5 and 0.5 < found.high < 1  # three questions say little
    assert not found.told_apart
    assert paired_difference([0.5] * 500, [0.5] * 500)[1:] == pytest.approx((-0.0076, 0.0076), abs=1e-4)
    assert not paired_difference([1, 0, 1 / 3, 2 / 3] * 9, [1 / 3, 2 / 3, 1, 0] * 9).told_apart
    assert not paired_difference([1.0], [0.0]).told_apart
    with pytest.raises(ValueError, match="the same ones"):
        paired_difference([1.0], [1.0, 0.0])


def test_an_effort_is_what_it_takes_in_fact():
    """With as many questions as it says, or as many samples, two are told apart four times in five."""
    random, size, n = np.random.default_rng(4), 4000, 2
    chances = random.uniform(0.1, 0.8, size)  # many, so that the plan itself is not chance
    a, b = random.binomial(n, chances + 0.1), random.binomial(n, chances)
    many = effort(a / n - b / n, sampling_noise(a, b, n, n), n)
    assert many.samples == 1  # there are far more questions than it takes

    def share_told_apart(questions: int, samples: int) -> float:
        apart = 0
        for _ in range(200):
            drawn = random.uniform(0.1, 0.8, questions)
            pair = (random.binomial(samples, chance) / samples for chance in (drawn + 0.1, drawn))
            apart += paired_difference(*pair).told_apart
        return apart / 200

    assert 0.7 <= share_told_apart(many.questions, n) <= 0.9


@pytest.mark.parametrize("gap", [0.45, 0.6])
def test_an_effort_of_few_questions_is_what_it_takes_in_fact(gap):
    random, n, tries = np.random.default_rng(7), 4, 300
    chances = random.uniform(0.05, 0.4, 4000)
    a, b = random.binomial(n, chances + gap), random.binomial(n, chances)
    questions = effort(a / n - b / n, sampling_noise(a, b, n, n), n).questions
    assert 2 < questions < 16
    apart = 0
    for _ in range(tries):
        drawn = random.uniform(0.05, 0.4, questions)
        pair = (random.binomial(n, chance) / n for chance in (drawn + gap, drawn))
        apart += paired_difference(*pair).told_apart
    assert 0.72 <= apart / tries <= 0.95


def test_an_effort_in_samples_is_what_it_takes_on_these_questions():
    random, size, long = np.random.default_rng(5), 64, 10**6
    base = random.uniform(0.1, 0.8, size)
    better = base + random.uniform(0.0, 0.12, size)
    noise = sampling_noise(better * long, base * long, long, long)
    needed = effort(better - base, noise, long).samples
    assert 2 < needed < 64
    apart = sum(
        paired_difference(random.binomial(needed, better) / needed, random.binomial(needed, base) / needed).told_apart
        for _ in range(300)
    )
    assert 0.7 <= apart / 300 <= 0.9


def test_an_effort_that_cannot_help_is_none():
    assert effort([0.0, 0.0], 0.1, 4) == (None, None)
    assert effort([0.5, -0.5, 1.0], None, 1).samples is None
    # questions differ so much that no number of samples of these two shows it
    assert effort([1.0, -0.9, 1.0, -0.9], 0.0001, 4).samples is None
