"""How one panel is drawn: lines with gaps, stacked shares, criteria as bands, and a scale that fits."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.archer.printable import one_line

# Okabe and Ito's palette, distinct under the common colour blindnesses; its yellow is too pale for lines.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F",
)  # fmt: skip
COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
WIDTH, DPI = 12, 125  # inches, dots an inch: three panels beside each other, shown at 80% still to be read
TITLE_CHAR, REMARK_CHAR = 0.0215, 0.0155  # width of a character in widths of a panel, with some room
DENSE = 150  # more points than this: a smoothed line over the raw one
FEW = 40  # at most this many: every point gets a marker
PALE = 0.35
BINS = 1000  # more than a panel has dots: of more rows than twice that, each bin's least and greatest value is drawn
LARGEST = 1e100  # beyond, a value is as good as infinite, and the arithmetic of scales would become so
LONGEST = 120  # characters of a name
WIDE = 100  # greatest over typical value from which on the axis is logarithmic


@dataclass(frozen=True)
class Band:
    """A range of a metric that a criterion calls good or bad; None is unbounded.

    Attributes:
        metric: its key in metrics.jsonl.
        good: whether the range is the wanted one.
        low, high: bounds of the range, in the metric's unit.
        first_step, last_step: where it applies.
    """

    metric: str
    good: bool
    low: float | None = None
    high: float | None = None
    first_step: int | None = None
    last_step: int | None = None


def draw_line(axes, steps: np.ndarray, values: np.ndarray, color: str, label: str, style: str = "-") -> None:
    """A metric over the steps: gaps where it does not exist, crosses on the axis where it is infinite.

    Args:
        steps, values: (rows,); NaN where there is no value.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    dense = np.isfinite(finite).sum() > DENSE
    middles, medians = binned(steps, finite, np.nanmedian) if dense else (steps, finite)
    steps, finite = extremes(steps, finite)
    if dense:
        axes.plot(steps, finite, color=color, alpha=0.25, linewidth=0.6)
    axes.plot(middles, smoothed(medians) if dense else finite, style, color=color, linewidth=1.6, label=label)
    points = np.isfinite(finite) if len(steps) <= FEW else alone(finite)
    axes.plot(steps[points], finite[points], "o", color=color, markersize=3.5)


def draw_sparse(axes, steps: np.ndarray, values: np.ndarray, color: str, label: str, style: str = "-") -> None:
    """A metric that only some steps have: its points, joined; where there are many, the line alone."""
    there = np.isfinite(values)
    steps, values = binned(steps[there], values[there], np.nanmedian)
    marker = "s" if len(steps) <= FEW else ""
    axes.plot(steps, values, f"{marker}{style}", color=color, markersize=4, linewidth=1.4, label=label)


def draw_pale(axes, steps: np.ndarray, values: np.ndarray, color: str) -> None:
    """A metric over the steps of a branch that the run went back behind.

    Args:
        steps, values: (rows,); NaN where there is no value.
    """
    there = np.isfinite(values)
    steps, values = extremes(steps[there], values[there])
    axes.plot(steps, values, "-", color=color, alpha=PALE, linewidth=1.4, zorder=1)


def mark_turns(axes, steps: Iterable[int], color: str) -> None:
    """A line at each step that the run went back to: from there on its course is another one."""
    for step in sorted(set(steps)):
        axes.axvline(step, color=color, linestyle=(0, (2, 3)), linewidth=0.9, zorder=0)


