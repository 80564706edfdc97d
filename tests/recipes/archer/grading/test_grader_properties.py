"""Properties of grading that hold for every input, and the bars on the list of pairs."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.archer.grading import grader
from recipes.archer.grading.answers import clean
from recipes.archer.grading.exact_match import exact_verdict
from recipes.archer.grading.grader import OUTCOMES, GradingPool
from recipes.archer.grading.limits import refusal

TIMEOUT_S = 0.5
# A check that the machine starves gets three times its timeout, and the machine may be busier than that.
LATEST_S = 3 * TIMEOUT_S + 5.0
WATCHED_JUDGE = str(Path(__file__).with_name("data") / "watched_judge.py")
JUDGED = Path(__file__).with_name("data") / "judged.tsv"
PAIRS = Path(__file__).resolve().parents[4] / "benchmarks" / "grading" / "pairs.jsonl"

FRAGMENTS = [
    r"\frac{", r"\sqrt{", r"\text{", r"\boxed{", r"\left(", r"\right)", r"\begin{pmatrix}", r"\end{pmatrix}",
    r"\\", r"\pi", r"\infty", r"\binom{", r"\sum_{k=1}^{", r"\int_0^1 ", r"\log_", r"\sin ", r"\cup ", r"\pm ",
    r"\%", r"^\circ", "{", "}", "(", ")", "[", "]", "^{", "^", "_", "!", "=", "<", ",", "+", "-", "*", "/", "|",
    "1", "2", "9", "99", "0.5", "x", "y", "i", "e", "$", " ", "\n", "</think>", "__import__('os')", "eval(", "open(",
    "\x00", "\ud800", "°", "½",
]  # fmt: skip
junk = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join), st.text(max_size=100))
atoms = st.sampled_from(["1", "2", "9", "99", "0.5", "x", "y", "i", "e", r"\pi", r"\infty", "50\\%", r"\text{odd}"])
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds("{}+{}".format, inner, inner),
        st.builds("({})({})".format, inner, inner),
        st.builds(r"\frac{{{}}}{{{}}}".format, inner, inner),
        st.builds(r"{{({})}}^{{{}}}".format, inner, inner),
        st.builds(r"\sqrt{{{}}}".format, inner),
        st.builds(r"\sin({})".format, inner),
        st.builds("({})!".format, inner),
        st.builds("{}={}".format, inner, inner),
        st.builds("({},{})".format, inner, inner),
        st.builds(r"\{{{},{}\}}".format, inner, inner),
        st.builds(r"\sum_{{k=1}}^{{{}}} {}".format, inner, inner),
    ),
    max_leaves=6,
)


def mostly(usual, otherwise):
    return st.integers(0, 3).flatmap(lambda n: usual if n else otherwise)


responses = mostly(expressions.map(r"\boxed{{{}}}".format), st.one_of(junk, junk.map(r"\boxed{{{}}}".format)))
odd = st.one_of(junk, st.integers(), st.floats(), st.none(), st.lists(junk, max_size=3), st.booleans())
truths = mostly(expressions, odd)
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def pool():
    with GradingPool(2, TIMEOUT_S) as pool:
        pool.wait_until_ready()
        yield pool


@pytest.fixture
def grade(pool, monkeypatch):
    """`grade` with a short deadline."""
    monkeypatch.setattr(grader, "_pool_of_this_process", lambda: pool)
    return grader.grade


@given(response=responses, ground_truth=truths, answer_format=st.sampled_from(["boxed", "any"]))
@settings(parent=quick, max_examples=100)
def test_no_input_makes_grade_raise_or_hang(grade, response, ground_truth, answer_format):
    start = time.monotonic()
    result = grade(response, ground_truth, answer_format=answer_format)
    assert time.monotonic() - start < LATEST_S
    assert result.outcome in OUTCOMES
    assert result.score == float(result.outcome == "correct")


HOSTILE = [
    "__import__('os').system('touch /tmp/owned')", r"\text{__import__('os').remove('/etc/passwd')}",
    "open('/etc/passwd').read()", r"\input{/etc/passwd}", r"\write18{touch /tmp/owned}", "exec('x=1')",
    r"\operatorname{eval}(1)", "(lambda: 1)()", r"x_{__import__('os')}", r"\variable{open('x','w')}",
    "sympify('1')", r"\mathrm{exit}()", "a.__class__.__bases__[0]", "'; import os; '", "${jndi:ldap://x}",
]  # fmt: skip


def test_the_judge_never_touches_files_processes_or_code():
    texts = [text for text in HOSTILE + [p["prediction"] for p in load_pairs()[::4]] if refusal(text) is None]
    with GradingPool(1, TIMEOUT_S, score_fn=(WATCHED_JUDGE, "judge")) as watched:

        def attempts(answers: list[str]) -> list:
            grades = watched.grade_batch([clean(answer) for answer in answers], [r"\frac{1}{2}"] * len(answers))
            assert not any(grade.failed for grade in grades), grades
            # Of a check that was killed none are known.
            return [grade.extra.get("attempts", []) for grade in grades]

        assert attempts(["open a file"])[0], "the recorder does not record"
        assert attempts(texts) == [[]] * len(texts)

        judged = st.one_of(expressions, junk).filter(lambda text: text.strip() and refusal(text) is None)

        @given(st.lists(judged, min_size=1, max_size=5))
        @quick
        def nothing_is_attempted(answers):
            assert not any(attempts(answers))

        nothing_is_attempted()


@given(st.data())
@settings(parent=quick, max_examples=10)
def test_a_grade_does_not_depend_on_order_or_on_other_rows(pool, data):
    pairs = load_pairs()
    rows = [pairs[n] for n in data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=6))]
    bad = {
        "gold": "1",
        "prediction": data.draw(st.sampled_from(["9!!", "9^{9^{9}}", r"\frac{", "\ud800", "(" * 99])),
    }
    rows.insert(data.draw(st.integers(0, len(rows))), bad)
    shuffled = data.draw(st.permutations(range(len(rows))))

    def outcomes(order) -> list[str]:
        pool._cache.clear()
        chosen = [rows[n] for n in order]
        grades = pool.grade_batch([rf"\boxed{{{r['prediction']}}}" for r in chosen], [r["gold"] for r in chosen])
        return [grade.outcome for grade in grades]

    straight = outcomes(range(len(rows)))
    assert outcomes(shuffled) == [straight[n] for n in shuffled]


integers = st.integers(-(10**15) + 1, 10**15 - 1)
small = st.integers(-30, 30)
positive = st.integers(0, 40)
rationals = st.one_of(
    st.one_of(small, integers).map(str),
    small.map(lambda n: f"{n:+d}"),
    positive.map(lambda n: f"{n:03d}"),
    st.builds(
        "{}\\{}{{{}}}{{{}}}".format,
        st.sampled_from(["", "-"]),
        st.sampled_from(["frac", "dfrac", "tfrac"]),
        positive,
        positive,
    ),
    expressions,
)


@given(st.lists(st.tuples(rationals, st.lists(rationals, min_size=1, max_size=2)), min_size=30, max_size=30))
@settings(parent=quick, max_examples=40)
def test_the_exact_path_never_differs_from_the_judge(pool, cases):
    decided = [(answer, forms, exact_verdict(answer, forms)) for answer, forms in cases]
    decided = [case for case in decided if case[2] is not None]
    replies = pool._workers.ask_all([{"answer": answer, "forms": forms} for answer, forms, _ in decided])
    for (answer, forms, verdict), reply in zip(decided, replies, strict=True):
        assert reply["outcome"] == ("correct" if verdict else "wrong"), (answer, forms)


def load_pairs() -> list[dict]:
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def test_recall_and_false_acceptances_on_the_list_of_pairs():
    """The one test of what the grader is for."""
    pairs = load_pairs()
    assert len(pairs) >= 700 and len({pair["category"] for pair in pairs}) == 23
    with GradingPool(2, 5.0) as pool:
        responses = [rf"\boxed{{{pair['prediction']}}}" for pair in pairs]
        grades = pool.grade_batch(responses, [pair["gold"] for pair in pairs])
    assert not any(grade.outcome == "timeout" for grade in grades)
    accepted = [pair for pair, grade in zip(pairs, grades, strict=True) if grade.score]
    true_accepted = sum(pair["expected"] for pair in accepted)
    assert true_accepted / sum(pair["expected"] for pair in pairs) >= 0.985
    assert [(p["gold"], p["prediction"]) for p in accepted if not p["expected"]] == []


def test_every_kind_and_its_near_misses():
    rows = [line.split("\t") for line in JUDGED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(rows) > 800 and {verdict for verdict, *_ in rows} == {"right", "wrong"}
    with GradingPool(2, 5.0) as pool:
        grades = pool.grade_batch([rf"\boxed{{{answer}}}" for *_, answer in rows], [truth for _, truth, _ in rows])
    verdicts = ["right" if grade.score else "wrong" for grade in grades]
    assert [row for row, verdict in zip(rows, verdicts, strict=True) if row[0] != verdict] == []
    assert not any(grade.outcome == "timeout" for grade in grades)
