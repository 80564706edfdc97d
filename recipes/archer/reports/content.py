"""Everything a report says, gathered once; page.py and markdown.py only give it a form."""

import time
from dataclasses import dataclass
from pathlib import Path

from recipes.archer.metrics_reader import CONFIG
from recipes.archer.reports import figures
from recipes.archer.reports.provenance import main_settings, provenance
from recipes.archer.reports.samples import StepSamples, step_samples
from recipes.archer.reports.text import printable
from recipes.archer.reports.verdict import Judgement, judge
from recipes.archer.run_folder import Run

PICTURE, PAGE, MARKDOWN = "curves.png", "report.html", "report.md"


@dataclass(frozen=True)
class Content:
    """Of a report; every text in it is safe to show, none is escaped.

    Attributes:
        figures: (label, first, best, last).
        best_title: what "best" means.
        settings, provenance: (name, text).
        config: config.yaml as it is, empty when there is none.
    """

    title: str
    judgement: Judgement
    figures: list[tuple[str, str, str, str]]
    best_title: str
    samples: list[StepSamples]
    settings: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    config: str


def gather(run: Run) -> Content:
    """Reads and judges what a report needs."""
    rows = run.rows_from_start
    config = run.folder / CONFIG
    return Content(
        title=printable(run.name),
        judgement=judge(run),
        figures=figures.end_figures(rows),
        best_title=figures.best_title(rows),
        samples=step_samples(run),
        settings=main_settings(run),
        provenance=provenance(run, time.time()),
        config=printable(config.read_text(encoding="utf-8", errors="replace")) if config.is_file() else "",
    )


def write_report(run: Run, out: Path) -> list[Path]:
    """Writes the picture, the page and the Markdown of a run.

    Args:
        out: folder for them; made if absent.

    Returns:
        The three files.

    Raises:
        UserError: a file of the run cannot be read.
    """
    from recipes.archer.curves import plot_curves
    from recipes.archer.reports.markdown import as_markdown
    from recipes.archer.reports.page import as_page

    content = gather(run)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / PICTURE, out / PAGE, out / MARKDOWN]
    plot_curves(run.rows_from_start, files[0], bands=content.judgement.bands, title=content.title)
    files[1].write_text(as_page(content, files[0].read_bytes()), encoding="utf-8")
    files[2].write_text(as_markdown(content), encoding="utf-8")
    return files
