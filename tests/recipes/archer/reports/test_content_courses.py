"""A run that went back, as people look at it: branches pale, and where its course changed."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from recipes.archer.commands.runs import _line
from recipes.archer.reports.comparison import comparison_png, figure_lines
from recipes.archer.reports.content import gather
from recipes.archer.reports.curves import curves_png
from recipes.archer.reports.markdown import as_markdown
from recipes.archer.reports.page import as_page
from recipes.archer.reports.provenance import provenance
from recipes.archer.runs.courses import Course, as_fact
from recipes.archer.runs.folder import read_branches, read_run
from run_folders import FINISHED, collapsing_rows, healthy_rows, write_run

HOSTILE = "bad <script>alert(1)</script> \x1b[2J"


@pytest.fixture
def turned(tmp_path):
    """Left at step 50, back to 30, on to 60."""
    course = Course(1, 50, 30, "entropy_collapse", HOSTILE, "guard.rollback.courses[0]", "half", ("a.b=1",), "now")
    folder = tmp_path / "output/p/turned"
    write_run(folder, healthy_rows(60), facts={"courses": [as_fact(course)]}, ending=FINISHED)
    branch = folder / "branches/1"
    branch.mkdir(parents=True)
    rows = [json.dumps(row) + "\n" for row in collapsing_rows(60)[30:50]]
    (branch / "metrics.jsonl").write_text("".join(rows))
    return folder


def _pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L"))


def test_the_curves_show_what_was_left(turned):
    run = read_run(turned)
    (branch,) = read_branches(run)
    assert [row["step"] for row in branch.rows] == list(range(30, 51))
    with_branch, without = (_pixels(curves_png(run.rows, branches=b)) for b in ([branch], []))
    assert with_branch.shape == without.shape and (with_branch != without).mean() > 1e-3
    assert _pixels(comparison_png([run, run])).size


def test_the_report_the_list_and_the_comparison_say_where_it_went_back(turned):
    run = read_run(turned)
    content = gather(run)
    ((number, back_to, left, verdict, change, settings),) = content.courses
    assert (number, back_to, left, settings) == ("1", "30", "50", "a.b=1") and "half" in change
    assert "\x1b" not in verdict
    page, text = as_page(content, b""), as_markdown(content, "c.png")
    assert "<h2>Courses</h2>" in page and "<script>" not in page and "\x1b" not in page
    assert "## Courses" in text and "<script>" not in text
    assert ("went back", "50 ↩ 30") in provenance(run, 0.0)
    assert dict(figure_lines([run, run]))["went back"] == ["50 ↩ 30", "50 ↩ 30"]
    assert "50 ↩ 30" in str(_line(run, 0.0)[0])


def test_a_run_that_did_not_go_back_says_nothing_of_it(healthy_run):
    run = read_run(healthy_run)
    assert gather(run).courses == [] and "Courses" not in as_page(gather(run), b"")
    assert "went back" not in dict(figure_lines([run, run])) and "↩" not in str(_line(run, 0.0)[0])


@pytest.mark.parametrize("courses", [3, [3], [{"number": 1}], [{}], "x", [None, []]])
def test_courses_of_other_making_are_none(tmp_path, courses):
    folder = write_run(tmp_path / "output/p/odd", healthy_rows(3), facts={"courses": courses}, ending=FINISHED)
    run = read_run(folder)
    assert run.courses == [] and read_branches(run) == []
