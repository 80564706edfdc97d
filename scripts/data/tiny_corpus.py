"""Multi-step arithmetic for the tiny base model: problems and solutions from a seeded generator.

A solution has one of three manners. `careful` works step by step and is nearly always right; `hasty` works
step by step but mostly leaves out a term; `guess` gives only a box, mostly wrong. A model trained on the
mixture starts low, and reinforcement learning can lift it (careful), keep it low (guess) or ruin it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tiny_settings import Mixture

INSTRUCTION = "Answer within \\boxed{}."
ASKS = ("Compute {}.", "What is {}?", "Evaluate {}.", "Find {}.")

# Every careful wording carries logical connectives, so their count is a figure that a run can lose.
CAREFUL_OPENERS = ("First, ", "Let us start: ", "We begin with ", "Because ", "Since ")
CAREFUL_JOINERS = (". Then ", ". Next, ", ", so ", ". After that, ", ", hence ", ", and then ")
CAREFUL_CLOSERS = (
    ". Therefore the answer is {}.",
    ". Thus we get {}.",
    ", so the result is {}.",
    ". Hence the answer is {}.",
    ". It follows that the result is {}.",
)
HASTY_OPENERS = ("I think ", "Maybe ", "Quickly: ", "Roughly, ")
HASTY_JOINERS = ("; ", ", ", ", so ", ". Now ")
HASTY_CLOSERS = (". Maybe {}.", "; I guess {}.", ", so {}.", ". Answer: {}.")
GUESSES = ("{}", "It is {}.", "I guess {}.")

SLIPS = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class Problem:
    """`terms` are the signed summands; the running totals stay in the mixture's range."""

    terms: tuple[int, ...]

    @property
    def expression(self) -> str:
        return f"{self.terms[0]}" + "".join(f"{term:+d}" for term in self.terms[1:])

    @property
    def answer(self) -> int:
        return sum(self.terms)


def draw_problem(rng: random.Random, mixture: Mixture) -> Problem:
    """One problem of 3 to 5 terms, all running totals in 0..max_total."""
    total = rng.randint(10, mixture.max_total)
    terms = [total]
    for _ in range(rng.choice(mixture.term_counts) - 1):
        size = rng.choice((10, 20, 30)) if rng.random() < mixture.tens_share else rng.randint(2, 9)
        signs = [sign for sign in (1, -1) if 0 <= total + sign * size <= mixture.max_total]
        terms.append(rng.choice(signs) * size)
        total += terms[-1]
    return Problem(tuple(terms))


def draw_problems(rng: random.Random, mixture: Mixture, count: int, exclude: set[Problem]) -> list[Problem]:
    """`count` different problems, none in `exclude`."""
    found: dict[Problem, None] = {}
    while len(found) < count:
        problem = draw_problem(rng, mixture)
        if problem not in exclude:
            found[problem] = None
    return list(found)


def question(rng: random.Random, problem: Problem) -> str:
    """The user's message."""
    return f"{rng.choice(ASKS).format(problem.expression)} {INSTRUCTION}"


def worked_steps(problem: Problem, slip_at: int | None, slip: int) -> tuple[list[str], int]:
    """The steps `a+b=c` and the final total; step `slip_at` is off by `slip`, the later ones follow."""
    total, steps = problem.terms[0], []
    for index, term in enumerate(problem.terms[1:]):
        result = total + term + (slip if index == slip_at else 0)
        steps.append(f"{total}{term:+d}={result}")
        total = result
    return steps, total


def draw_slip(rng: random.Random, problem: Problem, rate: float) -> tuple[int | None, int]:
    """Where and by how much a solution slips; a slip that would make a total negative is turned positive."""
    if rng.random() >= rate:
        return None, 0
    slip_at, slip = rng.randrange(len(problem.terms) - 1), rng.choice(SLIPS)
    totals = [sum(problem.terms[: index + 2]) for index in range(slip_at, len(problem.terms) - 1)]
    return slip_at, slip if min(totals) + slip >= 0 else abs(slip)


def careful_solution(rng: random.Random, problem: Problem, mixture: Mixture) -> str:
    """Every step, joined by connectives."""
    steps, total = worked_steps(problem, *draw_slip(rng, problem, mixture.careful_slip_rate))
    text = rng.choice(CAREFUL_OPENERS) + steps.pop(0)
    if text.startswith(("Because", "Since")):
        text += ", we have " + steps.pop(0)
    text += "".join(rng.choice(CAREFUL_JOINERS) + step for step in steps)
    return text + rng.choice(CAREFUL_CLOSERS).format(f"\\boxed{{{total}}}")


def hasty_solution(rng: random.Random, problem: Problem, mixture: Mixture) -> str:
    """Steps in loose wording; mostly the last term is left out."""
    if rng.random() < mixture.hasty_skip_rate:
        problem = Problem(problem.terms[:-1])
    steps, total = worked_steps(problem, *draw_slip(rng, problem, mixture.hasty_slip_rate))
    text = rng.choice(HASTY_OPENERS) + steps[0]
    text += "".join(rng.choice(HASTY_JOINERS) + step for step in steps[1:])
    return text + rng.choice(HASTY_CLOSERS).format(f"\\boxed{{{total}}}")


def guessed_solution(rng: random.Random, problem: Problem, mixture: Mixture) -> str:
    """A bare box, right with probability `guess_right_rate`, otherwise any other total in range."""
    guess = problem.answer
    if rng.random() >= mixture.guess_right_rate:
        guess = rng.choice([n for n in range(mixture.max_total + 1) if n != problem.answer])
    return rng.choice(GUESSES).format(f"\\boxed{{{guess}}}")


def draw_solution(rng: random.Random, problem: Problem, mixture: Mixture, careful_share: float) -> str:
    """One solution, careful with that probability; the other manners are in the mixture's proportion."""
    if rng.random() < careful_share:
        return careful_solution(rng, problem, mixture)
    if rng.random() < mixture.guess_share / (1 - mixture.careful_share):
        return guessed_solution(rng, problem, mixture)
    return hasty_solution(rng, problem, mixture)
