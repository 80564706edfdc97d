"""Everything a report says, gathered once and in no form yet."""

import time
from dataclasses import dataclass

from recipes.archer.evaluation.tables import distinguished, line, read_evaluations
from recipes.archer.printable import one_line, printable
from recipes.archer.reading.regular import UnreadableError, read_text
from recipes.archer.reports import figures
from recipes.archer.reports.provenance import course_lines, main_settings, provenance
from recipes.archer.reports.samples import StepSamples, step_samples
from recipes.archer.reports.verdict import Judgement, judge
from recipes.archer.runs.folder import Run
from recipes.archer.runs.metrics_reader import CONFIG


@dataclass(frozen=True)
class Content:
    """Of a report; every text in it is safe to show, none is escaped.

    Attributes:
        figures: (label, first, best, last).
        best_title: what "best" means.
        courses: a line for each time that the run went back, see ``provenance.COURSE_HEADINGS``.
        evaluations: a line for each, see ``tables.HEADINGS``.
        evaluations_left_out: a line for each file that cannot be used.
        settings, provenance: (name, text).
        config: config.yaml as it is, empty when there is none.
    """

    title: str
    judgement: Judgement
    figures: list[tuple[str, str, str, str]]
    best_title: str
    courses: list[tuple[str, ...]]
    evaluations: list[tuple[str, ...]]
    evaluations_left_out: list[str]
    samples: list[StepSamples]
    settings: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    config: str


def gather(run: Run) -> Content:
    """Reads and judges what a report needs."""
    rows = run.rows_from_start
    evaluations, left_out = read_evaluations(run.folder)
    return Content(
        title=printable(run.name),
        judgement=judge(run),
        figures=figures.end_figures(rows),
        best_title=figures.best_title(rows),
        courses=course_lines(run),
        evaluations=[tuple(map(printable, line(scores))) for scores in distinguished(evaluations)],
        evaluations_left_out=[one_line(told) for told in left_out],
        samples=step_samples(run),
        settings=main_settings(run),
        provenance=provenance(run, time.time()),
        config=_config_text(run),
    )


def _config_text(run: Run) -> str:
    try:
        return printable(read_text(run.folder / CONFIG, inside=run.folder))
    except UnreadableError as error:
        if error.absent:
            return ""
        raise
