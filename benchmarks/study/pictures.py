"""Entropy and held-out accuracy of the arms, a column an arm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.study.cells import Cell
from benchmarks.study.memory import Memory
from recipes.archer.reports.drawing import BLUE, GREEN, GREY

PANELS = {"actor/entropy": "entropy, nats", "val/accuracy": "held-out accuracy"}


def draw(cells: Sequence[Cell], memory: Memory, seeds: Sequence[int], band: tuple[float, float], path: Path) -> None:
    """Each seed thin, their median thick, the band shaded."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [(cell, runs) for cell in cells if (runs := memory.of(cell, seeds))]
    figure, axes = plt.subplots(
        2, len(shown), figsize=(1.9 * len(shown) + 0.8, 4.2), sharex=True, sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, (cell, runs) in enumerate(shown):
        for row, (key, color) in enumerate(zip(PANELS, (BLUE, GREEN), strict=True)):
            cell_axes = axes[row][column]
            series = [run.values(key) for run in runs]
            for values in series:
                cell_axes.plot(list(values), list(values.values()), color=color, linewidth=0.6, alpha=0.5)
            steps = sorted(set.intersection(*map(set, series)))
            middle = np.median([[values[step] for step in steps] for values in series], axis=0)
            cell_axes.plot(steps, middle, color=color, linewidth=2)
            cell_axes.grid(alpha=0.25, linewidth=0.6)
            cell_axes.spines[["top", "right"]].set_visible(False)
        axes[0][column].axhspan(*band, color=GREY, alpha=0.2, linewidth=0)
        axes[0][column].set_title(cell.name, fontsize=9)
        axes[1][column].set_xlabel("step", fontsize=8)
    for row, title in enumerate(PANELS.values()):
        axes[row][0].set_ylabel(title, fontsize=9)
    axes[0][0].set_yscale("log")
    axes[1][0].set_ylim(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
