"""Majority voting: what the most frequent answer to a question is worth; the grader says which answers are equal."""

from collections import Counter
from collections.abc import Callable, Sequence

from recipes.archer.evaluation.responses import Response
from recipes.archer.grading.answers import clean

Pair = tuple[str, str]
Equal = Callable[[Sequence[Pair]], Sequence[bool]]  # of each pair of answers, whether they are the same
_PARSED = ("wrong",)  # outcomes whose answers can equal another that is written otherwise


def majority(questions: Sequence[Sequence[Response]], equal: Equal) -> list[float]:
    """What each question's vote is worth: 1 if the right answer won, 0 if it lost, its share of a tie.

    Responses without an answer do not vote. Right answers are one group; wrong ones, which cannot equal those, are
    compared only where together they could outvote them.

    Args:
        questions: the responses to each.
        equal: asked for several pairs at a time.
    """
    votes = [_Vote(responses) for responses in questions]
    while undecided := [vote for vote in votes if vote.open]:
        pairs = [(vote, other) for vote in undecided for other in vote.others()]
        verdicts = iter(equal([(other, vote.first) for vote, other in pairs]))
        same = [(vote, other) for (vote, other), verdict in zip(pairs, verdicts, strict=True) if verdict]
        for vote in undecided:
            vote.close_group([other for of, other in same if of is vote])
    return [vote.worth for vote in votes]


class _Vote:
    """One question's vote while its wrong answers are being grouped."""

    def __init__(self, responses: Sequence[Response]):
        self.right = sum(response.correct for response in responses)
        self.groups: list[int] = []  # sizes of the groups of wrong answers that are closed
        wrong = [r for r in responses if not r.correct and r.answer is not None]
        self.left: Counter[str] = Counter(clean(r.answer) for r in wrong if r.answer is not None)
        self.parsed = {clean(r.answer) for r in wrong if r.answer is not None and r.outcome in _PARSED}

    @property
    def open(self) -> bool:
        """Whether the answers not grouped yet could still change what the vote is worth."""
        ahead = max(self.groups, default=0)
        return 0 < self.right <= self.left.total() and ahead <= self.right

    @property
    def first(self) -> str:
        """The answer whose group is sought: of those left, the one that comes first."""
        return next(iter(self.left))

    def others(self) -> list[str]:
        """What the first might equal."""
        return [text for text in self.left if text != self.first and {text, self.first} <= self.parsed]

    def close_group(self, same: Sequence[str]) -> None:
        """The first answer's group: itself, and those."""
        self.groups.append(sum(self.left.pop(text) for text in (*same, self.first)))

    @property
    def worth(self) -> float:
        ahead = max(self.groups, default=0)
        if not self.right or ahead > self.right:
            return 0.0
        return 1 / (1 + self.groups.count(self.right))
