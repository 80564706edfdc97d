"""The graders that are compared, each as a reward function; GradingPool runs them in processes.

Each is given the answer where it looks for it: in a box, or after `Answer:` for math_dapo.
"""

import time
from collections.abc import Callable


def _timed(check: Callable[[], bool]) -> dict:
    start = time.process_time()  # processor time: other work on the machine does not count
    accepted = bool(check())
    return {"score": float(accepted), "ms": 1000 * (time.process_time() - start)}


def verl_math(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """verl's string normalisation, from the MATH benchmark."""
    from verl.utils.reward_score import math

    return _timed(lambda: math.compute_score(rf"\boxed{{{solution_str}}}", ground_truth) > 0)


def verl_math_dapo(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """verl's normaliser of DAPO."""
    from verl.utils.reward_score import math_dapo

    return _timed(lambda: math_dapo.compute_score(f"Answer: {solution_str}", ground_truth)["acc"])


def verl_prime_math(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """verl's prime_math: PRM800K's comparison and SymPy."""
    from verl.utils.reward_score import prime_math

    return _timed(lambda: prime_math.compute_score(rf"\boxed{{{solution_str}}}", ground_truth)[0])


def math_verify_installed(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """math-verify with its defaults, as installed."""
    from math_verify import parse, verify

    def check() -> bool:
        return verify(parse(rf"\boxed{{{ground_truth}}}"), parse(rf"\boxed{{{solution_str}}}"))

    return _timed(check)


def math_verify_repaired(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """math-verify with its defaults, and a repair without which it fails on every percentage.

    latex2sympy2_extended 1.11.0 asks every atom for FUNC_GAMMA before it asks for PERCENT_NUMBER; its grammars for
    antlr 4.9.3, at which OmegaConf holds it, and 4.11 have no such method.
    """
    from latex2sympy2_extended.antlr_parser import PSParser

    if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
        PSParser.AtomContext.FUNC_GAMMA = lambda self: None
    return math_verify_installed(data_source, solution_str, ground_truth)


def archer(data_source, solution_str, ground_truth, extra_info=None) -> dict:
    """Ours without its processes, for the time of one check."""
    from recipes.archer.grading import judge
    from recipes.archer.grading.grades import Grade
    from recipes.archer.grading.rules import without_judge

    def check() -> bool:
        grade_or_question = without_judge(solution_str, ground_truth)
        if isinstance(grade_or_question, Grade):
            return grade_or_question.outcome == "correct"
        return judge.judge(*grade_or_question)["outcome"] == "correct"

    return _timed(check)


GRADERS = {
    "verl math": verl_math,
    "verl math_dapo": verl_math_dapo,
    "verl prime_math": verl_prime_math,
    "math-verify, as installed": math_verify_installed,
    "math-verify, percentages repaired": math_verify_repaired,
    "archer": archer,
}
