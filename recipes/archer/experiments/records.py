"""An experiment's record: why it was run, what to watch, what to try if it fails, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipes.archer.experiments.criteria import Criterion, parse_criterion
from recipes.archer.settings.strict_fields import Fields, RecordError

__all__ = [
    "Change", "Contingency", "Record", "RecordError", "Results", "parse_record", "record_in", "require_plan", "todo",
]  # fmt: skip

TODO = "TODO"
_STATED = ("parent", "date", "commit", "job", "results")  # null where there is none, but written down
_RECORD = ("name", "title", *_STATED, "problem", "hypothesis", "changes", "criteria", "contingency")
_RESULTS = ("steps", "hours", "outcome", "score_peak", "entropy_100", "valid_peak", "rows", "trends", "findings")


@dataclass(frozen=True)
class Change:
    """A configuration key that the experiment changes, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Contingency:
    """What to try if something goes wrong.

    Attributes:
        when: what goes wrong, in words.
        metrics: the metrics that show it; empty: any.
        what: what to try, in words.
        overrides: the same as Hydra overrides, which compose with the experiment.
        goes: ``up`` or ``down``, where it is meant for a metric that has gone that way only; None: either.
    """

    when: str
    metrics: tuple[str, ...]
    what: str
    overrides: tuple[str, ...]
    goes: str | None = None


@dataclass(frozen=True)
class Results:
    """What came of a run.

    Attributes:
        steps, hours: how long it ran; None where not recorded.
        outcome: one line.
        score_peak, entropy_100, valid_peak: for the summary of the search: score at its peak, entropy near step 100,
            valid groups at the score's peak; as text, since the search recorded some of them as ranges.
        rows: its figures as rows of metrics.jsonl.
        trends: (metric, how it went in words).
        findings: what was learned.
    """

    steps: int | None
    hours: float | None
    outcome: str
    score_peak: str | None
    entropy_100: str | None
    valid_peak: str | None
    rows: tuple[dict[str, Any], ...]
    trends: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """The record of one experiment.

    Attributes:
        name: the stem of its file.
        title: one line.
        parent: the experiment whose configuration it changes; None: the base configuration.
        date: day of the launch, ISO; None: not launched.
        commit: of the launch; None: not recorded.
        job: name of its cluster job; None: it runs where it is started.
        problem: what made it necessary; paragraphs.
        hypothesis: what is expected.
    """

    name: str
    title: str
    parent: str | None
    date: str | None
    commit: str | None
    job: str | None
    problem: str
    hypothesis: str
    changes: tuple[Change, ...]
    criteria: tuple[Criterion, ...]
    contingency: tuple[Contingency, ...]
    results: Results | None

    def contingency_for(self, metric: str, goes: str | None = None) -> tuple[dict[str, Any], ...]:
        """What to try when this metric is the trouble; everything where nothing is said of it.

        Args:
            goes: ``up`` or ``down``, as the metric has; None: that is not known.
        """
        named = [c for c in self.contingency if metric in c.metrics and fits(c, goes)]
        chosen = named or [c for c in self.contingency if not c.metrics] or self.contingency
        return tuple({"when": c.when, "what": c.what, "overrides": list(c.overrides)} for c in chosen)


def fits(contingency: Contingency, goes: str | None) -> bool:
    """Whether a contingency is meant for a metric that has gone that way."""
    return contingency.goes is None or goes is None or contingency.goes == goes


def record_in(config: Mapping[str, Any]) -> Record | None:
    """The record that a run's configuration carries; None without one.

    Raises:
        RecordError: it is not a record.
    """
    data = config.get("record")
    if data is None:
        return None
    from omegaconf import OmegaConf

    if OmegaConf.is_config(data):
        data = OmegaConf.to_container(data, resolve=True)
    return parse_record(data, "config: record")


def parse_record(data: Any, where: str) -> Record:
    """A record from a mapping.

    Args:
        data: plain mappings, lists and scalars.
        where: file and key, for errors.

    Raises:
        RecordError: naming ``where`` and the field.
    """
    fields = Fields(data, where, _RECORD)
    fields.stated(*_STATED)
    return Record(
        **{name: fields.get(name, str) for name in ("name", "title", "problem", "hypothesis")},
        **{name: fields.get(name, str, default=None) for name in ("parent", "date", "commit", "job")},
        changes=tuple(_parse_change(item, at) for item, at in _items(fields, "changes")),
        criteria=tuple(parse_criterion(item, at) for item, at in _items(fields, "criteria")),
        contingency=tuple(_parse_contingency(item, at) for item, at in _items(fields, "contingency")),
        results=_parse_results(fields.get("results", dict, default=None), f"{where}.results"),
    )


def todo(record: Record) -> list[str]:
    """Fields of a record that are still to be written."""
    texts = {name: getattr(record, name) for name in ("title", "problem", "hypothesis")}
    texts |= {f"changes: {change.key}": change.why for change in record.changes}
    gaps = [name for name, text in texts.items() if TODO in text]
    return gaps + [name for name in ("criteria", "contingency") if not getattr(record, name)]


def require_plan(record: Record) -> None:
    """Only what has been planned is launched.

    Raises:
        RecordError: the plan has gaps; names the file and the fields.
    """
    gaps = todo(record)
    if gaps:
        file = f"recipes/archer/config/experiment/{record.name}.yaml"
        raise RecordError(f"{file}: the plan is not written yet: {', '.join(gaps)}; write it, then launch")


def _items(fields: Fields, name: str) -> list[tuple[Any, str]]:
    return [(item, f"{fields.where}.{name}[{i}]") for i, item in enumerate(fields.get(name, list))]


def _parse_change(data: Any, where: str) -> Change:
    fields = Fields(data, where, ("key", "why"))
    return Change(fields.get("key", str), fields.get("why", str))


def _parse_contingency(data: Any, where: str) -> Contingency:
    fields = Fields(data, where, ("when", "metrics", "what", "overrides", "goes"))
    metrics, overrides = fields.get("metrics", list, default=[]), fields.get("overrides", list)
    if (goes := fields.get("goes", str, default=None)) not in (None, "up", "down"):
        raise fields.fail(f"has goes {goes!r:.200}; write up or down, or leave it out")
    if not all(isinstance(metric, str) for metric in metrics):
        raise fields.fail(f"has metrics {metrics!r:.200}; give their names")
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            raise fields.fail(f"has the override {override!r:.200}; write key=value")
    return Contingency(fields.get("when", str), tuple(metrics), fields.get("what", str), tuple(overrides), goes)


def _parse_results(data: Any, where: str) -> Results | None:
    if data is None:
        return None
    fields = Fields(data, where, _RESULTS)
    fields.stated(*_RESULTS)
    rows = fields.get("rows", list)
    for i, row in enumerate(rows):
        known = tuple(row) if isinstance(row, dict) else ("step",)
        Fields(row, f"{where}.rows[{i}]", known).get("step", int, least=1)
    steps = [row["step"] for row in rows]
    if steps != sorted(set(steps)):
        raise fields.fail(f"has rows of the steps {steps}; put them in order, each step once")
    trends = [Fields(item, at, ("metric", "trend")) for item, at in _items(fields, "trends")]
    return Results(
        steps=fields.get("steps", int, default=None, least=1),
        hours=fields.get("hours", float, default=None),
        outcome=fields.get("outcome", str),
        **{name: fields.get(name, str, default=None) for name in ("score_peak", "entropy_100", "valid_peak")},
        rows=tuple(dict(row) for row in rows),
        trends=tuple((t.get("metric", str), t.get("trend", str)) for t in trends),
        findings=tuple(fields.get("findings", list)),
    )
