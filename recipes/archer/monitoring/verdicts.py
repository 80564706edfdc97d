"""What the monitor says: one verdict for each criterion and detector, and one word for the run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GOOD, TOO_EARLY, NO_DATA, WATCH, BAD = "good", "too early", "no data", "watch", "bad"
HEALTHY = "healthy"
EXIT_CODES = {HEALTHY: 0, TOO_EARLY: 0, WATCH: 10, BAD: 20}
_ORDER = (BAD, WATCH, GOOD, TOO_EARLY, NO_DATA)


@dataclass(frozen=True)
class Verdict:
    """One criterion or detector on the run so far.

    Attributes:
        criterion: what was judged: a criterion in words, or a detector's name.
        metric: the metric that it is mainly about.
        status: ``good``, ``too early``, ``no data``, ``watch`` or ``bad``.
        detail: what was seen, in words.
        value: the metric's value that decided; None where there was none.
        step: of that value.
        since: the step at which it began; None unless the status is watch or bad.
        contingency: what the record says to try: mappings with ``when``, ``what`` and ``overrides``.
        goes: ``up`` or ``down``, as the metric has where it is bad for being high or low; None: that is not said.
    """

    criterion: str
    metric: str
    status: str
    detail: str = ""
    value: float | None = None
    step: int | None = None
    since: int | None = None
    contingency: tuple[dict[str, Any], ...] = ()
    goes: str | None = None

    def __str__(self) -> str:
        began = f" since step {self.since}" if self.since is not None else ""
        detector = self.criterion.isidentifier()  # a criterion's own words are in the detail
        text = f"{self.status}{began}: {self.criterion if detector else self.metric}"
        text += f" ({self.detail})" if self.detail else ""
        tries = [f"if {c['when']}: {c['what']} ({' '.join(c['overrides'])})" for c in self.contingency]
        return f"{text}; to try {'; or '.join(tries)}" if tries else text

    def to_dict(self) -> dict[str, Any]:
        """As JSON; a value that is not finite becomes text, which every reader takes."""
        value: float | str | None = self.value
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        return {**self.__dict__, "value": value, "contingency": list(self.contingency)}


def overall(verdicts: Iterable[Verdict]) -> str:
    """The worst status as a word for the run: ``bad``, ``watch``, ``healthy``, or ``too early`` to say anything."""
    worst = min((verdict.status for verdict in verdicts), key=_ORDER.index, default=NO_DATA)
    return {BAD: BAD, WATCH: WATCH, GOOD: HEALTHY}.get(worst, TOO_EARLY)


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Sorted by status, then by when it began."""
    return sorted(verdicts, key=lambda v: (_ORDER.index(v.status), v.since or 0))


def figure(value: float | None) -> str:
    """A value for the eye: three significant digits, whole numbers whole."""
    if value is None:
        return "–"
    if not abs(value) < 1e15:  # also NaN
        return f"{value:.3g}"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
