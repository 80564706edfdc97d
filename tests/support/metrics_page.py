"""What docs/metrics.md says there is."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SOURCE = "<data_source>"


def documented(page: str) -> list[str]:
    """Keys in the first column of the tables headed "key", with ``<family>`` as each in the table headed "family"."""
    columns: dict[str, list[str]] = {"key": [], "family": []}
    heading = None
    for line in page.splitlines():
        if not line.startswith("|"):
            heading = None
            continue
        first = line.split("|")[1].strip()
        if heading is None:
            heading = first
        elif heading in columns and not set(first) <= set("-:"):
            columns[heading] += re.findall(r"`([^`]+)`", first)
    families = columns["family"]
    return [
        key.replace("<family>", family)
        for key in columns["key"]
        for family in (families if "<family>" in key else [""])
    ]
