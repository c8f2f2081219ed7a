"""Tests of `plots`: figures that are really drawn, and what they say."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy
import pytest
from tables_test import make_evaluation, make_row

from keras_l2e import plots, tables

RESULTS = Path(__file__).parent.parent / "results"


def make_history(difficulties, epochs_each=2, examples_each=1000):
    """A run of `epochs_each` epochs at each difficulty, the last of which is the target."""
    history = []
    for i, (length, nesting) in enumerate(d for d in difficulties for _ in range(epochs_each)):
        rates = {"token_accuracy": 0.5 + i / 1000, "exact_match": i / 1000}
        lower = {"token_accuracy": 0.4 + i / 1000, "exact_match": i / 2000}
        history.append(
            {
                "num_examples": (i + 1) * examples_each,
                "difficulty": {"length": length, "nesting": nesting},
                "loss": 2 / (i + 1),
                "validation": rates,
                "target_validation": rates if (length, nesting) == difficulties[-1] else lower,
            }
        )
    return history


def words(artists):
    return [artist.get_text() for artist in artists]


def overlap(artists):
    boxes = [artist.get_window_extent() for artist in artists]
    return any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def assert_png(path):
    height, width, _ = matplotlib.image.imread(path).shape
    assert width == round(plots.WIDTH * plots.DPI)
    assert 300 <= height <= 2400
    assert 5_000 < path.stat().st_size < 1_000_000


# Every figure, drawn


@pytest.mark.parametrize("run", ["addition_32_seed_1", "programs_5_2_seed_1"])
def test_published_runs_are_drawn(tmp_path, run):
    evaluation = tables.read_evaluation(RESULTS / run / "evaluation.json")
    history = tables.read_history(RESULTS / run / "history.jsonl")
    plots.plot_learning_curve(history, tmp_path / "curve.png")
    plots.plot_evaluation(evaluation, tmp_path / "evaluation.png")
    plots.plot_breakdown(evaluation, str(tmp_path / "breakdown.png"))
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        assert_png(path)


@pytest.mark.parametrize(
    "rows",
    [[make_row(5)], [make_row(2, nesting) for nesting in (1, 2)]],
    ids=["one bar", "two cells"],
)
def test_the_smallest_is_drawn_and_equal_data_give_equal_bytes(tmp_path, rows):
    for name in ("a.png", "b.png"):
        plots.plot_evaluation(make_evaluation(rows), tmp_path / name)
    assert_png(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_no_kinds_no_breakdown(tmp_path):
    plots.plot_breakdown(make_evaluation([make_row(1)]), tmp_path / "breakdown.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backend", "kept"),
    [
        # What JupyterLab's widgets set; the package is not among those that the tests need.
        ("module://ipympl.backend_nbagg", "agg"),
        ("module://matplotlib.backends.backend_svg", "module://matplotlib.backends.backend_svg"),
    ],
)
def test_figures_need_no_backend(tmp_path, backend, kept):
    code = (
        "import sys; from keras_l2e import plots;"
        f"plots.save_figure(plots.new_figure(1.0), {str(tmp_path / 'empty.png')!r});"
        "print(plots.matplotlib.get_backend(auto_select=False),"
        " [m for m in ('matplotlib.pyplot', 'tensorflow', 'pandas') if m in sys.modules])"
    )
    environment = os.environ | {"MPLBACKEND": backend}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == f"{kept} []\n"
    assert (tmp_path / "empty.png").exists()


# Learning curve


def test_learning_curve_says_what_it_shows():
    figure = plots._learning_curve(make_history([(1, 1), (2, 1), (1, 2)]))
    rates, difficulty, loss = figure.axes
    assert words(figure.legends[0].get_texts()) == [
        "token_accuracy (teacher-forced), current difficulty",
        "token_accuracy (teacher-forced), target difficulty",
        "exact_match (free-running), current difficulty",
        "exact_match (free-running), target difficulty",
    ]
    assert rates.get_ylabel() == "share right, validation"
    assert difficulty.get_title(loc="left") == (
        "current difficulty: length (digits); dashed: nesting (operations)"
    )
    assert loss.get_xlabel() == "training examples seen"
    assert loss.get_ylabel() == "training loss\n(nats)"
    assert loss.get_yscale() == "log"


def test_learning_curve_without_curriculum_draws_the_target_alone():
    figure = plots._learning_curve(make_history([(5, 1)], epochs_each=1))
    figure.draw_without_rendering()
    rates, difficulty, _ = figure.axes
    assert len(rates.lines) == 2
    (lengths,) = difficulty.patches
    assert lengths.get_data().values.tolist() == [5]
    assert difficulty.get_title(loc="left") == "current difficulty: length (digits)"


def test_steps_begin_where_the_difficulty_before_ended():
    history = make_history([(1, 1), (2, 1), (1, 2)], examples_each=100)
    lengths, nestings = plots._learning_curve(history).axes[1].patches
    for steps, values in ((lengths, [1, 1, 2, 2, 1, 1]), (nestings, [1, 1, 1, 1, 2, 2])):
        assert steps.get_data().values.tolist() == values
        assert steps.get_data().edges.tolist() == [0, 100, 200, 300, 400, 500, 600]


def test_no_line_joins_rates_of_unlike_difficulties_or_unknown_ones():
    history = make_history([(1, 1), (2, 1)], examples_each=10)
    history[2]["validation"]["exact_match"] = None
    current, target = plots._learning_curve(history).axes[0].lines[2:]
    assert (current.get_linestyle(), target.get_linestyle()) == ("None", "-")
    numpy.testing.assert_equal(current.get_xydata()[:, 1], [0, 0.001, math.nan, 0.003])
    numpy.testing.assert_equal(target.get_xydata()[:, 1], [0, 0.0005, math.nan, 0.003])


# Evaluation


def test_lines_show_every_row_and_name_every_mark():
    evaluation = make_evaluation(
        [make_row(1), make_row(2, exact_match=0.99996)], beyond_training=[make_row(4)]
    )
    figure = plots._length_lines(evaluation)
    (axes,) = figure.axes
    token_accuracy, exact_match, copied, chance = axes.lines
    for line, rates in (
        (token_accuracy, [0.98, 0.98, 0.98]),
        (exact_match, [0.9, 0.99996, 0.9]),
        (copied, [0.125] * 3),
    ):
        assert list(line.get_xdata()) == [1, 2, 4]
        assert list(line.get_ydata()) == rates
    assert set(chance.get_ydata()) == {0.0909}
    (beyond,) = axes.patches
    assert (beyond.get_x(), beyond.get_width()) == (2.5, 2.0)
    assert words(figure.legends[0].get_texts()) == [
        "token_accuracy (teacher-forced)",
        "exact_match (free-running)",
        "answer_in_program (the text holds the answer)",
        "chance token_accuracy: 0.091",
        "beyond training",
    ]
    assert axes.get_ylabel() == "share right (1,000 examples each)"
    assert axes.get_xlabel() == "length (digits)"
    assert figure.get_suptitle() == "addition, test split, input form reverse, seed 1"


def test_heat_maps_have_a_fixed_scale_and_blank_missing_cells():
    rows = [make_row(1, 1), make_row(2, 1), make_row(1, 2)]
    figure = plots._heat_maps(make_evaluation(rows, beyond_training=[make_row(3, 1)]))
    for axes, value in zip(figure.axes[:2], (".900", ".980"), strict=True):
        (mesh,) = axes.collections
        assert mesh.get_clim() == (0, 1)
        assert mesh.get_array().mask.tolist() == [[False] * 3, [False, True, True]]
        assert words(axes.texts) == [value, ".12"] * 4
        assert len(axes.patches) == 1
    assert figure.axes[0].get_title(loc="left") == "exact_match (free-running)"
    assert figure.axes[1].get_title(loc="left") == "token_accuracy (teacher-forced), chance 0.091"
    assert figure.get_supxlabel().endswith("dashed: beyond training")


# Breakdown


def test_a_breakdown_names_its_kinds():
    kinds = ("minus", "without any sign")
    evaluation = make_evaluation(
        [make_row(9)], by_first_sign=[make_row(9, first_sign=sign) for sign in kinds]
    )
    figure = plots._breakdown(evaluation)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "first sign"
    assert words(axes.get_xticklabels()) == [*kinds]
    assert words(axes.texts) == [".900", ".900"]
    assert axes.get_title(loc="left") == "hardest trained difficulty: length 9"
    assert set(words(figure.legends[0].get_texts())) == {
        "exact_match (free-running) and its 95% interval",
        "answer_in_program (the text holds the answer)",
    }


def test_interval_is_wilsons():
    # Nine of ten: (0.9 + 0.19208 -+ 1.96 sqrt(0.009 + 0.009604)) / 1.38416.
    assert plots.wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=5e-5)
    assert plots.wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)


# Texts


def learning_curve(least_loss):
    history = make_history([(1, 1), (2, 1)])
    for line, loss in zip(history, (1.9, 1.0, 1.5, least_loss), strict=True):
        line["loss"] = loss
    return plots._learning_curve(history)


def carry_chains(count):
    kinds = [make_row(32, 1, exact_match=0.9999, carry_chain=i) for i in range(count)]
    return plots._breakdown(make_evaluation([make_row(32)], by_carry_chain=kinds))


def largest_table():
    """All but two of the difficulties of a task, of the numbers that take the most room."""
    rows = [make_row(x, y, 0.99999, 0.00001) for x in range(1, 13) for y in range(1, 11)][:-2]
    return plots._heat_maps(make_evaluation(rows))


def labels(axis):
    """The labels of an axis within its limits."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    found = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [label for label in found if label.get_text()]


@pytest.mark.parametrize(
    ("draw", "texts", "at_least"),
    [
        *(
            (lambda loss=loss: learning_curve(loss), lambda figure: labels(figure.axes[2].yaxis), 2)
            for loss in (1.1, 0.5, 0.08, 0.001, 1e-6)
        ),
        (lambda: carry_chains(33), lambda figure: labels(figure.axes[0].xaxis), 33),
        (
            lambda: carry_chains(plots.MAX_VALUES),
            lambda figure: figure.axes[0].texts,
            plots.MAX_VALUES,
        ),
        (largest_table, lambda figure: figure.axes[0].texts, 2 * 118),
    ],
)
def test_texts_do_not_touch(draw, texts, at_least):
    figure = draw()
    figure.draw_without_rendering()
    found = texts(figure)
    assert len(found) >= at_least
    assert not overlap(found)


def test_numbers_fit_their_cells():
    figure = largest_table()
    figure.draw_without_rendering()
    widths = [text.get_window_extent().width for text in figure.axes[0].texts]
    assert max(widths) < figure.axes[0].bbox.width / 12
