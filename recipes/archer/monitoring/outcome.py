"""Detectors of what comes out: guessed answers, repetition, groups without a signal, a lost score, slow steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from recipes.archer.monitoring.detector import ALARM, FINE, SUSPICIOUS, Detector, Finding, Progress, number
from recipes.archer.monitoring.stream import Baseline, Hold, Window
from recipes.archer.monitoring.verdicts import figure


@dataclass
class GuessingShortcut(Detector):
    """The score rises while correct responses shrink to a few tokens and connectives vanish: V1, and V2 at its end."""

    name, metric = "guessing_shortcut", "response_length/pos/mean"
    MEMORIES: ClassVar = ("_length", "_correct_words", "_words")
    WORDS: ClassVar = ("logical_connectives/pos/mean", "logical_connectives/mean")

    few: float = 25.0  # tokens
    shrunk: float = 0.25  # share of the start
    shrinking: float = 0.15  # share of the start that is suspicious at any length
    vanished: float = 0.35  # share of the start's connectives
    least_start: float = 50.0  # tokens: where responses were short from the start, nothing shrinks
    solved: float = 0.8  # a score that no guessing reaches

    def start(self) -> None:
        self._length, self._correct_words, self._words = Baseline(), Baseline(), Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        vanished = self._vanished(row)
        length = number(row, self.metric)
        if length is None:
            return None
        start = self._length.add(row["step"], length)

        def text() -> str:
            return f"correct responses of {figure(length)} tokens, {figure(start)} at the start"

        score, gain = progress.current, progress.gain
        if start < self.least_start or not vanished or score is None or gain is None or gain < progress.GAIN:
            return Finding(FINE, length, text)
        told = f"{text()}; few connectives are left, and {progress.metric} has risen by {figure(gain)}"
        if length <= self.few and length <= self.shrunk * start:
            return Finding(ALARM if score < self.solved else SUSPICIOUS, length, lambda: told)
        return Finding(SUSPICIOUS if length <= self.shrinking * start else FINE, length, lambda: told)

    def _vanished(self, row: Mapping[str, Any]) -> bool:
        """By the correct responses where they are told apart, else by all."""
        vanished = None
        for metric, baseline in zip(self.WORDS, (self._correct_words, self._words), strict=True):
            words = number(row, metric)
            if words is not None:
                start = baseline.add(row["step"], words)
                vanished = words < self.vanished * start if vanished is None else vanished
        return bool(vanished)


@dataclass
class Repetition(Detector):
    """Responses repeat themselves: V0's ended in rows of one character."""

    name, metric = "repetition", "repetition/ratio/mean"
    needed: ClassVar = "repetition/ratio/mean"
    MEMORIES: ClassVar = ("_start",)

    suspicious: float = 0.3
    suspicious_rise: float = 0.15  # above the start
    alarming: float = 0.5
    rise: float = 0.25

    def start(self) -> None:
        self._start = Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        ratio = number(row, self.metric)
        if ratio is None:
            return None
        start = self._start.add(row["step"], ratio)
        level = FINE
        if ratio > self.suspicious and ratio - start > self.suspicious_rise:
            repeats = ratio > self.alarming and ratio - start > self.rise
            level = ALARM if repeats and not progress.learned else SUSPICIOUS
        return Finding(level, ratio, lambda: f"{figure(ratio)} of the text, {figure(start)} at the start")


@dataclass
class NeverEnding(Detector):
    """Responses run to the cap from the first step on: the engine does not stop where the model ends its turn.

    That is no policy's fault, so that no learning excuses it; a policy that unlearns to end is judged by others.
    """

    name, metric = "never_ending", "response/ended/mean"
    needed: ClassVar = "response/ended/mean"
    STATE: ClassVar = (*Detector.STATE, "_ends")

    sustained: int = 3
    few: float = 0.05  # share of responses that end
    suspicious: float = 0.25

    def start(self) -> None:
        self._ends = False  # whether a step's responses have ended

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        ended = number(row, self.metric)
        if ended is None:
            return None
        self._ends = self._ends or ended > self.suspicious
        level = FINE if self._ends else ALARM if ended <= self.few else SUSPICIOUS
        cut = "" if level == FINE else ", the others are cut at the cap"
        return Finding(level, ended, lambda: f"{ended:.0%} of the responses end by a stop token{cut}")


