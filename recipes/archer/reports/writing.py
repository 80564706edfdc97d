"""A run's report on disk: the picture, the page, the Markdown."""

from pathlib import Path

from recipes.archer.files import refuse_link, write_atomically
from recipes.archer.reports.content import gather
from recipes.archer.reports.curves import curves_png
from recipes.archer.reports.markdown import as_markdown
from recipes.archer.reports.page import as_page
from recipes.archer.runs.folder import Run, read_branches

PICTURE, PAGE, MARKDOWN = "curves.png", "report.html", "report.md"


def write_report(run: Run, out: Path) -> list[Path]:
    """Writes the picture, the page and the Markdown of a run.

    Args:
        out: folder for them; made if absent.

    Returns:
        The three files.

    Raises:
        UserError: a file of the run cannot be read, or what is to be written is a link.
    """
    files = [out / PICTURE, out / PAGE, out / MARKDOWN]
    if out.parent == run.folder:  # the run's own: a stranger may have made it
        refuse_link(out, folder=True)
    for file in files:
        refuse_link(file)
    content = gather(run)
    bands, branches = content.judgement.bands, read_branches(run)
    picture = curves_png(run.rows_from_start, bands=bands, title=content.title, branches=branches)
    out.mkdir(parents=True, exist_ok=True)
    texts = (picture, as_page(content, picture), as_markdown(content, PICTURE))
    for file, text in zip(files, texts, strict=True):
        write_atomically(file, text)
    return files
