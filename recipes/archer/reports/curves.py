"""The picture of a run's curves, and the table beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.archer.reports import drawing
from recipes.archer.reports.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, Band
from recipes.archer.reports.figures import end_table, series
from recipes.archer.runs.folder import Branch

__all__ = ["Band", "Panel", "end_table", "panels_for", "curves_png"]

COLUMNS = 3
LEGEND_COLUMNS = 3  # what the width of a panel holds


@dataclass(frozen=True)
class Panel:
    """What is drawn together: metrics of one unit, each as (key, label, colour)."""

    title: str
    lines: tuple[tuple[str, str, str], ...]
    stacked: bool = False
    shares: bool = False  # between 0 and 1, so never on a logarithmic scale

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _, _ in self.lines)


PANELS = (
    Panel(
        "accuracy",
        (("reward/accuracy/mean", "training", BLUE), ("val/accuracy", "held out", ORANGE)),
        shares=True,
    ),
    Panel("entropy of the policy, nats a token", (("actor/entropy", "", BLUE),)),
    Panel(
        "response length, tokens",
        (
            ("response_length/mean", "all", GREY),
            ("response_length/pos/mean", "correct", BLUE),
            ("response_length/neg/mean", "wrong", VERMILION),
        ),
    ),
    Panel("score", (("critic/score/mean", "", BLUE),)),
    Panel("KL to the reference", (("actor/kl_loss", "", BLUE),)),
    Panel("gradient norm", (("actor/grad_norm", "", BLUE),)),
    Panel(
        "prompts by what their group solved",
        (
            ("batch/valid", "some", BLUE),
            ("batch/solve_none", "none", VERMILION),
            ("batch/solve_all", "all", GREEN),
        ),
        stacked=True,
    ),
    Panel(
        "logical connectives a response",
        (
            ("logical_connectives/mean", "all", GREY),
            ("logical_connectives/pos/mean", "correct", BLUE),
            ("logical_connectives/neg/mean", "wrong", VERMILION),
        ),
    ),
    Panel(
        "repetition, and shares of responses",
        (
            ("repetition/ratio/mean", "repeated text", VERMILION),
            ("response_length/clip_ratio", "cut at the cap", ORANGE),
            ("response/bare_answer/mean", "bare answers", PURPLE),
        ),
        shares=True,
    ),
    Panel("share of tokens clipped", (("actor/pg_clipfrac", "", BLUE),), shares=True),
    Panel("engine against trainer, |log ratio|", (("rollout/log_ratio/abs_mean", "", BLUE),)),
    Panel(
        "seconds a step",
        (
            ("timing_s/gen", "generation", BLUE),
            ("timing_s/update_actor", "update", ORANGE),
            ("timing_s/old_log_prob", "log-probabilities", GREEN),
            ("timing_s/ref", "reference", SKY),
            ("timing_s/reward_wait", "grading, waited for", PURPLE),
            ("timing_s/testing", "validation", VERMILION),
        ),
        stacked=True,
    ),
)
SPARSE = ("val/accuracy",)  # measured at some steps only


def curves_png(
    rows: Sequence[dict],
    *,
    bands: Sequence[Band] | None = None,
    title: str | None = None,
    branches: Sequence[Branch] = (),
) -> bytes:
    """A PNG of a run's curves.

    Args:
        rows: of metrics.jsonl, in the order of the steps; may be empty. Null and NaN are gaps.
        bands: criteria to shade; a metric that no panel shows as a line gets one of its own.
        title: above the panels.
        branches: that the run went back behind, drawn pale.
    """
    from matplotlib.figure import Figure  # draws into a file without pyplot, which takes a second to import

    bands = bands or ()
    panels = panels_for(rows, bands)
    num_rows = max(1, -(-len(panels) // COLUMNS))
    figure = Figure(figsize=(drawing.WIDTH, 2.7 * num_rows + 0.9))
    grid = figure.subplots(num_rows, COLUMNS, squeeze=False)
    drawing.lay_out(figure, gap=0.55)
    cells = list(grid.flat)
    for axes in cells[len(panels) :]:
        axes.axis("off")
    for panel, axes in zip(panels, cells, strict=False):
        _draw_panel(axes, panel, rows, [band for band in bands if band.metric in panel.keys], branches)
    if not panels:
        cells[0].text(0, 0.5, "no step has been recorded", fontsize=12)
    _explain(figure, rows, bool(bands), title, bool(branches))
    return drawing.png(figure)


def panels_for(rows: Sequence[dict], bands: Sequence[Band]) -> list[Panel]:
    """The panels for which there are data, and one for each other metric that a band is about."""
    shown = {key for panel in PANELS if not panel.stacked for key in panel.keys}  # a stack cannot show a band
    extra = dict.fromkeys(band.metric for band in bands if band.metric not in shown)
    wanted = [*PANELS, *(Panel(key, ((key, "", BLUE),)) for key in extra)]
    known = set().union(*rows)
    there = {
        key for panel in wanted for key in panel.keys if key in known and any(r.get(key) is not None for r in rows)
    }
    return [panel for panel in wanted if there & set(panel.keys)]


def _draw_panel(
    axes, panel: Panel, rows: Sequence[dict], bands: Sequence[Band], branches: Sequence[Branch] = ()
) -> None:
    steps = np.array([row["step"] for row in rows], dtype=float)
    values = {key: drawing.drawable(series(rows, key)) for key in panel.keys}
    broken = np.any([_broken(rows, key, values[key]) for key in panel.keys], axis=0)
    bands = [band for band in bands if (band.first_step or 0) <= steps.max()]  # the others are not reached yet
    margin = 0.5 if panel.stacked else 0.02 * (steps.max() - steps.min()) or 0.5
    ends = [steps.max(), *(branch.rows[-1]["step"] for branch in branches if branch.rows)]
    axes.set_xlim(steps.min() - margin, max(ends) + margin)
    drawing.mark_turns(axes, (branch.course.back_to for branch in branches), GREY)
    if panel.stacked:
        _draw_stack(axes, panel, steps, values, rows)
        axes.set_ylim(bottom=0)
    else:
        _draw_lines(axes, panel, steps, values)
        drawn = [*values.values(), *_draw_branches(axes, panel, branches)]
        drawing.fit_scale(axes, np.concatenate(drawn), bands, linear=panel.shares)
    remarks = drawing.draw_bands(axes, () if panel.stacked else bands, steps)
    drawing.mark_broken(axes, steps, broken)
    labels = {label for key, label, _ in panel.lines if any(band.metric == key for band in bands)}
    several = len(panel.lines) > 1 and not panel.stacked and labels
    subject = f"criteria: {', '.join(sorted(labels))}" if several else ""
    drawing.dress(axes, panel.title, "; ".join(filter(None, [subject, ", ".join(remarks)])))
    if any(axes.get_legend_handles_labels()[1]):
        # below the panel: inside it would hide a part of the stacked ones
        place = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.1)}
        axes.legend(fontsize=7.5, frameon=False, ncols=LEGEND_COLUMNS, columnspacing=1.4, handlelength=1.6, **place)


def _draw_lines(axes, panel: Panel, steps: np.ndarray, values: dict[str, np.ndarray]) -> None:
    for key, label, color in panel.lines:
        draw = drawing.draw_sparse if key in SPARSE else drawing.draw_line
        if np.isfinite(values[key]).any():
            draw(axes, steps, values[key], color, label)


def _draw_branches(axes, panel: Panel, branches: Sequence[Branch]) -> list[np.ndarray]:
    """What was left, pale; returns the values."""
    drawn = []
    for branch in branches:
        steps = np.array([row["step"] for row in branch.rows], dtype=float)
        for key, _, color in panel.lines:
            drawn.append(drawing.drawable(series(branch.rows, key)))
            drawing.draw_pale(axes, steps, drawn[-1], color)
    return drawn


def _draw_stack(axes, panel: Panel, steps: np.ndarray, values: dict, rows: Sequence[dict]) -> None:
    known = [line for line in panel.lines if np.isfinite(values[line[0]]).any()]
    parts = [(label, values[key], color) for key, label, color in known]
    if "timing_s/gen" in panel.keys:
        # not every step validates or needs every pass: what did not run took no time
        parts = [(label, np.nan_to_num(part), color) for label, part, color in parts]
        rest = series(rows, "timing_s/step") - sum(part for _, part, _ in parts)
        parts.append(("rest", np.maximum(rest, 0), GREY))
    drawing.draw_stack(axes, steps, parts)


def scores_png(course: Sequence[dict], run: str) -> bytes:
    """A PNG of evaluations: avg@n, pass@n and maj@n over the steps, with their 95% intervals as bands.

    Args:
        course: contents of scores.json of one run on one file, in the order of the steps.
        run: its name.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    steps, n = [scores["step"] for scores in course], str(course[-1]["n"])
    lines = (
        (f"pass@{n}", GREEN, [(s["pass_at"].get(n), (s.get("pass_at_ci95") or {}).get(n)) for s in course]),
        (f"maj@{n}", ORANGE, [(s["maj"], s.get("maj_ci95")) for s in course]),
        (f"avg@{n}", BLUE, [(s["avg"], s["avg_ci95"]) for s in course]),
    )
    for label, color, points in lines:
        axes.plot(steps, [value for value, _ in points], "o-", color=color, label=label, markersize=4, linewidth=1.5)
        if all(bounds for _, bounds in points):
            low, high = zip(*(bounds for _, bounds in points), strict=True)
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("training step; bands: 95% intervals over questions", fontsize=8)
    drawing.dress(axes, f"{run}: {course[-1]['data']}, {course[-1]['num_questions']} questions")
    axes.legend(fontsize=8, frameon=False)
    figure.set_layout_engine("constrained")
    return drawing.png(figure)


def _explain(figure, rows: Sequence[dict], with_bands: bool, title: str | None, turned: bool = False) -> None:
    """Title, what the abscissa is, and what the shading means."""
    if title:
        figure.text(0.01, 1 - 0.1 / figure.get_figheight(), drawing.literal(title), fontsize=13, va="top")
    note = "abscissa: training step"
    if len(rows) > drawing.DENSE:
        note += " · pale: each step, dark: rolling median"
    if turned:
        note += " · dotted: the run went back to here and on with something changed; pale beyond it: what it left"
    if with_bands:
        note += " · green: good by the criteria, hatched: bad; beside a title: what lies off its scale"
    figure.text(0.01, 0.08 / figure.get_figheight(), note, fontsize=8, color="#444444")


def _broken(rows: Sequence[dict], key: str, values: np.ndarray) -> np.ndarray:
    """At which rows there is a value, but none that can be drawn."""
    broken = np.isinf(values)
    for i in np.flatnonzero(np.isnan(values)):
        broken[i] = isinstance(rows[i].get(key), float)
    return broken
