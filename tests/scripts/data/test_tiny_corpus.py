"""The tiny model's corpus: right where it says right, wrong where it says wrong, the same from the same seed."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from tiny_corpus import (
    CAREFUL_OPENERS,
    HASTY_OPENERS,
    Problem,
    careful_solution,
    draw_problem,
    draw_problems,
    draw_slip,
    draw_solution,
    guessed_solution,
    hasty_solution,
    question,
    worked_steps,
)
from tiny_settings import Mixture

from recipes.archer.text.metrics import connective_counts

STEP = re.compile(r"(\d+)([+-]\d+)=(\d+)")
BOX = re.compile(r"\\boxed\{(\d+)\}")
DRAWS = 4000
NEVER_WRONG = Mixture(careful_slip_rate=0, hasty_slip_rate=0, hasty_skip_rate=0, guess_right_rate=1)


def problems(count: int, mixture: Mixture = NEVER_WRONG, seed: int = 0) -> list[Problem]:
    rng = random.Random(seed)
    return [draw_problem(rng, mixture) for _ in range(count)]


def boxed(solution: str) -> int:
    (answer,) = BOX.findall(solution)
    return int(answer)


def close(share: float, expected: float, draws: int = DRAWS) -> bool:
    """Within four standard deviations of a binomial share: one seed in 16,000 would fail."""
    return abs(share - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5


def test_totals_stay_in_range():
    for problem in problems(DRAWS):
        totals = [sum(problem.terms[: n + 1]) for n in range(len(problem.terms))]
        assert min(totals) >= 0 and max(totals) <= 99 and 0 not in problem.terms[1:]
        assert eval(problem.expression, {}) == problem.answer  # our own digits and signs


@pytest.mark.parametrize("solve", [careful_solution, hasty_solution, guessed_solution])
def test_without_errors_every_solution_is_right(solve):
    rng = random.Random(1)
    for problem in problems(500):
        solution = solve(rng, problem, NEVER_WRONG)
        assert boxed(solution) == problem.answer
        for left, term, right in STEP.findall(solution):
            assert int(left) + int(term) == int(right)


@pytest.mark.parametrize(
    ("solve", "expected"),
    [
        (careful_solution, 1 - Mixture.careful_slip_rate),
        (hasty_solution, (1 - Mixture.hasty_skip_rate) * (1 - Mixture.hasty_slip_rate)),
        (guessed_solution, Mixture.guess_right_rate),
    ],
)
def test_share_of_right_answers(solve, expected):
    rng = random.Random(2)
    right = sum(boxed(solve(rng, problem, Mixture())) == problem.answer for problem in problems(DRAWS))
    # A skipped term and a slip can cancel: some wrong ways end right, in a few of a thousand.
    assert close(right / DRAWS, expected) or 0 < right / DRAWS - expected < 0.02


def test_shares_of_the_manners():
    rng, mixture, found = random.Random(3), Mixture(), Counter()
    for problem in problems(DRAWS):
        solution = draw_solution(rng, problem, mixture, mixture.careful_share)
        if not STEP.search(solution):
            found["guess"] += 1
        else:
            (manner,) = [name for name, openers in OPENERS.items() if solution.startswith(openers)]
            found[manner] += 1
    assert close(found["careful"] / DRAWS, mixture.careful_share)
    assert close(found["guess"] / DRAWS, mixture.guess_share)


OPENERS = {"careful": CAREFUL_OPENERS, "hasty": HASTY_OPENERS}


def test_careful_wording_uses_more_connectives_than_a_guess():
    rng = random.Random(4)
    careful = [careful_solution(rng, problem, NEVER_WRONG) for problem in problems(500)]
    guesses = [guessed_solution(rng, problem, NEVER_WRONG) for problem in problems(500)]
    assert sum(connective_counts(careful)) / 500 > 1.5
    assert sum(connective_counts(guesses)) == 0
    assert len(set(careful)) == 500  # the wording varies


def test_a_slip_is_carried_on():
    steps, total = worked_steps(Problem((10, 5, -3)), slip_at=0, slip=2)
    assert (steps, total) == (["10+5=17", "17-3=14"], 14)


def test_slips_never_make_a_total_negative():
    rng = random.Random(5)
    for problem in problems(DRAWS):
        _, total = worked_steps(problem, *draw_slip(rng, problem, rate=1.0))
        assert total >= 0 and total != problem.answer


def test_problems_are_different_and_excluded_ones_stay_out():
    first = draw_problems(random.Random(6), Mixture(), 300, set())
    second = draw_problems(random.Random(6), Mixture(), 300, set(first))
    assert len(set(first)) == 300 and not set(first) & set(second)


def test_the_seed_decides():
    def texts(seed: int) -> list[str]:
        rng, mixture = random.Random(seed), Mixture()
        drawn = draw_problems(rng, mixture, 20, set())
        return [question(rng, p) + draw_solution(rng, p, mixture, 0.5) for p in drawn]

    assert texts(7) == texts(7) != texts(8)


def test_tens_share_sets_the_difficulty():
    tens = replace(Mixture(), tens_share=1.0)
    assert {abs(term) for p in problems(200, tens) for term in p.terms[1:]} == {10, 20, 30}
