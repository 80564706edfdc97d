"""What of V0 to V5 a run shows, and how well it did; pure functions of what is kept of it.

Thresholds are the embedded job's, whose entropy starts at 0.2 to 0.3 nats and whose solutions have 30 to 60 tokens: the
detectors' are made for models of 2 to 10 nats (docs/monitoring.md).
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.study.memory import Kept

EDGE = 5  # steps at each end over which a median is taken
FALLEN, GROWN = 0.5, 1.5  # of the start
SHORTENED = 0.6  # right responses, of their length at the start
DYING = 0.25  # valid groups at the end, of the best step's
SWING = 0.5  # an oscillation's height over the median
WARM_UP = 10  # steps before a band is asked for


def collapse(run: Kept) -> bool:
    """V0, V2: entropy at the end below half of the start's."""
    start, end = edges(run, "actor/entropy")
    return end < FALLEN * start


def explosion(run: Kept) -> bool:
    """V1, V3: entropy at the end above 1.5 times the start's."""
    start, end = edges(run, "actor/entropy")
    return end > GROWN * start


def guessing(run: Kept) -> bool:
    """V1, V2: right responses that become short without the score being high."""
    start, end = edges(run, "response_length/pos/mean")
    _, score = edges(run, "reward/accuracy/mean")
    return end < SHORTENED * start and score < 0.5


def groups_dying(run: Kept) -> bool:
    """V3, V4: few groups with a signal, and not for being solved."""
    values = list(run.values("batch/valid").values())
    _, score = edges(run, "reward/accuracy/mean")
    return bool(np.median(values[-EDGE:]) <= DYING * max(values)) and score < 0.5


def oscillation(run: Kept) -> bool:
    """V4: entropy turns at least three times, each time by half of its median."""
    return turns(list(run.values("actor/entropy").values())) >= 3


SIGNS = {
    "collapse": collapse, "explosion": explosion, "guessing": guessing, "groups dying": groups_dying,
    "oscillation": oscillation,
}  # fmt: skip


def turns(values: Sequence[float], swing: float = SWING) -> int:
    """How often a series turns round by more than ``swing`` of its median: the turning points of a zigzag."""
    height = swing * float(np.median(values))
    count, direction, extreme = 0, 0, values[0]
    for value in values[1:]:
        if direction >= 0 and value > extreme or direction <= 0 and value < extreme:
            direction, extreme = direction or (1 if value > extreme else -1), value
        elif abs(value - extreme) > height:
            count, direction, extreme = count + 1, -direction, value
    return count


def held_out(run: Kept) -> list[float]:
    """Held-out accuracies in the order of the steps, the first before training."""
    return list(run.values("val/accuracy").values())


def at_end(run: Kept) -> float:
    """Held-out accuracy at the end; of a run that was lost, the last that was measured."""
    return held_out(run)[-1]


def at_best(run: Kept) -> float:
    """The highest held-out accuracy."""
    return max(held_out(run))


def within(run: Kept, low: float, high: float) -> float:
    """Share of the steps after the warm-up whose entropy is in the band; steps that a lost run lacks are outside."""
    entropy = run.values("actor/entropy")
    inside = sum(low <= value <= high for step, value in entropy.items() if step > WARM_UP)
    return inside / (run.steps - WARM_UP)


def start_entropy(run: Kept) -> float:
    """Median entropy of the first steps, nats."""
    return edges(run, "actor/entropy")[0]


def edges(run: Kept, key: str) -> tuple[float, float]:
    """Medians of a metric over the first and the last steps; NaN where there is no value."""
    values = list(run.values(key).values())
    if not values:
        return float("nan"), float("nan")
    return float(np.median(values[:EDGE])), float(np.median(values[-EDGE:]))
