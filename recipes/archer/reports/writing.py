"""A run's report on disk: the picture, the page, the Markdown."""

from pathlib import Path

from recipes.archer.reports.content import gather
from recipes.archer.reports.curves import plot_curves
from recipes.archer.reports.markdown import as_markdown
from recipes.archer.reports.page import as_page
from recipes.archer.runs.folder import Run

PICTURE, PAGE, MARKDOWN = "curves.png", "report.html", "report.md"


def write_report(run: Run, out: Path) -> list[Path]:
    """Writes the picture, the page and the Markdown of a run.

    Args:
        out: folder for them; made if absent.

    Returns:
        The three files.

    Raises:
        UserError: a file of the run cannot be read.
    """
    content = gather(run)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / PICTURE, out / PAGE, out / MARKDOWN]
    plot_curves(run.rows_from_start, files[0], bands=content.judgement.bands, title=content.title)
    files[1].write_text(as_page(content, files[0].read_bytes()), encoding="utf-8")
    files[2].write_text(as_markdown(content, PICTURE), encoding="utf-8")
    return files
