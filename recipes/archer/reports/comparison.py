"""What differs between runs: in configuration, in what they ran on, and in their curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recipes.archer.printable import printable
from recipes.archer.reports import drawing
from recipes.archer.reports.figures import FIGURES, VAL, best_row, formatted, last, number, series
from recipes.archer.reports.provenance import turns
from recipes.archer.runs.folder import Branch, Run, read_branches

# Differ between any two runs and say nothing about why they went differently.
_NAMES = ("trainer.experiment_name", "trainer.default_local_dir", "trainer.output_dir", "record")
_FACTS = ("git.commit", "git.dirty", "device", "device_name", "world_size", "seed", "versions")
ABSENT = "(absent)"
STYLES = ("-", "--", ":", "-.")
SHOWN = (
    ("accuracy, training", "reward/accuracy/mean"),
    ("accuracy, held out", VAL),
    ("score", "critic/score/mean"),
    ("entropy of the policy, nats a token", "actor/entropy"),
    ("response length, tokens", "response_length/mean"),
    ("correct responses, tokens", "response_length/pos/mean"),
    ("KL to the reference", "actor/kl_loss"),
    ("gradient norm", "actor/grad_norm"),
    ("valid groups", "batch/valid"),
    ("logical connectives a response", "logical_connectives/mean"),
    ("repetition", "repetition/ratio/mean"),
    ("seconds a step", "timing_s/step"),
)


def flattened(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as dotted key -> value; a list is a value."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree} if prefix else {}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def config_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(key, value in each run) for every setting that is not the same in all of them, names left out."""
    return _differences([flattened(run.config) for run in runs], lambda key: not _under(key, _NAMES))


def fact_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The same for code, versions, seed and machine."""
    return _differences([flattened(run.facts) for run in runs], lambda key: _under(key, _FACTS))


def _under(key: str, roots: Sequence[str]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


def _differences(flat: Sequence[dict[str, Any]], wanted) -> list[tuple[str, list[str]]]:
    keys = sorted({key for settings in flat for key in settings if wanted(key)})
    lines = [(key, [_shown(settings, key) for settings in flat]) for key in keys]
    return [(key, values) for key, values in lines if len(set(values)) > 1]


def _shown(settings: dict[str, Any], key: str) -> str:
    if key not in settings:
        return ABSENT
    value = settings[key]
    return "null" if value is None else printable(value)


def figure_lines(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(figure, "at the best step → at the end" in each run), and first how long each run is."""
    lines = [("steps", [str(run.rows[-1]["step"] if run.rows else 0) for run in runs])]
    bests = [best_row(run.rows) for run in runs]
    if any(run.courses for run in runs):
        lines.append(("went back", [turns(run) or "–" for run in runs]))
    lines.append(("best step", [str(best[0]["step"]) if best else "–" for best in bests]))
    for figure in FIGURES:
        values = []
        for run, best in zip(runs, bests, strict=True):
            at_best = number(best[0].get(figure.key)) if best else None
            end = last(run.rows, figure.key)
            at_end = end[1] if end else None
            values.append(f"{formatted(at_best, figure.form)} → {formatted(at_end, figure.form)}")
        lines.append((figure.label, values))
    return lines


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run, with its project where two would be the same."""
    names = [printable(run.name) for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{run.folder.resolve().parent.name}/{name}" for run, name in zip(runs, names, strict=True)]


def comparison_png(runs: Sequence[Run]) -> bytes:
    """A PNG with one panel a metric and one line a run."""
    from matplotlib.figure import Figure  # draws into a file without pyplot, which takes a second to import

    curves, branches = [_curves(run) for run in runs], [read_branches(run) for run in runs]
    shown = [(title, key) for title, key in SHOWN if any(key in curve for curve in curves)]
    num_rows = max(1, -(-len(shown) // 3))
    legend = 0.5 + 0.2 * -(-len(runs) // 3)  # inches
    figure = Figure(figsize=(drawing.WIDTH, 2.4 * num_rows + 0.5 + legend))
    grid = figure.subplots(num_rows, 3, squeeze=False)
    drawing.lay_out(figure, gap=0.3, top=legend)
    handles: dict[str, Any] = {}
    for axes, (title, key) in zip(grid.flat, shown, strict=False):
        _draw_metric(axes, title, key, curves, labels(runs), branches)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for axes in list(grid.flat)[len(shown) :]:
        axes.axis("off")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="upper left", ncols=3, frameon=False, fontsize=9)
    return drawing.png(figure)


def _curves(run: Run) -> dict[str, np.ndarray]:
    """The steps and the metrics that are shown, as far as the run has them, each (rows,)."""
    rows = run.rows_from_start
    there = set().union(*rows)
    curves = {key: drawing.drawable(series(rows, key)) for _, key in SHOWN if key in there}
    curves = {key: values for key, values in curves.items() if np.isfinite(values).any()}
    return curves | {"step": np.array([row["step"] for row in rows], dtype=float)}


def _draw_metric(
    axes,
    title: str,
    key: str,
    curves: Sequence[dict[str, np.ndarray]],
    names: Sequence[str],
    branches: Sequence[Sequence[Branch]],
) -> None:
    drawn = []
    for number_of_run, (curve, label) in enumerate(zip(curves, names, strict=True)):
        if key not in curve:
            continue
        drawn.append(curve[key])
        turn, color = divmod(number_of_run, len(drawing.COLORS))
        style = STYLES[turn % len(STYLES)]
        draw = drawing.draw_sparse if key == VAL else drawing.draw_line
        draw(axes, curve["step"], curve[key], drawing.COLORS[color], drawing.literal(label), style)
        for branch in branches[number_of_run]:
            drawn.append(drawing.drawable(series(branch.rows, key)))
            steps = np.array([row["step"] for row in branch.rows], dtype=float)
            drawing.draw_pale(axes, steps, drawn[-1], drawing.COLORS[color])
        drawing.mark_turns(axes, (branch.course.back_to for branch in branches[number_of_run]), drawing.COLORS[color])
    drawing.fit_scale(axes, np.concatenate(drawn), (), linear="accuracy" in key)
    drawing.dress(axes, title)
