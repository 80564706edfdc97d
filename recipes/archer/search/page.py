"""A search as one HTML file that needs nothing else: what was searched, the trials, what each setting accounts for."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from recipes.archer.files import refuse_link, write_atomically
from recipes.archer.printable import printable
from recipes.archer.reports import drawing
from recipes.archer.reports.drawing import BLUE, GREY, VERMILION
from recipes.archer.reports.page import document, facts, image, state_mark, table
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.plan import Plan, plan_text
from recipes.archer.search.space import Axis, Choices, Span, short_names
from recipes.archer.search.table import Line, standing, summary_headings

PAGE = "report.html"
IMPORTANCE = "How much each decides whether a trial is in the better half (PED-ANOVA); few trials say little."
NAMED = 10  # trials that a legend names; more are lines without a name
MARGIN = 0.04  # of an axis, on either side of its ends
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
        f"<h2>Settings and their results</h2>\n{image(parallel_png(plan, now.axes, lines), 'Trials')}"
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


def histories_png(plan: Plan, lines: Sequence[Line]) -> bytes:
    """Left: the metric over the steps of every run. Right: the peak of every trial, and the best so far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(drawing.WIDTH, 4.2))
    left, right = figure.subplots(1, 2)
    for index, line in enumerate(lines):
        points = [(one.step, one.value) for one in line.course.measured(plan.metric)]
        if points:
            steps, values = np.array(points, dtype=float).T
            color = drawing.COLORS[index % len(drawing.COLORS)]
            label = f"trial {line.number}" if len(lines) <= NAMED else ""
            style = "-" if line.state in ("finished", "running") else ":"
            drawing.draw_sparse(left, steps, drawing.drawable(values), color, drawing.literal(label), style)
    drawing.dress(left, f"{plan.metric} over the steps", "dotted: pruned or failed")
    if any(left.get_legend_handles_labels()[1]):
        left.legend(fontsize=7.5, frameon=False, ncols=2)
    _draw_peaks(right, plan, lines)
    figure.set_layout_engine("constrained")
    return drawing.png(figure)


def _draw_peaks(axes: Any, plan: Plan, lines: Sequence[Line]) -> None:
    best: float | None = None
    course: list[tuple[int, float]] = []
    for line in lines:
        if line.peak is None:
            continue
        done = line.state == "finished"
        low = line.peak.value - (line.peak.value if line.peak.low is None else line.peak.low)
        high = (line.peak.value if line.peak.high is None else line.peak.high) - line.peak.value
        bars = [[max(0.0, low)], [max(0.0, high)]]
        color, marker = (BLUE, "o") if done else (GREY, "x")
        axes.errorbar([line.number], [line.peak.value], yerr=bars, fmt=marker, color=color, markersize=5, linewidth=1)
        if done and (best is None or plan.better(line.peak.value, best)):
            best = line.peak.value
        if best is not None:
            course.append((line.number, best))
    if course:
        numbers, values = zip(*course, strict=True)
        axes.step(numbers, values, where="post", color=VERMILION, linewidth=1.4, label="best so far")
        axes.legend(fontsize=7.5, frameon=False)
    drawing.dress(axes, f"{plan.metric} at the peak, by trial", "bars: 95%; crosses: pruned or failed")


def importances_png(importances: Mapping[str, float]) -> bytes:
    """A bar for each setting, the most important first."""
    from matplotlib.figure import Figure

    names = short_names(list(importances))
    figure = Figure(figsize=(drawing.WIDTH / 2, 0.6 + 0.45 * len(importances)))
    axes = figure.subplots()
    order = sorted(importances, key=lambda key: importances[key])
    bars = axes.barh([drawing.literal(names[key]) for key in order], [importances[key] for key in order], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=3)
    axes.set_xlim(0, 1.1)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return drawing.png(figure)


def parallel_png(plan: Plan, axes: Sequence[Axis], lines: Sequence[Line]) -> bytes:
    """A line a trial over the settings, and at the right its peak, by which it is coloured."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    shown = [line for line in lines if line.peak is not None]
    values = np.array([line.peak.value for line in shown if line.peak is not None])
    figure = Figure(figsize=(drawing.WIDTH, 3.8))
    panel = figure.subplots()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    spread = (high - low) or 1.0
    order = np.argsort(plan.sign * values)  # the best last, over the others
    for index in order:
        line = shown[index]
        share = (float(values[index]) - low) / spread
        places = [*(_share(axis, line.params[axis.key]) for axis in axes), share]
        color = colormaps["viridis"](0.9 * (share if plan.sign > 0 else 1 - share))
        style = "-" if line.state in ("finished", "running") else ":"
        width = 3.2 if index == order[-1] else 1.6
        panel.plot(range(len(places)), places, style, color=color, linewidth=width, marker="o", markersize=3)
    _label_axes(panel, plan, axes, low, high)
    figure.set_layout_engine("constrained")
    return drawing.png(figure)


def _label_axes(panel: Any, plan: Plan, axes: Sequence[Axis], low: float, high: float) -> None:
    names = short_names([axis.key for axis in axes])
    heads = [names[axis.key] + (" (log)" if isinstance(axis, Span) and axis.log else "") for axis in axes]
    panel.set_xticks(range(len(heads) + 1), [drawing.literal(head) for head in [*heads, plan.metric]], fontsize=8)
    panel.set_yticks([])
    panel.set_xlim(-0.25, len(heads) + 0.35)
    panel.set_ylim(-MARGIN, 1 + MARGIN)
    panel.spines[:].set_visible(False)
    for place, axis in enumerate(axes):
        ticks = axis.ends if isinstance(axis, Span) else axis.texts
        _draw_axis(panel, place, [(_share(axis, _read(axis, text)), text) for text in ticks])
    _draw_axis(panel, len(axes), [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")] if high > low else [(0.0, f"{low:.3g}")])


def _draw_axis(panel: Any, place: int, ticks: Sequence[tuple[float, str]]) -> None:
    panel.axvline(place, color=GREY, linewidth=0.8, zorder=0)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for height, text in ticks:
        told = drawing.literal(text)[:24]
        panel.text(place + 0.02, height, told, fontsize=7.5, va="center", color="#444444", bbox=box, zorder=3)


def _share(axis: Axis, value: Any) -> float:
    """Where a value is on its axis, in [0, 1]."""
    if isinstance(axis, Choices):
        return axis.texts.index(value) / max(1, len(axis.texts) - 1)
    places = np.array([axis.low, axis.high, value], dtype=float)
    low, high, at = np.log(places) if axis.log else places
    return float((at - low) / (high - low))


def _read(axis: Axis, text: str) -> Any:
    return text if isinstance(axis, Choices) else float(text)
