"""The grading pool: right verdicts, and one bad row costs that row alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recipes.archer.grading import grader
from recipes.archer.grading.grader import GradingError, GradingPool, grade
from recipes.archer.grading.worker import load_function

TIMEOUT_S = 1.0
# The machine may be busy: seconds granted on top of what is computed.
SLACK_S = 10.0
# Passes the input limits and takes all the steps that a comparison may take, or the deadline.
HANGS = r"\sum_{k=1}^{\infty}\sum_{j=1}^{\infty}\sum_{m=1}^{\infty}\frac{\sin k\cos j}{k^2j^2m^2}"
FUNCTIONS = str(Path(__file__).with_name("data") / "reward_functions.py")


def box(answer: str) -> str:
    return rf"so \boxed{{{answer}}}"


@pytest.fixture(scope="module")
def pool():
    with GradingPool(2, TIMEOUT_S) as pool:
        yield pool


@pytest.fixture(scope="module")
def strict_pool():
    with GradingPool(1, TIMEOUT_S, reject_restated=True) as pool:
        yield pool


def wait_for(condition, seconds=SLACK_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(
    ("response", "ground_truth", "outcome"),
    [
        (box(r"\frac{6}{8}"), "0.75", "correct"),
        (box("(1+i)^2"), "2i", "correct"),
        (box(r"12.5\%"), r"12.5\%", "correct"),
        (box("x=5"), 5, "correct"),
        (box("0.5"), ["1/3", "1/2"], "correct"),
        (box("3 \\text{ hours}"), r"it is \boxed{3}", "correct"),
        (box("42"), "43", "wrong"),
        (box(r"2\cdot 10^{-8}"), r"3\cdot 10^{-8}", "wrong"),
        ("the answer is 42", "42", "no_answer"),
        (box(r"\frac{1}{"), "1", "no_answer"),
        (box("x +* ) y"), "1", "unparseable"),
        (box("9!!!"), "1", "unparseable"),
        (box(HANGS), "1", "timeout"),
    ],
)
def test_outcomes(pool, response, ground_truth, outcome):
    [result] = pool.grade_batch([response], [ground_truth])
    assert result.outcome == outcome
    assert result.score == float(outcome == "correct")
    assert (result.answer is None) == (outcome == "no_answer")
    assert not result.skip


def test_grade_is_the_same_without_a_pool():
    assert grade(box("1/2"), "0.5").outcome == "correct"
    assert grade("it is 1/2", "0.5").outcome == "no_answer"
    assert grade("it is 1/2", "0.5", answer_format="any").outcome == "correct"
    with pytest.raises(ValueError, match="answer_format"):
        grade("", "1", answer_format="all")


def test_hostile_rows_cost_themselves_alone(pool):
    honest = [(box(rf"\frac{{{2 * n}}}{{6}}+\sqrt{{2}}"), rf"\sqrt{{2}}+\frac{{{n}}}{{3}}") for n in range(1, 14)]
    hostile = [
        HANGS, "9^{9^{9}}", "((9^{9999})^{9999})^{9999}", r"\binom{10000000000}{5000000000}", "(x+y+z)^{5000}",
        "((((9!)!)!)!)!", "9^{9^{9^{9^{9}}}}", "7" * 200_000, "(" * 20_000 + ")" * 20_000, "[" * 20_000,
        r"\frac{" * 20_000, "__import__('os').system('true')", "\x00\ud800",
    ]  # fmt: skip
    rows = [row for pair in zip(honest, [(box(text), "5") for text in hostile], strict=True) for row in pair]
    start = time.monotonic()
    grades = pool.grade_batch(*zip(*rows, strict=True))
    assert [result.outcome for result in grades[::2]] == ["correct"] * len(honest)
    assert {result.score for result in grades[1::2]} == {0.0}
    assert time.monotonic() - start < len(hostile) * TIMEOUT_S / 2 + SLACK_S


def test_a_batch_is_graded_while_its_owner_does_something_else(pool):
    start = time.monotonic()
    pending = pool.submit([box(HANGS + "+7"), box("1")], ["1", "1"])
    assert time.monotonic() - start < TIMEOUT_S / 2, "submit waited for the grader"
    assert not pending.done() and pending.num_done == 1
    with pytest.raises(TimeoutError, match="1 of 2 responses"):
        pending.result(timeout_s=0.01)
    assert [result.outcome for result in pending.result()] == ["timeout", "correct"]


def test_equal_questions_are_asked_once_and_remembered_but_not_a_timeout(pool):
    question = (r"\frac{10}{14}\pi", r"\frac{5}{7}\pi")
    pool.grade_batch([box(question[0])] * 3, [question[1]] * 3)
    assert pool._recall((question[0], (question[1],), False)).outcome == "correct"
    start = time.monotonic()
    grades = pool.grade_batch([box(HANGS + "+8")] * 6, ["1"] * 6)
    assert {result.outcome for result in grades} == {"timeout"}
    assert time.monotonic() - start < 3 * TIMEOUT_S, "the same hung check ran more than once"
    assert pool._recall((HANGS + "+8", ("1",), False)) is None


@pytest.mark.parametrize("ground_truth", [None, "", r"\frac{1}{", r"\frac{1}{0}", "9^{9^{9^{9}}}"])
def test_an_unreadable_ground_truth_is_skipped_with_one_warning(pool, ground_truth, caplog):
    pool._warned.clear()
    grades = pool.grade_batch([box("1"), box("2"), box("1")], [ground_truth, ground_truth, "1"])
    assert [(g.outcome, g.skip) for g in grades] == [("unparseable", True)] * 2 + [("correct", False)]
    assert len(caplog.records) == 1 and "ground truth" in caplog.text


def test_a_batch_has_a_budget_and_what_is_left_then_is_told(caplog):
    hostile = [box(HANGS + f"+{n}") for n in range(6)]
    honest = [box(rf"\sqrt{{{n}}}+1") for n in range(2, 8)]
    with GradingPool(1, 5.0, budget_s=0.5) as pool:
        pool.wait_until_ready()
        grades = pool.grade_batch(hostile + honest, ["1"] * 6 + [rf"1+\sqrt{{{n}}}" for n in range(2, 8)])
        assert pool.grade_batch(["no box", box("2")], ["1", "2"])[1].outcome == "correct", "the next batch has its own"
    assert [grade.outcome for grade in grades] == ["timeout"] * 6 + ["correct"] * 6
    spared = [grade for grade in grades if "were spent" in grade.note]
    assert 4 <= len(spared) <= 5 and "0.5 s of its batch" in spared[0].note
    assert caplog.text.count("0.5 s of worker time") == 1


@pytest.mark.parametrize(
    ("answer", "prompt", "ground_truth", "outcome"),
    [
        (r"513^2-487^2", r"Compute $513^2-487^2$.", "26000", "wrong"),
        (r"\binom{31}{28}", r"What is $\dbinom{31}{28}$?", "4495", "wrong"),
        (r"\sum_{k=1}^{10} k^2", r"Find $$\sum_{k=1}^{10}k^2.$$", "385", "wrong"),
        (r"\int_0^1 x^2\,dx", r"Evaluate $\int_0^1 x^2 dx$", r"\frac13", "wrong"),
        (r"\gcd(12,18)", r"Find $\gcd(12,18)$.", "6", "wrong"),
        (r"\frac{6}{8}", r"Simplify $\frac{6}{8}$.", r"\frac34", "wrong"),
        (r"\sqrt{12}", r"Simplify $\sqrt{12}$.", r"2\sqrt3", "wrong"),
        ("x^2-1", "Factor $x^2-1$.", "(x-1)(x+1)", "wrong"),
        ("(x-1)(x+1)", "Is $(x-1)(x+1)$ or $x^2-1$ factored?", "(x-1)(x+1)", "correct"),
        ("26000", r"Compute $513^2-487^2$.", "26000", "correct"),
        ("1/2", "A coin shows heads with probability 1/2. And tails?", r"\frac12", "correct"),
        (r"\frac{1}{2}", r"Let $p=\frac{1}{2}$. Find $1-p$.", "0.5", "correct"),
        ("n(n+1)/2", r"Is it $n(n+1)/2$?", r"\frac{n(n+1)}{2}", "correct"),
        ("3+4i", "Let $z=3+4i$. What is $z$?", "3+4i", "correct"),
    ],
)
def test_the_question_restated_is_no_answer_where_that_is_asked_for(
    pool, strict_pool, answer, prompt, ground_truth, outcome
):
    (grade,) = strict_pool.submit([box(answer)], [ground_truth], prompts=[prompt]).result()
    assert grade.outcome == outcome
    assert strict_pool.submit([box(answer)], [ground_truth]).result()[0].outcome == "correct", "without its prompt"
    assert pool.submit([box(answer)], [ground_truth], prompts=[prompt]).result()[0].outcome == "correct", "switched off"


def test_sequences_of_different_length_are_an_error(pool):
    with pytest.raises(ValueError):
        pool.submit([box("1")], [])
    assert pool.grade_batch([], []) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 1, "timeout_s": 0},
        {"workers": 1, "answer_format": "last"},
        {"workers": 1, "memory_mb": 1},
        {"workers": 1, "budget_s": 0},
    ],
)
def test_a_setting_out_of_range_is_named(settings):
    with pytest.raises(ValueError, match=next(reversed(settings))):
        GradingPool(**settings)


def test_a_users_reward_function_runs_inside_the_pool():
    kwargs = {"score_fn": (FUNCTIONS, "compute_score"), "score_fn_kwargs": {"bonus": 0.5}}
    with GradingPool(1, **kwargs, data_sources={"contest": "math"}) as pool:
        grades = pool.grade_batch(
            ["a", "b", box("2/4")],
            ["a", "a", "0.5"],
            data_sources=["x", "x", "contest"],
            extra_infos=[{"n": 1}] * 3,
        )
    assert [(g.score, g.outcome, g.answer) for g in grades] == [
        (1.5, "correct", "a"),
        (0.5, "wrong", "b"),
        (1.0, "correct", "2/4"),
    ]
    assert grades[0].extra["source"] == "x" and grades[0].extra["info"] == {"n": 1}


def test_a_data_source_is_mapped_and_an_unknown_one_is_mathematics():
    with GradingPool(1, data_sources={"mine": (FUNCTIONS, "compute_score")}) as pool:
        grades = pool.grade_batch([box("2/4")] * 2, ["0.5"] * 2, data_sources=["mine", "never heard of"])
    assert [grade.outcome for grade in grades] == ["wrong", "correct"]


def test_a_function_that_hangs_crashes_eats_memory_or_raises_costs_its_row(tmp_path, caplog):
    responses = ["ok", "sleep", "ok", "memory", "exit", "raise", "print", "start a process", "ok"]
    started = tmp_path / "pid"
    with GradingPool(1, TIMEOUT_S, memory_mb=512, score_fn=(FUNCTIONS, "misbehave")) as pool:
        grades = pool.grade_batch(responses, [[]] * len(responses), extra_infos=[str(started)] * len(responses))
    assert [grade.outcome for grade in grades] == [
        "correct", "timeout", "correct", "timeout", "timeout", "unparseable", "correct", "timeout", "correct",
    ]  # fmt: skip
    notes = [grade.note for grade in grades]
    assert "within 1 s" in notes[1] and "512 MiB" in notes[3] and "crashed (3)" in notes[4]
    assert "KeyError" in notes[5] and "KeyError" in caplog.text
    pid = int(started.read_text())
    assert wait_for(lambda: not psutil.pid_exists(pid)), "what the killed function started lives on"


def test_a_process_that_dies_after_its_answer_costs_no_row():
    with GradingPool(1, TIMEOUT_S, score_fn=(FUNCTIONS, "misbehave")) as pool:
        assert pool.grade_batch(["exit later"], [1])[0].outcome == "correct"
        time.sleep(0.5)
        assert pool.grade_batch(["ok"], [1])[0].outcome == "correct"


def test_a_function_that_always_fails_is_an_error_not_a_row_of_zeros():
    with (
        GradingPool(1, score_fn=(FUNCTIONS, "always_raise")) as pool,
        pytest.raises(GradingError, match="every row.*NotImplementedError: not today"),
    ):
        pool.grade_batch(["a", "b"], ["1", "1"])


@pytest.mark.parametrize("spec", ["no.such.module:function", (FUNCTIONS, "no_such_name"), ("/no/file.py", "f")])
def test_a_function_that_cannot_be_loaded_is_an_error(spec):
    with GradingPool(1, score_fn=spec) as pool, pytest.raises(GradingError, match="cannot start"):
        pool.grade_batch(["a"], ["1"])


def test_a_function_is_looked_for_in_python_files_only():
    with pytest.raises(ImportError, match="/etc/hostname is no Python file"):
        load_function(("/etc/hostname", "f"))


def test_processes_that_cannot_start_are_an_error_and_not_a_loop(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with GradingPool(1) as pool, pytest.raises(GradingError, match="died 3 times while starting"):
        pool.grade_batch([box("1/2")], ["0.5"])


def test_a_closed_pool_says_so_and_leaves_nothing_behind():
    pool = GradingPool(1, 60.0)
    pool.wait_until_ready()
    keeper = psutil.Process(pool._workers._keepers[0].process.pid)
    processes = [keeper, *keeper.children(recursive=True)]
    assert len(processes) == 2
    pending = pool.submit([box(HANGS), box("1/2")], ["1", "0.5"])
    pool.close()
    pool.close()
    with pytest.raises(GradingError, match="closed"):
        pending.result()
    for answer in ("1/2", "7", ""):  # judged or not by now; takes no judge; no answer
        with pytest.raises(GradingError, match="closed"):
            pool.submit([box(answer)], ["0.5"])
    assert wait_for(lambda: not any(process.is_running() for process in processes))


def test_a_pool_is_of_no_use_after_a_fork(pool, monkeypatch):
    monkeypatch.setattr(pool._workers, "_owner", os.getpid() + 1)
    with pytest.raises(GradingError, match="fork"):
        pool.submit([box("1/2+1/7")], ["0.5"])


def test_a_keeper_that_is_killed_is_replaced(pool):
    for keeper in list(pool._workers._keepers.values()):
        os.kill(keeper.process.pid, signal.SIGKILL)
        keeper.process.wait()
    grades = pool.grade_batch([box(f"{n}/7") for n in range(1, 5)], [f"{2 * n}/14" for n in range(1, 5)])
    assert [grade.outcome for grade in grades] == ["correct"] * 4


def test_a_keeper_that_is_killed_over_a_request_costs_no_row():
    """Somebody else killed it: a keeper does not look into requests. The row is asked again of another one."""
    with GradingPool(1, 3.0) as pool:
        pool.wait_until_ready()
        pending = pool.submit([box(HANGS), box("3/7+1/7")], ["1", "4/7"])
        time.sleep(0.3)  # the first is being checked
        os.kill(pool._workers._keepers[0].process.pid, signal.SIGKILL)
        grades = pending.result()
    assert [grade.outcome for grade in grades] == ["timeout", "correct"]
    assert "no verdict within" in grades[0].note or "more steps" in grades[0].note


@pytest.mark.timeout(60)
def test_a_keeper_that_is_stopped_costs_no_row():
    """It holds no deadlines any more, so the pool has one of its own; also over a request larger than a pipe."""
    with GradingPool(1, 3.0) as pool:
        pool.wait_until_ready()
        stopped = pool._workers._keepers[0]
        assert stopped.patience_s > 3 * 3.0
        stopped.patience_s = 0.2
        os.kill(stopped.process.pid, signal.SIGSTOP)
        (reply,) = pool._workers.ask_all([{"answer": "4/7", "forms": ["3/7+1/7"], "unread": "x" * 1_000_000}])
        assert reply["outcome"] == "correct"
        assert stopped.process.poll() == -signal.SIGKILL


OWNER = """
import sys, time
from recipes.archer.grading.grader import GradingPool
pool = GradingPool(1, 600.0)
pool.wait_until_ready()
pool.submit([r"\\boxed{\\sum_{k=1}^{\\infty}\\sum_{j=1}^{\\infty}\\frac{1}{k^2j^3}}"], ["1"])
time.sleep(0.5)
print(pool._workers._keepers[0].process.pid, flush=True)
time.sleep(600)
"""


def test_processes_die_with_a_parent_that_is_killed_while_they_hang():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    try:
        keeper = psutil.Process(int(owner.stdout.readline()))
        processes = [keeper, *keeper.children(recursive=True)]
        assert len(processes) == 2
    finally:
        owner.kill()
        owner.wait()
    assert wait_for(lambda: not any(process.is_running() for process in processes))


def test_grading_loads_no_torch_and_the_parent_no_sympy():
    for module, absent in (("grader", "torch sympy numpy"), ("worker", "torch numpy ray")):
        code = f"import sys, recipes.archer.grading.{module}; print(*set('{absent}'.split()) & set(sys.modules))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_the_pool_of_the_module_is_made_once_a_process(monkeypatch):
    first = grader._pool_of_this_process()
    assert grader._pool_of_this_process() is first
    monkeypatch.setattr(grader, "_own_pool", (os.getpid() + 1, first))
    second = grader._pool_of_this_process()
    second.close()
    assert second is not first, "a forked process would have waited for threads that it does not have"