def draw_stack(axes, steps: np.ndarray, parts: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """Shares of a whole as (label, values, colour), stacked; a step of which a share is unknown is a gap."""
    wide = len(steps) > FEW
    floor = 0.0
    for label, values, color in parts:
        places, values = binned(steps, np.where(np.isfinite(values), values, np.nan), np.nanmean)
        top = floor + values
        if wide:
            axes.fill_between(places, floor, top, step="mid", color=color, alpha=0.8, linewidth=0, label=label)
        else:
            axes.bar(places, top - floor, bottom=floor, width=0.8, color=color, alpha=0.85, label=label)
        floor = top


def mark_broken(axes, steps: np.ndarray, broken: np.ndarray) -> None:
    """Crosses at the foot of the panel at the steps where a value was NaN or infinite."""
    where = steps[broken]
    where = where[:: max(1, len(where) // BINS)]
    if len(where):
        place = axes.get_xaxis_transform()
        axes.plot(where, np.full(len(where), 0.03), "kx", markersize=6, transform=place, label="NaN or infinite")


def lay_out(figure, gap: float, top: float = 0.7) -> None:
    """Margins around the panels; ``gap``: between rows, in heights of a panel; ``top``: above them, in inches.

    Fixed, since matplotlib's own layouts draw everything once more to find out.
    """
    height = figure.get_figheight()
    figure.subplots_adjust(0.045, 0.75 / height, 0.99, 1 - top / height, wspace=0.19, hspace=gap)


def dress(axes, title: str, remark: str = "") -> None:
    """Title with the scale, a remark at its right or, where there is no room, below it, and quiet axes."""
    from matplotlib.ticker import MaxNLocator

    scale = "" if axes.get_yscale() == "linear" else " (log scale)"
    axes.set_title(literal(title) + scale, fontsize=10, loc="left")
    small = {"fontsize": 7, "color": "#444444"}
    if TITLE_CHAR * len(title + scale) + REMARK_CHAR * len(remark) < 1:
        axes.set_title(remark, loc="right", **small)
    else:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
        axes.text(0.995, 0.985, remark, transform=axes.transAxes, ha="right", va="top", bbox=box, **small)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """A name as it is: matplotlib would typeset what stands between dollar signs, and fail on some of it."""
    return one_line(text)[:LONGEST].replace("$", r"\$")


def png(figure) -> bytes:
    """The figure as a PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI)
    return picture.getvalue()


def drawable(values: np.ndarray) -> np.ndarray:
    """The values, infinite where they are too large for a scale."""
    return np.where(np.abs(values) > LARGEST, np.copysign(np.inf, values), values)


def extremes(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of more points than a panel has dots: the least and the greatest of each bin, in their order; else all.

    Args:
        steps, values: (rows,); NaN where there is no value.
    """
    if len(steps) <= 2 * BINS:
        return steps, values
    rows = _in_bins(values)
    least = np.where(np.isnan(rows), np.inf, rows).argmin(axis=1)
    greatest = np.where(np.isnan(rows), -np.inf, rows).argmax(axis=1)
    first = np.arange(len(rows)) * rows.shape[1]
    chosen = np.sort(np.concatenate([first + least, first + greatest]))
    chosen = chosen[chosen < len(steps)]  # the last bin is filled up
    return steps[chosen], values[chosen]


def binned(steps: np.ndarray, values: np.ndarray, summary) -> tuple[np.ndarray, np.ndarray]:
    """Of more points than a panel has dots: one for each bin, ``summary`` of what it holds; else all."""
    if len(steps) <= 2 * BINS:
        return steps, values
    rows = _in_bins(values)
    empty = np.isnan(rows).all(axis=1)
    rows[empty, 0] = 0.0  # what a summary would warn of
    return steps[:: rows.shape[1]], np.where(empty, np.nan, summary(rows, axis=1))


def _in_bins(values: np.ndarray) -> np.ndarray:
    """(bins, rows of each), the last one filled up with NaN."""
    size = -(-len(values) // BINS)
    filled = np.full(-(-len(values) // size) * size, np.nan)
    filled[: len(values)] = values
    return filled.reshape(-1, size)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Centred rolling median over a fortieth of the values; NaN stays where it is."""
    width = max(3, len(values) // 40) | 1
    padded = np.pad(values, width // 2, constant_values=np.nan)
    windows = np.ma.masked_invalid(np.lib.stride_tricks.sliding_window_view(padded, width))
    return np.where(np.isfinite(values), np.ma.median(windows, axis=1).filled(np.nan), np.nan)


def alone(values: np.ndarray) -> np.ndarray:
    """Which finite values have no finite neighbour, so that no line would show them."""
    there = np.pad(np.isfinite(values), 1)
    return there[1:-1] & ~there[:-2] & ~there[2:]


def fit_scale(axes, values: np.ndarray, bands: Sequence[Band], linear: bool = False) -> None:
    """Limits and scale from the data; a criterion's bound is taken in unless that would flatten the curve."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    scale = "linear" if linear else _scale(finite)
    if scale == "symlog":
        axes.set_yscale("symlog", linthresh=float(np.median(np.abs(finite))))
    else:
        axes.set_yscale(scale)
    low, high = float(finite.min()), float(finite.max())
    spread = (high - low) or abs(high) or 1.0
    reach = (low / 30, high * 30) if scale == "log" else (low - 3 * spread, high + 3 * spread)
    bounds = [bound for band in bands for bound in (band.low, band.high) if bound is not None]
    bounds = [bound for bound in bounds if reach[0] <= bound <= reach[1]]
    low, high = min([low, *bounds]), max([high, *bounds])
    if scale == "log":
        axes.set_ylim(low / 1.3, high * 1.3)
    else:
        margin = 0.06 * ((high - low) or abs(high) or 1.0)
        axes.set_ylim(low - margin, high + margin)


def _scale(finite: np.ndarray) -> str:
    greatest = np.abs(finite).max()
    if finite.min() > 0:
        return "log" if greatest > WIDE * finite.min() else "linear"
    typical = np.median(np.abs(finite))
    return "symlog" if typical > 0 and greatest > WIDE * typical else "linear"


def draw_bands(axes, bands: Sequence[Band], steps: np.ndarray) -> list[str]:
    """Shades the bands inside the panel's present limits.

    Returns:
        For each bound that lies outside of them, how to say so.
    """
    bottom, top = axes.get_ylim()
    begin, end = float(steps.min()), float(steps.max())
    hair = max(1.0, 0.015 * (end - begin))  # a criterion at one step must be seen, too
    remarks = []
    for band in bands:
        low = bottom if band.low is None else band.low
        high = top if band.high is None else band.high
        left = begin if band.first_step is None else float(band.first_step)
        right = end if band.last_step is None else float(band.last_step)
        if left > end or right < begin:
            continue
        if low >= top or high <= bottom:
            remarks.append(band_text(band))
            continue
        color, hatch = (GREEN, None) if band.good else (VERMILION, "///")
        narrow = right - left < hair
        right = max(right, left + hair) if narrow else right
        axes.fill_between(
            [left, right], max(low, bottom), min(high, top), facecolor=color, edgecolor=color, hatch=hatch,
            alpha=0.4 if narrow else 0.13, linewidth=0.0, zorder=0,
        )  # fmt: skip
        for bound in (band.low, band.high):
            if bound is not None and bottom < bound < top:
                axes.plot([left, right], [bound, bound], ":", color=color, linewidth=0.9, zorder=1)
    return remarks


def band_text(band: Band) -> str:
    """A band in words, without its metric: ``bad > 7``."""
    kind = "good" if band.good else "bad"
    if band.low is not None and band.high is not None:
        return f"{kind} {band.low:g}–{band.high:g}"
    return f"{kind} > {band.low:g}" if band.high is None else f"{kind} < {band.high:g}"
