"""A search as one HTML file that needs nothing else: what was searched, the trials, what each setting accounts for."""

from html import escape
from pathlib import Path

from recipes.archer.files import refuse_link, write_atomically
from recipes.archer.printable import printable
from recipes.archer.reports.page import document, facts, image, state_mark, table
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.pictures import histories_png, importances_png, parallel_png
from recipes.archer.search.plan import Plan, plan_text
from recipes.archer.search.table import Line, standing, summary_headings

PAGE = "report.html"
IMPORTANCE = "How much each decides whether a trial is in the better half (PED-ANOVA); few trials say little."
TOO_FEW = "It takes three trials that have ended with different values."


def write_page(folder: SearchFolder, out: Path | None = None) -> Path:
    """Writes the page of a search as it stands.

    Args:
        out: the file; None: report.html in the search's folder.

    Raises:
        UserError: there is no such search, or what is to be written is a link.
        OSError: it cannot be written.
    """
    now = standing(folder)
    plan, lines, importances = now.plan, now.lines, now.study.importances()
    spent, *told = now.sentences
    body = [
        f"<header>\n<h1>{escape(printable(f'Search {plan.name}'))}</h1>",
        *(f"<p>{escape(printable(sentence))}</p>" for sentence in told),
        f'<p class="quiet">{escape(spent)}</p>\n</header>',
        "<h2>Trials</h2>\n" + _summary(plan, lines),
        "<h2>Confirmed with fresh seeds</h2>\n" + _summary(plan, now.again) if now.again else "",
        f"<h2>Histories</h2>\n{image(histories_png(plan, lines), 'The metric of every run')}" if lines else "",
        f"<h2>Settings and their results</h2>\n{image(parallel_png(plan, now.axes, now.study.trials, lines), 'Trials')}"
        if any(line.peak for line in lines)
        else "",
        f'<h2>Importance of each setting</h2>\n<p class="quiet">{IMPORTANCE if importances else TOO_FEW}</p>',
        image(importances_png(importances), "Importance of each setting") if importances else "",
        facts("What is searched", [(axis.key, printable(str(axis))) for axis in now.axes]),
        f"<details>\n<summary>search.yaml</summary>\n<pre>\n{escape(printable(plan_text(plan)))}</pre>\n</details>",
    ]
    target = out or folder.path / PAGE
    refuse_link(target)
    write_atomically(target, document(printable(f"Search {plan.name}"), body))
    return target


def _summary(plan: Plan, lines: list[Line]) -> str:
    """The trials as the table by which V0 to V5 were compared."""
    rows = []
    for line in lines:
        *cells, outcome = (escape(printable(cell)) for cell in line.summary)
        rows.append((*cells, f"{state_mark(printable(line.verdict))} {outcome}"))
    return table(summary_headings(plan), rows, "trials") if rows else "<p>None has begun.</p>"
