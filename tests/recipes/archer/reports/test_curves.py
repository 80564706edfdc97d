"""The picture of the curves and the table beside it."""

import io
import math
import warnings

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from recipes.archer.reports import drawing
from recipes.archer.reports.curves import PANELS, Band, curves_png, end_table, panels_for, scores_png
from recipes.archer.reports.figures import best_row, end_figures, formatted
from recipes.archer.runs.folder import read_run

BANDS = [
    Band("actor/entropy", True, low=3, high=6, first_step=30, last_step=30),
    Band("actor/entropy", False, low=7),
    Band("actor/entropy", False, high=1),
    Band("batch/valid", False, high=10, first_step=20),
    Band("actor/kl_loss", False, low=5),
    Band("actor/grad_norm", False, low=1e6),
]


@pytest.fixture
def axes():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.mark.parametrize("name", ["collapsing_run", "two_step_run", "empty_run"])
def test_every_kind_of_run_is_drawn_without_a_warning(name, request, tmp_path):
    rows = read_run(request.getfixturevalue(name)).rows_from_start
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "c.png").write_bytes(curves_png(rows, bands=BANDS, title="costs $1$ and $"))
    pixels = np.asarray(Image.open(tmp_path / "c.png").convert("L"))
    assert (pixels < 128).mean() > 1e-4  # something is written on it: text alone covers more


def test_bands_change_the_picture(collapsing_run, tmp_path):
    rows = [{key: row[key] for key in ("step", "actor/entropy")} for row in read_run(collapsing_run).rows]
    for name, bands in (("with", BANDS), ("without", None)):
        (tmp_path / f"{name}.png").write_bytes(curves_png(rows, bands=bands))
    with_bands, without = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("with", "without"))
    assert with_bands.shape != without.shape or (with_bands != without).any()


def test_only_panels_with_data_and_one_for_a_criterion_of_its_own(two_step_run):
    rows = read_run(two_step_run).rows
    assert panels_for(rows, ()) == list(PANELS)
    assert panels_for([], BANDS) == []
    assert panels_for(rows, BANDS)[-1].keys == ("batch/valid",)  # in a stack its band could not be read
    assert [p.title for p in panels_for([{"step": 1, "actor/entropy": 2.0}], ())] == [PANELS[1].title]
    rows[0]["x/y"] = 1.0
    assert panels_for(rows, [Band("x/y", True, low=0), Band("never/logged", True)])[-1].keys == ("x/y",)


def test_null_and_nan_are_gaps_and_a_value_alone_is_a_dot(axes):
    values = np.array([1.0] * 50 + [math.nan, 5.0, math.nan] + [2.0] * 50)
    steps = np.arange(len(values), dtype=float)
    drawing.draw_line(axes, steps, values, drawing.BLUE, "x")
    line, dots = axes.lines
    assert np.isnan(line.get_ydata()[[50, 52]]).all() and not np.isnan(line.get_ydata()[:50]).any()
    assert dots.get_xydata().tolist() == [[51.0, 5.0]]


def test_few_points_are_all_marked(axes):
    drawing.draw_line(axes, np.array([1.0, 2.0]), np.array([0.1, 0.2]), drawing.BLUE, "x")
    assert len(axes.lines[1].get_xdata()) == 2


def test_many_points_are_smoothed_by_a_median_that_keeps_the_gaps(axes):
    values = np.ones(1000)
    values[500], values[700:720] = 1000.0, math.nan
    drawing.draw_line(axes, np.arange(1000.0), values, drawing.BLUE, "x")
    raw, smooth, _ = axes.lines
    assert raw.get_ydata()[500] == 1000 and smooth.get_ydata()[500] == 1
    assert np.isnan(smooth.get_ydata()[700:720]).all() and np.isfinite(smooth.get_ydata()).sum() == 980


def test_the_scale_takes_near_bounds_in_and_leaves_far_ones_out(axes):
    values = np.array([2.0, 3.0, 4.0])
    near, far = Band("m", False, low=7), Band("m", False, low=500)
    drawing.fit_scale(axes, values, [near, far])
    assert 7 < axes.get_ylim()[1] < 8
    assert drawing.draw_bands(axes, [near, far], np.array([1.0, 3.0])) == ["bad > 500"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1, 2, 3], "linear"), ([1, 20, 3000], "log"), ([0, 1, 1, 1, 5000], "symlog"), ([0, 0, 0, 5], "linear")],
)
def test_the_scale_is_logarithmic_only_where_the_values_are_far_apart(axes, values, scale):
    drawing.fit_scale(axes, np.array(values, dtype=float), ())
    assert axes.get_yscale() == scale
    drawing.fit_scale(axes, np.array(values, dtype=float), (), linear=True)
    assert axes.get_yscale() == "linear"


