"""Memory of a stream of values, as small as a checkpoint wants it: windows, start values, conditions that hold.

Nothing grows with the length of a run.
"""

from bisect import bisect_left, insort
from collections import deque
from statistics import median
from typing import Any, ClassVar


class Stateful:
    """An object whose whole state is the attributes that ``STATE`` names; the state is plain JSON."""

    STATE: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """The state, independent of the object."""
        return {name: _plain(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state that ``state_dict`` gave, also after it went through JSON.

        Raises:
            KeyError: it is of another kind of object.
        """
        for name in self.STATE:
            current, value = getattr(self, name), state[name]
            if isinstance(current, Stateful):
                current.load_state_dict(value)
            elif isinstance(current, deque):
                setattr(self, name, deque(tuple(item) for item in value))
            else:
                setattr(self, name, value)


class Window(Stateful):
    """The values of the last ``steps`` steps, at most that many."""

    STATE = ("items",)

    def __init__(self, steps: int):
        self.steps = steps
        self.items: deque[tuple[int, float]] = deque()
        self._sorted: list[float] = []  # the values again: a median at every step must not sort a window of 150

    def add(self, step: int, value: float) -> float:
        """Adds a later step's value, which is finite; returns the median of those that are in the window now."""
        items, ordered, last_gone = self.items, self._sorted, step - self.steps
        items.append((step, value))
        insort(ordered, value)
        while items[0][0] <= last_gone:
            _, old = items.popleft()
            del ordered[bisect_left(ordered, old)]
        middle, odd = divmod(len(ordered), 2)
        return ordered[middle] if odd else (ordered[middle - 1] + ordered[middle]) / 2

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.items]

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value, of at least one."""
        return self._sorted[0], self._sorted[-1]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._sorted = sorted(self.values)


class Baseline(Stateful):
    """The run's own start: median of what came within the first ``steps`` steps that had a value.

    Few steps, because a run may die within ten of them.
    """

    STATE = ("items", "value")

    def __init__(self, steps: int = 5):
        self.steps = steps
        self.items: deque[tuple[int, float]] = deque()
        self.value: float | None = None

    def add(self, step: int, value: float) -> float:
        """The start value, which moves only during the first steps."""
        if self.value is None or step < self.items[0][0] + self.steps:
            self.items.append((step, value))
            self.value = median(v for _, v in self.items)
        return self.value


class Hold(Stateful):
    """Whether something has held for long enough.

    It has when its last failure is at least ``sustained`` steps back and it held for ``rows`` rows since.  Rows that
    are further apart than ``sustained`` therefore each decide alone, which is what a sparse table of a run needs.
    """

    STATE = ("since", "count", "last_failure", "confirmed")

    def __init__(self, sustained: int = 1, rows: int = 1):
        self.sustained, self.rows = sustained, rows
        self.since: int | None = None  # first step of the present spell
        self.count = 0
        self.last_failure: int | None = None
        self.confirmed = False

    def update(self, step: int, holds: bool) -> bool:
        """Takes in one row; True when it has held for long enough."""
        if not holds:
            self.last_failure = step
            if self.count:
                self.since, self.count, self.confirmed = None, 0, False
            return False
        if self.last_failure is None:
            self.last_failure = step - 1  # what came before the first row is not known
        self.since = step if self.since is None else self.since
        self.count += 1
        self.confirmed = step - self.last_failure >= self.sustained and self.count >= self.rows
        return self.confirmed


def _plain(value: Any) -> Any:
    if isinstance(value, Stateful):
        return value.state_dict()
    return [list(item) for item in value] if isinstance(value, deque) else value
