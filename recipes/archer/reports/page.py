"""A report as one HTML file that needs nothing else: pictures inside, no scripts, nothing from a network."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from recipes.archer.evaluation.tables import HEADINGS, NOTE
from recipes.archer.printable import printable
from recipes.archer.reports.content import Content
from recipes.archer.reports.provenance import COURSE_HEADINGS
from recipes.archer.reports.samples import StepSamples, grade_text, outcome
from recipes.archer.reports.text import shortened
from recipes.archer.reports.verdict import Judgement

# Should an escape ever be forgotten, the browser still runs and fetches nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light; --line: #d8dde3; --soft: #f5f7f9; --quiet: #5a6572; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 1240px; background: #fff; color: #1b2430;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.quiet { color: var(--quiet); }
.state { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; border: 1px solid; font-weight: 600;
  white-space: nowrap; }
.good { color: #00563f; background: #e0f3ed; } .fair { color: #6b4a00; background: #fcf1d9; }
.poor { color: #8a2f00; background: #fbe6da; } .open { color: #3d4752; background: #eef1f4; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
thead th { background: var(--soft); overflow-wrap: normal; }
.verdicts { min-width: 46rem; } /* a narrow window scrolls rather than breaks every word */
.figures td + td, .figures th + th { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.trials td:first-child { white-space: nowrap; }
.facts th { font-weight: 500; color: var(--quiet); white-space: nowrap; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
article { border: 1px solid var(--line); border-radius: 6px; margin: .8rem 0; padding: .7rem .9rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; margin: .5rem 0 0; padding: .6rem .8rem;
  background: var(--soft); border-radius: 4px; max-height: 26rem; overflow: auto;
  font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
pre.prompt { background: #fff; border: 1px dashed var(--line); max-height: 12rem; }
summary { cursor: pointer; color: var(--quiet); }
@media print { pre { max-height: none; } article { break-inside: avoid; } }
"""
CLASSES = {
    **dict.fromkeys(("healthy", "good", "correct", "finished"), "good"),
    **dict.fromkeys(("watch", "unparseable", "timeout", "no_answer"), "fair"),
    **dict.fromkeys(("bad", "wrong", "failed"), "poor"),
}


def as_page(content: Content, picture: bytes) -> str:
    """The report as HTML.

    Args:
        picture: the curves as PNG.
    """
    body = [
        _header(content),
        _verdicts(content.judgement),
        f"<h2>Curves</h2>\n{image(picture, 'Curves of the run over its steps')}",
        _courses(content),
        _figures(content),
        _evaluations(content),
        facts("Plan", content.judgement.plan),
        _samples(content.samples),
        facts("Settings", content.settings),
        facts("Provenance", content.provenance),
        _config(content.config),
    ]
    return document(content.title, body)


def document(title: str, body: Iterable[str]) -> str:
    """A page of parts that are HTML already; the title is text."""
    head = (
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>"
    )
    shown = "\n".join(filter(None, body))
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{shown}\n</body>\n</html>\n'


def image(picture: bytes, alt: str) -> str:
    """A PNG inside the page; ``alt`` is text."""
    data = base64.b64encode(picture).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'


def state_mark(state: str) -> str:
    """A verdict or an outcome as a coloured word."""
    return f'<span class="state {CLASSES.get(state, "open")}">{escape(state)}</span>'


def _header(content: Content) -> str:
    known = dict(content.provenance)
    names = ("experiment", "status", "steps", "took", "device")
    known_facts = " · ".join(f"{name} {escape(known[name])}" for name in names if name in known)
    return (
        f"<header>\n<h1>{escape(content.title)}</h1>\n"
        f"<p>{state_mark(content.judgement.state)} {escape(content.judgement.reason)}</p>\n"
        f'<p class="quiet">{known_facts}</p>\n</header>'
    )


def _verdicts(judgement: Judgement) -> str:
    if not judgement.findings:
        return ""
    rows = [
        (
            state_mark(finding.state),
            escape(finding.criterion),
            escape(finding.seen),
            "" if finding.since is None else str(finding.since),
            escape(finding.contingency or ""),
        )
        for finding in judgement.findings
    ]
    heads = ("", "criterion", "what was seen", "since step", "what to try")
    return "<h2>Verdicts</h2>\n" + table(heads, rows, "verdicts")


def _courses(content: Content) -> str:
    if not content.courses:
        return ""
    rows = [tuple(escape(cell) for cell in line) for line in content.courses]
    return f"<h2>Courses</h2>\n{table(COURSE_HEADINGS, rows, 'verdicts')}"


def _figures(content: Content) -> str:
    if not content.figures:
        return "<h2>Figures</h2>\n<p>No step has been recorded.</p>"
    rows = [tuple(escape(cell) for cell in line) for line in content.figures]
    shown = table(("", "first", "best", "last"), rows, "figures")
    return f'<h2>Figures</h2>\n{shown}\n<p class="quiet">{escape(content.best_title)}</p>'


def _evaluations(content: Content) -> str:
    told = [f'<p class="quiet">{escape(line)}</p>' for line in content.evaluations_left_out]
    if content.evaluations:
        rows = [tuple(escape(cell) for cell in line) for line in content.evaluations]
        told = [table(HEADINGS, rows, "figures"), f'<p class="quiet">{NOTE}</p>', *told]
    return "\n".join(["<h2>Evaluations</h2>", *told]) if told else ""


def _samples(steps: Sequence[StepSamples]) -> str:
    if not steps:
        return "<h2>Responses</h2>\n<p>None were kept.</p>"
    return "<h2>Responses</h2>\n" + "\n".join(_step(step) for step in steps)


def _step(step: StepSamples) -> str:
    counts = ", ".join(f"{number} {escape(name)}" for name, number in step.counts.items()) or "none"
    responses = "\n".join(_response(row) for row in step.rows)
    return f'<h3>{escape(step.title)}</h3>\n<p class="quiet">Of the responses kept: {counts}.</p>\n{responses}'


def _response(row: dict) -> str:
    prompt, response = (printable(row.get(name) or "") for name in ("prompt", "response"))
    return (
        f'<article>\n<div>{state_mark(outcome(row))} <span class="quiet">{escape(grade_text(row))}</span></div>\n'
        f'<pre class="prompt" dir="auto">{_preformatted(prompt)}</pre>\n'
        f'<pre dir="auto">{_preformatted(response)}</pre>\n</article>'
    )


def _preformatted(text: str) -> str:
    # a line end right after <pre> would be dropped
    return "\n" + escape(shortened(text)) if text else "(empty)"


def facts(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """Lines of (name, text), none of them HTML, under a heading."""
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in lines)
    return f'<h2>{title}</h2>\n<div class="wide"><table class="facts">\n{rows}\n</table></div>' if rows else ""


def _config(config: str) -> str:
    if not config:
        return ""
    return f"<details>\n<summary>Whole configuration</summary>\n<pre>\n{escape(config)}</pre>\n</details>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