def test_a_criterion_at_a_step_not_reached_is_not_drawn(axes):
    axes.set_ylim(0, 10)
    late = Band("m", True, low=3, high=6, first_step=100, last_step=100)
    assert drawing.draw_bands(axes, [late], np.array([1.0, 50.0])) == [] and not axes.collections
    drawing.draw_bands(axes, [late], np.array([1.0, 150.0]))
    (shade,) = axes.collections
    left, right = shade.get_paths()[0].get_extents().intervalx
    assert left == 100 and right > 100  # a criterion at one step has a width that can be seen


def test_best_is_the_earliest_highest_held_out_accuracy_after_training_began():
    rows = [
        {"step": 0, "val/accuracy": 0.9},
        {"step": 1, "val/accuracy": None, "reward/accuracy/mean": 0.8},
        {"step": 2, "val/accuracy": 0.5, "reward/accuracy/mean": 0.4},
        {"step": 3, "val/accuracy": 0.5, "reward/accuracy/mean": math.nan},
    ]
    assert best_row(rows) == (rows[2], "val/accuracy")
    assert best_row(rows[:2]) == (rows[1], "reward/accuracy/mean")
    assert best_row(rows[:1]) is None and best_row([]) is None


def test_end_table_says_where_a_figure_is_not_from_the_first_or_last_step():
    rows = [{"step": s, "actor/entropy": e, "reward/accuracy/mean": s / 10} for s, e in ((1, 2), (2, 1.5), (3, None))]
    assert end_figures(rows) == [
        ("accuracy, training", "0.100", "0.300", "0.300"),
        ("entropy", "2.00", "–", "1.50 (step 2)"),
    ]


def test_a_small_figure_is_not_rounded_to_nothing():
    assert [formatted(v, ".2f") for v in (None, 0.0, 0.001, 1.25)] == ["–", "0.00", "1.0e-03", "1.25"]


@pytest.mark.parametrize("name", ["healthy_run", "two_step_run", "empty_run"])
def test_end_table_prints(name, request):
    text = io.StringIO()
    rows = read_run(request.getfixturevalue(name)).rows_from_start
    Console(file=text, width=100).print(end_table(rows))
    assert ("entropy" in text.getvalue()) == bool(rows)


@pytest.mark.parametrize("name", ["healthy_run", "collapsing_run"])
def test_everything_that_is_written_fits_the_picture(name, request, tmp_path, monkeypatch):
    """Legends hang below their panels: none may leave the picture, or cover a panel or its title."""
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **words: (drawn.append(self), save(self, path, **words)))
    rows = read_run(request.getfixturevalue(name)).rows_from_start
    bands = [*BANDS, *(Band(f"logical_connectives/{which}mean", False, low=1e9) for which in ("", "pos/", "neg/"))]
    (tmp_path / "c.png").write_bytes(curves_png(rows, bands=bands, title="x"))
    (figure,) = drawn
    panels = [axes for axes in figure.axes if axes.axison]
    legends = [axes.get_legend().get_window_extent() for axes in panels if axes.get_legend()]
    titles = [title.get_window_extent() for axes in panels for title in (axes._left_title, axes._right_title)]
    titles = [title for title in titles if title.width > 1]
    texts = [text.get_window_extent() for text in figure.texts]
    assert len(legends) > 5 and len(titles) > 12 and len(texts) == 2
    for box in (*legends, *titles, *texts):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, box
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, box
    for legend in legends:
        others = [*(axes.get_window_extent() for axes in panels), *titles, *texts]
        assert not any(legend.overlaps(other) for other in others), legend
    for i, title in enumerate(titles):  # a remark stands in the same line as its title
        assert not any(title.overlaps(other) for other in titles[i + 1 :]), title


def test_scores_over_the_steps_are_a_picture_whatever_is_missing(tmp_path):
    course = [
        {
            "step": step, "data": "$a_{", "n": 4, "num_questions": 30, "avg": 0.1 * step, "avg_ci95": [0.0, 1.0],
            "pass_at": {"4": 0.5} if step > 1 else {}, "maj": 0.3, "maj_ci95": None if step == 2 else [0.2, 0.4],
        }
        for step in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "scores.png").write_bytes(scores_png(course, "r"))
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
