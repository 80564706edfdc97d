"""One evaluation from its plan to its scores; what is on disk already is neither drawn nor graded again."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recipes.archer.ending import UserError
from recipes.archer.evaluation.drawing import Drawn, Request, Responder
from recipes.archer.evaluation.figures import Answered, figures
from recipes.archer.evaluation.plan import Plan
from recipes.archer.evaluation.questions import Question, seeds_of
from recipes.archer.evaluation.responses import RESPONSES, SCORES, Response, ResponseFile, write_scores
from recipes.archer.evaluation.scores import METHOD
from recipes.archer.evaluation.stored import read_scores
from recipes.archer.evaluation.votes import Pair, majority
from recipes.archer.grading.grader import GradingError, GradingPool, PendingGrades
from recipes.archer.reading.regular import UnreadableError


class Progress(Protocol):
    """Is told how far an evaluation has come."""

    def __call__(self, num_done: int, num_correct: int) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """What is to be done.

    Attributes:
        plan: what the result depends on.
        folder: where responses and scores go.
        questions: of one file.
        tokenizer: the model's.
        labels: facts for scores.json besides: names of model and data, the step, whether the context sets the cap.
    """

    plan: Plan
    folder: Path
    questions: Sequence[Question]
    tokenizer: Any
    labels: dict[str, Any]

    @property
    def num_responses(self) -> int:
        return len(self.questions) * self.plan.sampling.n

    def finished(self) -> dict[str, Any] | None:
        """Its scores, where it was brought to its end before; otherwise None."""
        try:
            found = read_scores(self.folder / SCORES)
        except UnreadableError:
            return None
        # of another version they are reckoned again from the responses, as far as these are kept
        current = found.get("intervals") == METHOD and self.labels.keys() <= found.keys()
        kept = (self.folder / RESPONSES).exists()
        return found if found["plan"] == self.plan.facts and (current or not kept) else None

    def run(self, responder: Callable[[], Responder], pool: GradingPool, told: Progress) -> dict[str, Any]:
        """Draws and grades what is missing, then works out the scores.

        Args:
            responder: makes the engine, where there is something to draw.
            pool: the grading processes.
            told: is told of every response.

        Raises:
            UserError: the folder cannot be written, or a user's reward function fails (DiskFullError: no room).
        """
        places = {(q.key, sample): q for q in self.questions for sample in range(self.plan.sampling.n)}
        with ResponseFile(self.folder, places.keys()) as file:
            told(len(file.rows), sum(row.correct for row in file.rows.values()))
            if len(file.rows) < len(places):
                _Drawing(self, file, pool, told).draw(responder())
            rows = file.finish()
            scores = {**self.labels, **self._figures(rows, pool), "intervals": METHOD, "plan": self.plan.facts}
            write_scores(self.folder, scores)
        return scores

    def _figures(self, rows: Sequence[Response], pool: GradingPool) -> dict[str, Any]:
        n = self.plan.sampling.n
        groups = [rows[start : start + n] for start in range(0, len(rows), n)]  # finish has put them in this order
        worth = majority(groups, lambda pairs: _same(pairs, pool))
        return figures(
            [
                Answered(question.key, question.data_source, group, vote)
                for question, group, vote in zip(self.questions, groups, worth, strict=True)
            ],
            self.plan.sampling.max_tokens,
        )


class _Drawing:
    """Responses on their way from the engine through the grader to the disk."""

    def __init__(self, evaluation: Evaluation, file: ResponseFile, pool: GradingPool, told: Progress):
        self.evaluation, self.file, self.pool, self.told = evaluation, file, pool, told
        self.waiting: deque[tuple[list[tuple[Question, Drawn, str]], PendingGrades]] = deque()
        self.num_correct = sum(row.correct for row in file.rows.values())

    def draw(self, responder: Responder) -> None:
        questions, sampling = self.evaluation.questions, self.evaluation.plan.sampling
        seeds = seeds_of(questions, sampling.n, sampling.seed)
        wanted = [
            Request(number * sampling.n + sample, question.prompt_ids, int(seeds[number, sample]))
            for number, question in enumerate(questions)
            for sample in range(sampling.n)
            if (question.key, sample) not in self.file.rows
        ]
        for drawn in responder.respond(wanted, sampling, self.evaluation.plan.stop_token_ids):
            self._grade(drawn)
            while self.waiting and self.waiting[0][1].done():
                self._keep()
        while self.waiting:
            self._keep()

    def _grade(self, drawn: list[Drawn]) -> None:
        questions, n = self.evaluation.questions, self.evaluation.plan.sampling.n
        asked = [questions[response.number // n] for response in drawn]
        ids = [list(response.token_ids) for response in drawn]
        texts = self.evaluation.tokenizer.batch_decode(ids, skip_special_tokens=True)
        grades = self.pool.submit(
            texts,
            [question.ground_truth for question in asked],
            data_sources=[question.data_source for question in asked],
            extra_infos=[question.extra_info for question in asked],
        )
        self.waiting.append((list(zip(asked, drawn, texts, strict=True)), grades))

    def _keep(self) -> None:
        """The first batch's grades, waited for, and its rows to the disk."""
        batch, pending = self.waiting.popleft()
        try:
            grades = pending.result()
        except GradingError as error:
            raise UserError(f"grading ended: {error}") from None
        n = self.evaluation.plan.sampling.n
        rows = [
            Response(
                question=question.key,
                row=question.row,
                sample=response.number % n,
                text=text,
                tokens=len(response.token_ids),
                ended=response.ended,
                outcome=grade.outcome,
                answer=grade.answer,
            )
            for (question, response, text), grade in zip(batch, grades, strict=True)
        ]
        self.file.append(rows)
        self.num_correct += sum(row.correct for row in rows)
        self.told(len(self.file.rows), self.num_correct)


def _same(pairs: Sequence[Pair], pool: GradingPool) -> list[bool]:
    """Whether the grader takes the answers of each pair for the same."""
    if not pairs or not pool.is_mathematics(None):
        return [one == other for one, other in pairs]
    grades = pool.grade_batch([f"\\boxed{{{one}}}" for one, _ in pairs], [other for _, other in pairs])
    return [grade.outcome == "correct" for grade in grades]
