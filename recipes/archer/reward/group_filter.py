"""Which groups carry a signal: a group is the n responses to one prompt.

A group whose responses are all right or all wrong has no advantage to learn from.  What counts as right is
the grader's verdict (``metric: accuracy``).  ``metric: reward`` asks whether the *shaped* reward varies, as
runs V0-V5 did: sixteen wrong answers of which one was cut at the cap then count as a signal, and the other
fifteen wrong answers are taught with a positive advantage.
"""

from dataclasses import dataclass

import numpy as np

from recipes.archer.settings.learning import GROUP_METRICS


@dataclass(frozen=True)
class GroupVerdict:
    """What a batch of groups holds.

    Attributes:
        valid: (groups,) bool, which groups are trained on.
        solve_none, solve_all: number of groups without any, and with only, correct responses.
        num_groups: number of groups; always ``solve_none + solve_all + num_valid`` by accuracy.
    """

    valid: np.ndarray
    solve_none: int
    solve_all: int
    num_groups: int

    @property
    def num_valid(self) -> int:
        """Groups with both right and wrong responses, whatever the filter kept."""
        return self.num_groups - self.solve_none - self.solve_all

    @property
    def num_kept(self) -> int:
        return int(self.valid.sum())


def judge_groups(correct: np.ndarray, reward: np.ndarray, n: int, metric: str = "accuracy") -> GroupVerdict:
    """Sorts groups into solve_none, solve_all and valid, and says which are kept.

    Args:
        correct: (groups * n,) bool, the grader's verdicts, the n responses of a prompt side by side.
        reward: (groups * n,) float, the shaped rewards.
        n: responses a group, at least 1.
        metric: ``accuracy`` keeps groups with right and wrong responses; ``reward`` keeps groups whose
            shaped rewards differ.

    Raises:
        ValueError: unknown metric, or the rows are not whole groups.
    """
    if metric not in GROUP_METRICS:
        raise ValueError(
            f"algorithm.group_filter.metric={metric!r} is not known; use one of {', '.join(GROUP_METRICS)}"
        )
    if len(correct) % n or len(correct) != len(reward):
        raise ValueError(f"{len(correct)} verdicts and {len(reward)} rewards are not whole groups of {n}")
    correct = np.asarray(correct, dtype=bool).reshape(-1, n)
    none, every = ~correct.any(axis=1), correct.all(axis=1)
    if metric == "accuracy":
        valid = ~none & ~every
    else:
        rewards = np.asarray(reward, dtype=np.float64).reshape(-1, n)
        valid = rewards.max(axis=1) != rewards.min(axis=1)
    return GroupVerdict(valid=valid, solve_none=int(none.sum()), solve_all=int(every.sum()), num_groups=len(correct))


def groups_to_train_on(verdict: GroupVerdict, unreadable: np.ndarray, n: int, enable: bool = True) -> np.ndarray:
    """Numbers of the groups that are trained on.

    Args:
        unreadable: (groups * n,) bool, rows whose ground truth cannot be read: a bad row must not teach its group.
        enable: whether the filter is on; without it every readable group is kept.
    """
    readable = ~unreadable.reshape(-1, n).any(axis=1)
    return np.flatnonzero(verdict.valid & readable if enable else readable)


def rows_of(groups: np.ndarray, n: int) -> np.ndarray:
    """Row numbers of the given groups: (k,) group numbers to (k * n,) row numbers."""
    return (np.asarray(groups)[:, None] * n + np.arange(n)).reshape(-1)
