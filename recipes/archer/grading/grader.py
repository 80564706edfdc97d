"""Responses and ground truths to grades, by the judge or a user's function, in killable processes."""

import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recipes.archer.grading.answers import ANSWER_FORMATS, GroundTruthError, extract_answer
from recipes.archer.grading.grades import OUTCOMES, Grade, PendingGrades
from recipes.archer.grading.limits import MAX_CHARS, costliness
from recipes.archer.grading.pool import Budget, GradingError, Workers
from recipes.archer.grading.rules import Question, judged, scored, without_judge

__all__ = [
    "DEFAULT_TIMEOUT_S", "MATHEMATICS", "OUTCOMES", "Grade", "GradingError", "GradingPool",
    "GroundTruthError", "PendingGrades", "grade",
]  # fmt: skip

DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 86_400.0  # a day
DEFAULT_MEMORY_MB = 2048
MIN_MEMORY_MB = 256  # the judge itself takes 80
MATHEMATICS = "math"  # in `data_sources`: the judge of this file
_NUM_CACHED = 100_000  # verdicts by (answer, accepted forms), some tens of MB at most
_EVERY_SOURCE = ""  # the name of `score_fn` among the functions

FunctionSpec = str | Sequence[str]

logger = logging.getLogger(__name__)


class GradingPool:
    """Grades batches of responses in `workers` processes.

    Lives as long as a run, inside a Ray worker or outside; its processes die with this one.

    Args:
        workers: processes, at least 1.
        timeout_s: seconds a single check may take before its process is killed.
        answer_format: `boxed`, or `any` (see `answers.extract_answer`).
        memory_mb: address space of one process in MiB; None for no limit.
        score_fn: a user's reward function for every row, as verl's `custom_reward_function` has it:
            `package.module:function` or (path of a file, name), called as
            `compute_score(data_source, solution_str, ground_truth, extra_info)`.
        score_fn_kwargs: further keyword arguments of `score_fn`.
        data_sources: data source to such a function, or to `math`. A source that is not in it is
            graded by `score_fn` if there is one, else as mathematics.
        budget_s: seconds of worker time for the checks of one batch; what is left then, which is the most
            expensive, is `timeout` at once. None for no such limit. Reward functions have none.
        reject_restated: whether an answer that is an unevaluated expression of its prompt is wrong, where
            prompts are given.

    Raises:
        ValueError: for a setting out of its range.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        answer_format: str = "boxed",
        memory_mb: int | None = DEFAULT_MEMORY_MB,
        score_fn: FunctionSpec | None = None,
        score_fn_kwargs: Mapping[str, Any] | None = None,
        data_sources: Mapping[str, FunctionSpec] | None = None,
        budget_s: float | None = None,
        reject_restated: bool = False,
    ):
        if answer_format not in ANSWER_FORMATS:
            raise ValueError(f"answer_format is {answer_format!r}: use one of {', '.join(ANSWER_FORMATS)}")
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s: use seconds above 0, at most {MAX_TIMEOUT_S:g}")
        if memory_mb is not None and memory_mb < MIN_MEMORY_MB:
            raise ValueError(f"memory_mb is {memory_mb}: use at least {MIN_MEMORY_MB}, or None for no limit")
        if budget_s is not None and not budget_s > 0:
            raise ValueError(f"budget_s is {budget_s}: use a number of seconds above 0, or None for no limit")
        functions = {_EVERY_SOURCE: score_fn or MATHEMATICS, **(data_sources or {})}
        self._sources = set(functions)
        self._functions = {
            source: spec if isinstance(spec, str) else list(spec)
            for source, spec in functions.items()
            if spec != MATHEMATICS
        }
        self._score_fn_kwargs = dict(score_fn_kwargs or {})
        self._answer_format, self._budget_s, self._reject_restated = answer_format, budget_s, reject_restated
        self._cache: OrderedDict[Question, Grade] = OrderedDict()
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        config = {"timeout_s": timeout_s, "memory_mb": memory_mb, "functions": self._functions}
        config["judge"] = MATHEMATICS in functions.values()
        self._workers = Workers(workers, config)
        self.close = weakref.finalize(self, self._workers.close)

    def __enter__(self) -> "GradingPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Returns once a process has loaded the judge. Raises `GradingError` when none can."""
        self._workers.wait_until_ready()

    def grade_batch(self, responses: Sequence[str], ground_truths: Sequence[Any], **columns: Any) -> list[Grade]:
        """`submit(…).result()`."""
        return self.submit(responses, ground_truths, **columns).result()

    def submit(
        self,
        responses: Sequence[str],
        ground_truths: Sequence[Any],
        *,
        data_sources: Sequence[str] | None = None,
        extra_infos: Sequence[Any] | None = None,
        answer_format: str | None = None,
        prompts: Sequence[str] | None = None,
    ) -> PendingGrades:
        """Starts to grade a batch and does not wait for it.

        Args:
            responses: what the model wrote.
            ground_truths: as `answers.accepted_forms` takes them; for a user's function, whatever it takes.
            data_sources: each row's, or None for mathematics.
            extra_infos: each row's, for a user's function.
            answer_format: in place of the pool's.
            prompts: each row's question, for `reject_restated`; without them nothing is taken for restated.

        Raises:
            ValueError: when the sequences differ in length.
            GradingError: when the pool is closed or has failed.
        """
        num_rows = len(responses)
        sources = [_EVERY_SOURCE] * num_rows if data_sources is None else data_sources
        extras = [None] * num_rows if extra_infos is None else extra_infos
        questions = [None] * num_rows if prompts is None or not self._reject_restated else prompts
        self._workers.check_usable()  # also for what takes no process: it would depend on what has been graded before
        pending = PendingGrades(num_rows)
        to_judge: dict[Question, list[tuple[int, str | None]]] = {}
        rows = zip(responses, ground_truths, sources, extras, questions, strict=True)
        for row, (response, ground_truth, source, extra, prompt) in enumerate(rows):
            function = self._function_for(source)
            if function is not None:
                arguments = {"data_source": source, "solution_str": response, "ground_truth": ground_truth}
                self._ask_function(pending, row, function, arguments | {"extra_info": extra})
                continue
            answer = extract_answer(response, answer_format or self._answer_format)
            grade_or_question = without_judge(answer, ground_truth, prompt)
            if isinstance(grade_or_question, Grade):
                self._settle(pending, row, grade_or_question, answer)
            else:
                to_judge.setdefault(grade_or_question, []).append((row, answer))
        budget = None if self._budget_s is None else Budget(self._budget_s, self._tell_spent)
        for question in sorted(to_judge, key=lambda question: costliness(question[0])):
            self._ask_judge(pending, question, to_judge[question], budget)
        return pending

    def _tell_spent(self) -> None:
        logger.warning(
            "the checks of a batch took their %g s of worker time: those left, the most expensive, count as timeouts",
            self._budget_s,
        )

    def _function_for(self, data_source: str | None) -> str | None:
        """The name of the user's function that grades a data source; None for mathematics."""
        name = data_source if data_source in self._sources else _EVERY_SOURCE
        return name if name in self._functions else None

    @property
    def functions(self) -> dict[str, FunctionSpec]:
        """Data source (the empty string: every other one) to the user's function that grades it."""
        return dict(self._functions)

    def is_mathematics(self, data_source: str | None) -> bool:
        """Whether rows of this source go to the judge, not to a user's reward function."""
        return self._function_for(data_source) is None

    def unreadable(self, ground_truths: Sequence[Any]) -> list[str | None]:
        """For each ground truth, why no answer can be graded against it; None where one can."""
        verdicts = [without_judge("0", ground_truth) for ground_truth in ground_truths]
        questions = {verdict[1] for verdict in verdicts if not isinstance(verdict, Grade)}
        replies = self._workers.ask_all([{"forms": forms} for forms in questions])
        reasons = {}
        for forms, reply in zip(questions, replies, strict=True):
            each = reply.get("reasons", [reply.get("note")])
            reasons[forms] = each[0] if all(each) else None
        return [
            (verdict.note if verdict.skip else None) if isinstance(verdict, Grade) else reasons[verdict[1]]
            for verdict in verdicts
        ]

    def _settle(self, pending: PendingGrades, row: int, grade: Grade, answer: str | None) -> None:
        if grade.skip:
            self._warn_once(grade.note, "its rows get no grade; correct the data, or drop them")
        pending.settle(row, grade if answer is None else replace(grade, answer=answer[:MAX_CHARS]))

    def _warn_once(self, note: str, remedy: str) -> None:
        with self._lock:
            known = note in self._warned
            self._warned.add(note)
        if not known:
            logger.warning("%s: %s", note, remedy)

    def _ask_judge(
        self, pending: PendingGrades, question: Question, places: list[tuple[int, str | None]], budget: Budget | None
    ) -> None:
        def receive(reply: dict[str, Any] | BaseException) -> None:
            if isinstance(reply, BaseException):
                return pending.fail(reply)
            grade = judged(reply)
            if grade.outcome != "timeout":  # that one may be the machine's fault
                self._remember(question, grade)
            for row, answer in places:
                self._settle(pending, row, grade, answer)

        known = self._recall(question)
        if known is None:
            message = {"answer": question[0], "forms": question[1], "restated": question[2]}
            self._workers.submit(message, receive, budget)
            return
        for row, answer in places:
            self._settle(pending, row, known, answer)

    def _ask_function(self, pending: PendingGrades, row: int, function: str, arguments: dict[str, Any]) -> None:
        def receive(reply: dict[str, Any] | BaseException) -> None:
            if isinstance(reply, BaseException):
                return pending.fail(reply)
            grade = scored(reply)
            if grade.failed:
                self._warn_once(grade.note, "the row scores 0; correct the function")
            pending.settle(row, grade)

        kwargs = self._score_fn_kwargs if function == _EVERY_SOURCE else {}
        self._workers.submit({"function": function, "arguments": arguments | kwargs}, receive)

    def _recall(self, question: Question) -> Grade | None:
        with self._lock:
            if question in self._cache:
                self._cache.move_to_end(question)
            return self._cache.get(question)

    def _remember(self, question: Question, grade: Grade) -> None:
        with self._lock:
            self._cache[question] = grade
            if len(self._cache) > _NUM_CACHED:
                self._cache.popitem(last=False)


_own_pool: tuple[int, GradingPool] | None = None
_own_pool_lock = threading.Lock()


def _pool_of_this_process() -> GradingPool:
    global _own_pool
    with _own_pool_lock:
        if _own_pool is None or _own_pool[0] != os.getpid():  # a fork has the pool, but not its threads
            _own_pool = (os.getpid(), GradingPool(1))
        return _own_pool[1]


def grade(response: str, ground_truth: object, *, answer_format: str = "boxed") -> Grade:
    """Grades one response. Never hangs and never raises on what a model wrote.

    The check runs in a process of its own, which the first call starts (1 to 2 s) and which is killed
    after `DEFAULT_TIMEOUT_S`. For batches use `GradingPool`.

    Args:
        response: any text.
        ground_truth: a string, a number or a list of accepted forms, boxed or not.
        answer_format: `boxed`, or `any` (see `answers.extract_answer`).

    Raises:
        ValueError: for an unknown `answer_format`.
        GradingError: when no grading process can start.
    """
    pending = _pool_of_this_process().submit([response], [ground_truth], answer_format=answer_format)
    return pending.result()[0]
