"""Detectors of the policy itself: its entropy, its distance from the reference, its gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, ClassVar

from recipes.archer.monitoring.detector import ALARM, FINE, SUSPICIOUS, Detector, Finding, Progress, number
from recipes.archer.monitoring.stream import Baseline, Window
from recipes.archer.monitoring.verdicts import figure


@dataclass
class EntropyCollapse(Detector):
    """Entropy vanishes and nothing has been learned: V0 fell from 2.9 to 0.07 in 71 steps."""

    name, metric = "entropy_collapse", "actor/entropy"
    goes: ClassVar = "down"
    needed: ClassVar = "actor/entropy"
    MEMORIES: ClassVar = ("_start",)

    floor: float = 0.1  # nats
    fallen: float = 0.1  # share of the start
    low: float = 0.25  # share of the start that is suspicious

    def start(self) -> None:
        self._start = Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        entropy = number(row, self.metric)
        if entropy is None:
            return None
        start = self._start.add(row["step"], entropy)
        collapsed = entropy < self.fallen * start or (entropy < self.floor and entropy < 0.5 * start)
        level = ALARM if collapsed else SUSPICIOUS if entropy < self.low * start else FINE

        def text() -> str:
            return f"{figure(entropy)} nats, {figure(start)} at the start"

        if level and progress.learned:
            told = f"{text()}; low, but {progress.metric} is {figure(progress.current)}"
            return Finding(FINE, entropy, lambda: told)
        return Finding(level, entropy, text)


@dataclass
class EntropyExplosion(Detector):
    """Entropy grows towards random text: absolutely, or against the start without anything learned."""

    name, metric = "entropy_explosion", "actor/entropy"
    goes: ClassVar = "up"
    needed: ClassVar = "actor/entropy"
    MEMORIES: ClassVar = ("_start",)

    ceiling: float = 9.5  # nats; V1 guessed at 8.4, a uniform choice among Qwen3's 151,936 tokens has 11.9
    grown: float = 3.0  # times the start
    high: float = 2.0  # times the start that is suspicious
    least: float = 1.0  # nats above the start, below which no factor counts

    def start(self) -> None:
        self._start = Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        entropy = number(row, self.metric)
        if entropy is None:
            return None
        start = self._start.add(row["step"], entropy)

        def text() -> str:
            return f"{figure(entropy)} nats, {figure(start)} at the start"

        if entropy > self.ceiling:
            return Finding(ALARM, entropy, text)
        if entropy < start + self.least or entropy < self.high * start:
            return Finding(FINE, entropy, text)
        if progress.learned:
            told = f"{text()}; high, but {progress.metric} is {figure(progress.current)}"
            return Finding(FINE, entropy, lambda: told)
        return Finding(ALARM if entropy > self.grown * start else SUSPICIOUS, entropy, text)


@dataclass
class EntropyOscillation(Detector):
    """Entropy swings to and fro within a few steps, as V4's did between 2.1 and 7.6.

    The swing is the distance between the 20th and 80th percentiles: lone spikes, up to a fifth of the rows, are none.
    """

    name, metric = "entropy_oscillation", "actor/entropy"
    needed: ClassVar = "actor/entropy"
    MEMORIES: ClassVar = ("_recent", "_start")

    sustained: int = 3
    steps: int = 24
    rows: int = 8  # fewer do not show an oscillation
    swing: float = 0.6  # share of the median
    suspicious_swing: float = 0.4
    least: float = 0.5  # nats; where the start is lower, that share of it
    turns: int = 3  # changes of direction over more than half of the swing

    def start(self) -> None:
        self._recent, self._start = Window(self.steps), Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        entropy = number(row, self.metric)
        if entropy is None:
            return None
        median = self._recent.add(row["step"], entropy)
        least = self.least * min(1.0, self._start.add(row["step"], entropy))
        count, (lowest, highest) = len(self._recent.items), self._recent.bounds

        def text() -> str:
            return f"between {figure(lowest)} and {figure(highest)} nats in {count} rows"

        usual = max(median, 1e-9)  # 1e-9: a policy without any entropy
        wide = max(least, self.suspicious_swing * usual)
        if count < max(2, self.rows) or highest - lowest < wide:  # the swing is smaller still
            return Finding(FINE, entropy, text)
        values = self._recent.values
        low, *_, high = quantiles(values, n=5, method="inclusive")
        turns = count_turns(values, 0.5 * (high - low))
        if high - low < wide or turns < self.turns:
            return Finding(FINE, entropy, text)
        level = ALARM if high - low >= self.swing * usual else SUSPICIOUS
        return Finding(level, entropy, lambda: f"{text()}, {turns} turns")


def count_turns(values: list[float], least: float) -> int:
    """How often a series turns round, counting only moves of more than ``least``."""
    turns, direction, extreme = 0, 0, values[0]
    for value in values[1:]:
        move = value - extreme
        if direction * move > 0 or (direction == 0 and abs(move) > least):
            direction, extreme = (1 if move > 0 else -1), value
        elif direction and abs(move) > least:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


@dataclass
class KlRunaway(Detector):
    """The policy has left the reference: V3's plan calls a KL above 5 bad."""

    name, metric = "kl_runaway", "actor/kl_loss"
    needed: ClassVar = "actor/kl_loss"
    MEMORIES: ClassVar = ("_recent",)

    high: float = 5.0
    runaway: float = 8.0  # bad whatever the score says; the k3 estimate of a token is cut at 10

    def start(self) -> None:
        self._recent = Window(5)

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        kl = number(row, self.metric)
        if kl is None:
            return None
        usual = self._recent.add(row["step"], kl)
        lost = usual > self.high and not progress.learned
        level = ALARM if lost or usual > self.runaway else SUSPICIOUS if usual > self.high else FINE
        rows = len(self._recent.items)
        return Finding(level, usual, lambda: f"{figure(usual)}, median of {rows} rows")


@dataclass
class GradientNorm(Detector):
    """The gradient grows out of proportion: V1's plan calls a norm above 10 unstable."""

    name, metric = "gradient_norm", "actor/grad_norm"
    needed: ClassVar = "actor/grad_norm"
    MEMORIES: ClassVar = ("_recent", "_start")

    high: float = 5.0
    suspicious_growth: float = 4.0  # times the start
    unstable: float = 10.0
    growth: float = 10.0

    def start(self) -> None:
        self._recent, self._start = Window(5), Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        norm = number(row, self.metric)
        if norm is None:
            return None
        usual, start = self._recent.add(row["step"], norm), self._start.add(row["step"], norm)
        level = FINE
        if usual > max(self.high, self.suspicious_growth * start):
            level = ALARM if usual > max(self.unstable, self.growth * start) else SUSPICIOUS
        return Finding(level, usual, lambda: f"{figure(usual)}, {figure(start)} at the start")


@dataclass
class ControlSaturated(Detector):
    """The entropy control stands at its limit and the entropy stays outside of its band: it has lost its hold."""

    name, metric = "control_saturated", "control/entropy/saturated"
    needed: ClassVar = "control/entropy/saturated"

    sustained: int = 20

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        saturated, entropy = number(row, self.metric), number(row, "actor/entropy")
        if saturated is None or entropy is None:
            return None
        low, high = number(row, "control/entropy/low"), number(row, "control/entropy/high")

        def text() -> str:
            return f"{figure(entropy)} nats, wanted between {figure(low)} and {figure(high)}"

        level = (SUSPICIOUS if progress.learned else ALARM) if saturated else FINE
        return Finding(level, saturated, text)
