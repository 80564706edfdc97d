"""Parts of a documentation page that a benchmark writes itself, so that page and result cannot drift apart."""

from pathlib import Path


def marks(name: str, module: str) -> tuple[str, str]:
    """The lines between which a part stands."""
    return f"<!-- {name}: written by {module} -->", f"<!-- end of {name} -->"


def put_between(page: Path, begin: str, end: str, part: str) -> None:
    """Replaces what stands between a page's two marks.

    Raises:
        ValueError: the page has not exactly one of each.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} needs the lines {begin} and {end}, once each")
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(f"{before}{begin}\n\n{part.strip()}\n\n{end}{after}", encoding="utf-8")


def part_of(page: Path, begin: str, end: str) -> str:
    """What stands between the two marks."""
    return page.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
