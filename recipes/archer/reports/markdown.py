"""A report as Markdown, with the picture beside it."""

import re
from collections.abc import Iterable, Sequence

from recipes.archer.evaluation.tables import HEADINGS, NOTE
from recipes.archer.printable import printable
from recipes.archer.reports.content import Content
from recipes.archer.reports.provenance import COURSE_HEADINGS
from recipes.archer.reports.samples import StepSamples, grade_text, outcome
from recipes.archer.reports.text import shortened

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def as_markdown(content: Content, picture: str) -> str:
    """The report as Markdown; ``picture`` is the name of the curves' file beside it."""
    known = dict(content.provenance)
    names = ("experiment", "status", "steps", "took", "device")
    facts = " · ".join(f"{name} {plain(known[name])}" for name in names if name in known)
    judgement = content.judgement
    blocks = [f"# {plain(content.title)}", f"**{plain(judgement.state)}**: {plain(judgement.reason)}", facts]
    if judgement.findings:
        rows = [
            (f.state, f.criterion, f.seen, "" if f.since is None else str(f.since), f.contingency or "")
            for f in judgement.findings
        ]
        blocks += ["## Verdicts", table(("", "criterion", "what was seen", "since step", "what to try"), rows)]
    blocks += ["## Curves", f"![Curves of the run over its steps]({picture})"]
    if content.courses:
        blocks += ["## Courses", table(COURSE_HEADINGS, content.courses)]
    blocks += ["## Figures"]
    if content.figures:
        blocks += [table(("", "first", "best", "last"), content.figures), plain(content.best_title)]
    else:
        blocks += ["No step has been recorded."]
    if content.evaluations or content.evaluations_left_out:
        shown = [table(HEADINGS, content.evaluations), NOTE] if content.evaluations else []
        blocks += ["## Evaluations", *shown, *map(plain, content.evaluations_left_out)]
    if judgement.plan:
        blocks += ["## Plan", _facts(judgement.plan)]
    blocks += ["## Responses", *_samples(content.samples)]
    blocks += ["## Settings", _facts(content.settings)] if content.settings else []
    blocks += ["## Provenance", _facts(content.provenance)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _samples(steps: Sequence[StepSamples]) -> list[str]:
    if not steps:
        return ["None were kept."]
    blocks = []
    for step in steps:
        counts = ", ".join(f"{number} {plain(name)}" for name, number in step.counts.items()) or "none"
        blocks += [f"### {plain(step.title)}", f"Of the responses kept: {counts}."]
        for row in step.rows:
            blocks += [f"**{plain(outcome(row))}** · {plain(grade_text(row))}"]
            blocks += [fenced(printable(row.get(name) or "(empty)")) for name in ("prompt", "response")]
    return blocks


def plain(text: str) -> str:
    """Text in which nothing is Markdown or HTML, on one line."""
    return " ".join(_SPECIAL.sub(r"\\\1", text).split())


def fenced(text: str) -> str:
    """Text as a code block, with a fence that it does not hold itself."""
    text = shortened(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain texts."""
    lines = [headings, ["---"] * len(headings), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {plain(name)}: {plain(text)}" for name, text in lines)
