"""The comparison of losses as a table, a figure, and a part of a page."""

from pathlib import Path

import numpy as np

from benchmarks.page import marks, put_between
from recipes.archer.reports.drawing import BLUE, GREEN, VERMILION

NAMES = {"grpo": "GRPO", "archer": "Archer", "aspo": "ASPO"}
COLORS = {"grpo": BLUE, "archer": VERMILION, "aspo": GREEN}
PANELS = {"val/accuracy": "accuracy on held-out prompts", "actor/entropy": "entropy of the policy, nats a token"}
BEGIN, END = marks("results", "benchmarks.algorithms")
LAST = 10  # steps over which a curve's end is averaged


def table(result: dict) -> str:
    """Markdown: mean ± standard deviation over the seeds, of each loss."""
    heading = (
        "loss", "held out, before", "halfway", "at the end", "in training, last 10 steps", "entropy, first step",
        "entropy, last 10 steps", "tokens clipped", "greatest ratio", "updates a step",
    )  # fmt: skip
    lines = [heading, ("---",) * len(heading)]
    for loss, runs in result["losses"].items():
        of_runs = [_summary(run, result["steps"]) for run in runs.values()]
        lines.append((NAMES[loss], *(_spread(column, digits) for column, digits in zip(
            zip(*of_runs, strict=True), (3, 3, 3, 3, 3, 3, 4, 2, 1), strict=True))))  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(run: dict, steps: int) -> tuple[float | None, ...]:
    """One seed's figures, in the order of the table's columns."""
    held_out, trained, entropy = (
        dict(run["series"][key]) for key in ("val/accuracy", "reward/accuracy/mean", "actor/entropy")
    )
    halfway = min(held_out, key=lambda step: abs(step - steps / 2), default=None)

    def end(series: dict) -> float | None:
        values = [value for step, value in series.items() if step > steps - LAST]
        return float(np.mean(values)) if values else None

    return (
        held_out.get(0), held_out.get(halfway), held_out.get(steps), end(trained), entropy.get(1), end(entropy),
        run["means"]["actor/pg_clipfrac"], run["actor/ratio/max"], run["means"]["actor/num_updates"],
    )  # fmt: skip


def _spread(values: tuple[float | None, ...], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{np.mean(known):.{digits}f}"
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def draw(result: dict, path: Path) -> None:
    """One panel a metric: the mean over the seeds as a line, least to greatest as a band, each seed thin."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, cells = plt.subplots(1, len(PANELS), figsize=(11, 3.8), layout="constrained")
    for axes, (key, title) in zip(cells, PANELS.items(), strict=True):
        for loss, runs in result["losses"].items():
            series = [dict(run["series"][key]) for run in runs.values()]
            steps = sorted(set.intersection(*map(set, series)))
            values = np.array([[one[step] for step in steps] for one in series])  # (seeds, steps)
            style = {"color": COLORS[loss]}
            axes.fill_between(steps, values.min(0), values.max(0), alpha=0.15, linewidth=0, **style)
            axes.plot(steps, values.T, linewidth=0.6, alpha=0.5, **style)
            sparse = {"marker": "o", "markersize": 4} if key.startswith("val/") else {}
            axes.plot(steps, values.mean(0), linewidth=2, label=NAMES[loss], **sparse, **style)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("training step", fontsize=9)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    cells[0].set_ylim(bottom=0)
    cells[1].set_ylim(bottom=0)
    cells[0].legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def put_into_page(result: dict, page: Path) -> None:
    """Replaces what stands between the page's two marks.

    Raises:
        ValueError: the page has not exactly one of each.
    """
    seeds = len(next(iter(result["losses"].values())))
    part = (
        f"{result['date'][:10]}, {result['steps']} steps, {seeds} seeds a loss: mean ± standard deviation over the "
        f"seeds.\n\n{table(result)}\n\n![Accuracy on held-out prompts and entropy over the steps, by loss; line: mean, "
        "band: least to greatest of the seeds, thin: each seed](images/algorithms.png)\n\n"
        f"```\n{result['command']}\n```"
    )
    put_between(page, BEGIN, END, part)
