"""What the monitor says about a run, in the form that tables, pages and pictures need.

The one place of the reports that knows the monitor and the records.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from recipes.archer.ending import UserError
from recipes.archer.printable import printable
from recipes.archer.reports.drawing import Band
from recipes.archer.runs.folder import Run

NONE = "no verdict"


@dataclass(frozen=True)
class Finding:
    """One criterion or detector: its state, what it is about, what was seen, since when, and what to try."""

    state: str
    criterion: str
    seen: str
    since: int | None = None
    contingency: str = ""


@dataclass(frozen=True)
class Judgement:
    """A run's verdict.

    Attributes:
        state: ``healthy``, ``watch``, ``bad``, ``too early``, or ``no verdict`` where the monitor cannot judge.
        reason: one line.
        findings: all of them, the worst first.
        bands: the criteria as ranges of metrics.
        plan: (name, text) of the experiment's record; empty without one.
    """

    state: str
    reason: str
    findings: list[Finding] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    plan: list[tuple[str, str]] = field(default_factory=list)


def judge(run: Run) -> Judgement:
    """The verdict on the rows in the run folder, by the record in its configuration and the detectors."""
    from recipes.archer.experiments.records import record_in
    from recipes.archer.monitoring.monitor import judge as judge_rows
    from recipes.archer.monitoring.verdicts import worst_first

    try:
        record = record_in(run.config)
        monitor = judge_rows(run.rows, record, run.config)
    except UserError as problem:  # a folder of another version: all the rest of it is still worth showing
        return Judgement(NONE, printable(problem))
    verdicts = worst_first(monitor.verdicts)
    findings, told = [], set()
    for v in verdicts:
        advice = _to_try(v.contingency)
        shown = "as above" if advice in told else advice
        told |= {advice} - {""}
        findings.append(Finding(v.status, printable(v.criterion), printable(v.detail), v.since, shown))
    criteria = record.criteria if record else ()
    reason = _reason(verdicts, record)
    if monitor.passed_over:
        reason += f"; {monitor.passed_over:,} of {len(run.rows):,} rows were passed over"
    return Judgement(monitor.overall(), reason, findings, bands(criteria), _plan(record))


def state_of(run: Run) -> str:
    """The verdict's word: the guard's where it is of the run's last step, since judging a long run takes a while."""
    recorded = run.facts.get("verdict")
    if isinstance(recorded, dict) and run.rows and recorded.get("step") == run.rows[-1]["step"]:
        return printable(recorded.get("overall") or NONE)
    return judge(run).state


def _reason(verdicts: list, record) -> str:
    if not verdicts:
        return "no step has been recorded"
    basis = "" if record else "; by the detectors alone, its configuration carries no record"
    worst = verdicts[0]
    if worst.status in ("bad", "watch"):
        return printable(f"since step {worst.since}: {worst.criterion} ({worst.detail})") + basis
    return f"{sum(v.status == worst.status for v in verdicts)} of {len(verdicts)} verdicts {worst.status}{basis}"


def bands(criteria: Iterable) -> list[Band]:
    """The levels among the conditions of some criteria; a trend is no range of values."""
    found = []
    for criterion in criteria:
        sides = ((True, criterion.good), (False, criterion.bad))
        for good, condition in ((side, c) for side, conditions in sides for c in conditions if c.level):
            begin = condition.from_step if condition.at is None else condition.at
            level = condition.level
            found.append(Band(criterion.metric, good, level.low, level.high, begin, condition.at))
    return found


def _to_try(contingency: Iterable[dict]) -> str:
    return " ".join(_one_to_try(item["when"], item["what"], item["overrides"]) for item in contingency)


def _one_to_try(when: str, what: str, overrides: Iterable[str]) -> str:
    settings = " ".join(overrides)
    return printable(f"If {when}: {what.rstrip('.')}" + (f" ({settings})." if settings else "."))


def _plan(record) -> list[tuple[str, str]]:
    """What the record said before the run."""
    if record is None:
        return []
    lines = [(record.name, record.title), ("parent", record.parent or "none"), ("problem", record.problem)]
    lines.append(("hypothesis", record.hypothesis))
    lines += [(change.key, change.why) for change in record.changes]
    lines += [("if it fails", _one_to_try(c.when, c.what, c.overrides)) for c in record.contingency]
    return [(printable(name), printable(text)) for name, text in lines]