@dataclass
class ValidGroupsDying(Detector):
    """Prompts stop being solved: V4 went from 62 valid groups of 64 to 1 in 14 steps, with 63 unsolved.

    Valid groups that vanish because every response is right are a success, and no finding.
    """

    name, metric = "valid_groups_dying", "batch/valid"
    needed: ClassVar = "batch/valid"
    MEMORIES: ClassVar = ("_recent",)
    STATE: ClassVar = (*Detector.STATE, "_best")

    alive: float = 0.2  # share of prompts solved at the best, below which nothing can die
    dead: float = 0.05  # share of prompts that are still solved
    dying: float = 0.25  # the same, against the best

    def start(self) -> None:
        self._recent, self._best = Window(3), 0.0

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        count, shares = number(row, self.metric), group_shares(row)
        if count is None or shares is None:
            return None
        valid, solved = shares
        self._best = best = max(self._best, self._recent.add(row["step"], solved))
        level = FINE
        if best >= self.alive:
            level = ALARM if solved <= self.dead else SUSPICIOUS if solved <= self.dying * best else FINE

        def text() -> str:
            solved_at_all = f"{solved:.0%} of the prompts are solved at least once, {best:.0%} at the best"
            return f"{solved_at_all}; {valid:.0%} are valid"

        return Finding(level, count, text)


@dataclass
class NoSignal(Detector):
    """No group is worth training on, for so long that nothing will change: V0's note gives it 100 steps."""

    name, metric = "no_signal", "batch/solve_none"
    needed: ClassVar = "batch/solve_none"

    sustained: int = 100
    suspicious_after: int = 30  # steps
    unsolved: float = 0.98  # share of prompts

    def start(self) -> None:
        self._suspicion = Hold(self.suspicious_after)

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        count, shares = number(row, self.metric), group_shares(row)
        if count is None or shares is None:
            return None
        _, solved = shares
        level = ALARM if 1 - solved >= self.unsolved else FINE
        return Finding(level, count, lambda: f"{solved:.0%} of the prompts are solved at least once")


def group_shares(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Shares of a step's prompts that are valid, and that are solved at least once; None without the counts."""
    valid, none = number(row, "batch/valid"), number(row, "batch/solve_none")
    if valid is None or none is None:
        return None
    total = valid + none + (number(row, "batch/solve_all") or 0.0)
    return (valid / total, 1 - none / total) if total else None


@dataclass
class ScoreLost(Detector):
    """What had been learned is gone: training past the peak is what costs."""

    name, metric = "score_lost", "reward/accuracy/mean"

    sustained: int = 10
    least: float = 0.1  # drop from the best
    kept: float = 0.7  # share of the best, below which it is suspicious
    lost: float = 0.5

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        metric, current, best = progress.metric, progress.current, progress.best
        if metric is None or current is None or best is None or number(row, metric) is None:
            return None

        def text() -> str:
            return f"{metric} {figure(current)}, {figure(best)} at its best (medians of 10 steps)"

        level = FINE
        if best - current > self.least and current < self.kept * best:
            level = ALARM if current < self.lost * best else SUSPICIOUS
        return Finding(level, current, text)


@dataclass
class StepTime(Detector):
    """Steps take many times as long as at the start; validation and saving are left out."""

    name, metric = "step_time", "timing_s/step"
    needed: ClassVar = "timing_s/step"
    MEMORIES: ClassVar = ("_recent", "_start")

    slow: float = 4.0  # times the start
    stuck: float = 10.0
    least: float = 60.0  # seconds: below, nobody waits
    least_stuck: float = 120.0

    def start(self) -> None:
        self._recent, self._start = Window(5), Baseline()

    def look(self, row: Mapping[str, Any], progress: Progress) -> Finding | None:
        seconds = number(row, self.metric)
        if seconds is None:
            return None
        seconds -= sum(number(row, f"timing_s/{part}") or 0.0 for part in ("testing", "save_checkpoint"))
        usual, start = self._recent.add(row["step"], seconds), self._start.add(row["step"], seconds)
        level = FINE
        if usual > max(self.least, self.slow * start):
            level = ALARM if usual > max(self.least_stuck, self.stuck * start) else SUSPICIOUS
        return Finding(level, usual, lambda: f"{figure(usual)} s, {figure(start)} s at the start")
