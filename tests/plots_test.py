"""Tests of `report`: figures that are really drawn, tables compared letter by letter."""

import copy
import itertools
import json
import math
import subprocess
import sys

import matplotlib.image
import pytest

from keras_l2e import plots as report

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def make_row(length, nesting=1, token_accuracy=0.98, exact_match=0.9, **changes):
    return {
        "length": length,
        "nesting": nesting,
        "num_examples": 1000,
        "token_accuracy": token_accuracy,
        "exact_match": exact_match,
        "free_token_accuracy": 0.97,
        "answer_in_program": 0.125,
        **changes,
    }


def make_evaluation(rows, **changes):
    return {
        "task": "addition",
        "split": "test",
        "input_form": "reverse",
        "seed": 1,
        "chance_token_accuracy": 0.0909,
        "rows": rows,
        "beyond_training": [],
        "samples": [],
        **changes,
    }


def make_carry(length, carry_chain, exact_match, num_examples=100):
    return {
        "length": length,
        "nesting": 1,
        "carry_chain": carry_chain,
        "num_examples": num_examples,
        "exact_match": exact_match,
        "answer_in_program": 0.0,
    }


def make_operation(length, nesting, operation, exact_match):
    return {
        "length": length,
        "nesting": nesting,
        "operation": operation,
        "num_examples": 500,
        "token_accuracy": 0.9,
        "exact_match": exact_match,
        "answer_in_program": 0.2,
    }


def make_history(difficulties, epochs_each=2, examples_each=1000):
    """A run of `epochs_each` epochs at each difficulty, the last of which is the target."""
    history = []
    for i, (length, nesting) in enumerate(d for d in difficulties for _ in range(epochs_each)):
        rates = {"token_accuracy": 0.5 + i / 1000, "exact_match": i / 1000, "num_examples": 500}
        lower = {"token_accuracy": 0.4 + i / 1000, "exact_match": i / 2000, "num_examples": 500}
        history.append(
            {
                "epoch": i,
                "num_examples": (i + 1) * examples_each,
                "difficulty": {"length": length, "nesting": nesting},
                "loss": 2 / (i + 1),
                "validation": rates,
                "target_validation": rates if (length, nesting) == difficulties[-1] else lower,
            }
        )
    return history


ADDITION = make_evaluation([make_row(length) for length in range(1, 6)])
PROGRAMS = make_evaluation(
    [make_row(length, nesting) for nesting in (1, 2, 3) for length in range(1, 10)],
    task="program",
)
SMALL = make_evaluation(
    [
        make_row(1, token_accuracy=1.0, exact_match=1.0),
        make_row(2, token_accuracy=0.99996, exact_match=0.9),
    ],
    beyond_training=[make_row(3, exact_match=0.00002, num_examples=50)],
    by_carry_chain=[
        make_carry(1, 1, 1.0),
        make_carry(1, 0, 0.9),
        make_carry(2, 0, 0.5, num_examples=300),
    ],
    samples=[
        {
            "length": 3,
            "nesting": 2,
            "program": "j=858\nfor x in range(8):j+=92\nprint((j+756))",
            "target": "2350",
            "output": "235\n",
            "correct": False,
        },
        {
            "length": 1,
            "nesting": 1,
            "program": "print(1+2)",
            "target": "3",
            "output": "3",
            "correct": True,
        },
    ],
)


def texts(figure):
    """Every text of a figure that would be seen."""
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_visible()]


def step_labels(axes):
    return [t for t in axes.texts if t.get_visible() and t.xycoords != "data"]


def legend_labels(figure):
    return [t.get_text() for t in figure.legends[0].get_texts()]


def assert_png(path):
    assert path.read_bytes().startswith(PNG_SIGNATURE)
    height, width, _ = matplotlib.image.imread(path).shape
    assert width == round(report.WIDTH * report.DPI)
    assert 300 <= height <= 2400
    assert 5_000 < path.stat().st_size < 1_000_000
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# Every figure, drawn


@pytest.mark.parametrize(
    "history",
    [
        make_history([(5, 2)], epochs_each=1),
        make_history([(1, 1), (2, 1)]),
        make_history([(length, nesting) for nesting in (1, 2, 3) for length in range(1, 10)]),
        make_history([(length, 1) for length in range(1, 65)]),
    ],
    ids=["one point", "two steps", "27 steps", "64 steps"],
)
def test_learning_curve_is_a_png(tmp_path, history):
    report.plot_learning_curve(history, tmp_path / "curve.png")
    assert_png(tmp_path / "curve.png")


@pytest.mark.parametrize(
    "evaluation",
    [
        make_evaluation([make_row(5)]),
        make_evaluation([make_row(1)], beyond_training=[make_row(2)]),
        make_evaluation([make_row(length) for length in range(1, 41)]),
        make_evaluation([make_row(2, n) for n in (1, 2)]),
        make_evaluation([make_row(x, y) for x in range(1, 13) for y in range(1, 11)]),
    ],
    ids=["1 row", "1 + 1", "40 rows", "1x2", "12x10"],
)
def test_evaluation_is_a_png(tmp_path, evaluation):
    report.plot_evaluation(evaluation, str(tmp_path / "evaluation.png"))
    assert_png(tmp_path / "evaluation.png")


def test_breakdown_is_a_png(tmp_path):
    report.plot_breakdown(SMALL, tmp_path / "breakdown.png")
    assert_png(tmp_path / "breakdown.png")


def test_no_breakdown_no_file(tmp_path):
    report.plot_breakdown(ADDITION, tmp_path / "breakdown.png")
    assert list(tmp_path.iterdir()) == []


def test_equal_data_gives_equal_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        report.plot_evaluation(copy.deepcopy(ADDITION), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_neither_pyplot_nor_tensorflow_is_imported():
    code = (
        "import sys, keras_l2e.plots as report;"
        "rates = {'token_accuracy': 0.5, 'exact_match': 0.5};"
        "report._learning_curve("
        "[{'num_examples': 1, 'difficulty': {'length': 1, 'nesting': 1}, 'loss': 1.0,"
        " 'validation': rates, 'target_validation': rates}]);"
        "print([m for m in ('matplotlib.pyplot', 'tensorflow', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# Learning curve


def test_learning_curve_says_what_it_shows():
    figure = report._learning_curve(make_history([(1, 1), (2, 1), (3, 1)]))
    upper, lower = figure.axes
    assert legend_labels(figure) == [
        "exact_match (free-running), current difficulty",
        "exact_match (free-running), target difficulty",
        "token_accuracy (teacher-forced), current difficulty",
        "token_accuracy (teacher-forced), target difficulty",
    ]
    assert upper.get_ylabel() == "share right, validation"
    assert lower.get_xlabel() == "training examples seen"
    assert lower.get_ylabel() == "training loss (nats)"
    assert lower.get_yscale() == "log"
    assert upper.get_title(loc="left") == "current difficulty: length (digits)"


def test_learning_curve_without_curriculum_draws_the_target_alone():
    figure = report._learning_curve(make_history([(5, 2)], epochs_each=4))
    assert len(figure.axes[0].lines) == 2
    assert figure.axes[0].get_title(loc="left") == "difficulty: length 5, nesting 2"


def test_steps_begin_where_the_difficulty_before_ended():
    history = make_history([(1, 1), (2, 1), (1, 2)], epochs_each=3, examples_each=100)
    assert report._steps(history) == [
        (0, 1, "nesting 1"),
        (300, 2, "nesting 1"),
        (600, 1, "nesting 2"),
    ]


def test_levels_of_some_operations_have_a_star():
    history = make_history([(1, 1), (2, 1), (1, 1), (2, 1)], epochs_each=1, examples_each=100)
    for line in history[:2]:
        line["difficulty"]["operations"] = ["pair"]
    assert report._steps(history)[1:3] == [(100, 2, "nesting 1*"), (200, 1, "nesting 1")]
    figure = report._learning_curve(history)
    assert figure.axes[0].get_title(loc="left").endswith("; *: some operations only")
    labels = [label.get_text() for label in step_labels(figure.axes[0])]
    assert labels == ["1", "2", "1", "2", "nesting 1*", "nesting 1"]


def test_no_line_joins_rates_of_unlike_difficulties():
    history = make_history([(1, 1), (2, 1)], epochs_each=2, examples_each=10)
    gap = pytest.approx(math.nan, nan_ok=True)
    assert report._curve(history, "validation", "exact_match") == (
        [10, 20, gap, 30, 40],
        [0.0, 0.001, gap, 0.002, 0.003],
    )
    assert report._curve(history, "target_validation", "exact_match") == (
        [10, 20, 30, 40],
        [0.0, 0.0005, 0.002, 0.003],
    )


@pytest.mark.parametrize(
    ("difficulties", "epochs_each"),
    [
        ([(length, 1) for length in range(1, 65)], 1),
        ([(length, nesting) for nesting in (1, 2, 3) for length in range(1, 10)], 3),
        ([(1 + i % 12, 1 + i % 10) for i in range(300)], 1),
        ([(length, 1) for length in range(1, 10)] + [(9, 1)] * 200, 1),
    ],
)
def test_step_labels_do_not_touch(difficulties, epochs_each):
    figure = report._learning_curve(make_history(difficulties, epochs_each))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in step_labels(figure.axes[0])]
    assert len(boxes) >= 2
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    # Nothing reaches beyond the figure either.
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 for b in boxes)
    assert all(b.y1 <= figure.bbox.y1 for b in boxes)


def test_step_labels_with_room_are_all_there():
    figure = report._learning_curve(make_history([(x, y) for y in (1, 2) for x in (1, 2, 3)], 5))
    written = [label.get_text() for label in step_labels(figure.axes[0])]
    assert written == ["1", "2", "3", "1", "2", "3", "nesting 1", "nesting 2"]


def test_the_last_step_is_always_labelled():
    figure = report._learning_curve(make_history([(length, 1) for length in range(1, 65)], 1))
    written = [label.get_text() for label in step_labels(figure.axes[0])]
    assert written[-1] == "64"
    assert 10 <= len(written) < 64


def test_rates_that_are_not_known_are_skipped():
    history = make_history([(1, 1), (2, 1)], epochs_each=2)
    history[2]["validation"]["exact_match"] = None
    figure = report._learning_curve(history)
    figure.draw_without_rendering()
    current = figure.axes[0].lines[0]
    assert [x for x, y in current.get_xydata() if y == y] == [1000, 2000, 4000]


# Evaluation


def test_bars_show_every_row_and_name_every_mark():
    evaluation = make_evaluation(
        [make_row(1), make_row(2, exact_match=0.99996)], beyond_training=[make_row(3)]
    )
    figure = report._length_bars(evaluation)
    (axes,) = figure.axes
    heights = sorted(
        patch.get_height() for container in axes.containers for patch in container.patches
    )
    assert heights == [0.9, 0.9, 0.98, 0.98, 0.98, 0.99996]
    hatched = [c.patches[0] for c in axes.containers if c.patches[0].get_hatch()]
    assert sorted(patch.get_height() for patch in hatched) == [0.9, 0.98]
    assert {">.999", ".900", ".980"} <= set(texts(figure))
    assert legend_labels(figure) == [
        "exact_match (free-running)",
        "token_accuracy (teacher-forced)",
        "answer_in_program (the text holds the answer)",
        "chance token_accuracy: 0.091",
        "beyond training",
    ]
    assert axes.get_ylabel() == "share right (1,000 examples each)"
    assert axes.get_xlabel() == "length (digits)"
    assert figure.get_suptitle() == "addition, test split, input form reverse, seed 1"


def test_many_bars_have_few_legible_ticks():
    figure = report._length_bars(make_evaluation([make_row(x) for x in range(1, 65)]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels][:3] == ["5", "10", "15"]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    assert legend_labels(figure)[1] == "token_accuracy (teacher-forced), behind"


def test_numbers_above_the_bars_do_not_touch():
    rows = [make_row(x, token_accuracy=0.99999, exact_match=0.99998) for x in range(1, 12)]
    figure = report._length_bars(make_evaluation(rows))
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) == 22
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_heat_maps_have_a_fixed_scale_and_blank_missing_cells():
    rows = [make_row(1, 1), make_row(2, 1), make_row(1, 2)]
    figure = report._heat_maps(make_evaluation(rows, beyond_training=[make_row(3, 1)]))
    for axes, value in zip(figure.axes[:2], (".900", ".980"), strict=True):
        (mesh,) = axes.collections
        assert mesh.get_clim() == (0, 1)
        assert mesh.get_array().mask.tolist() == [[False] * 3, [False, True, True]]
        assert [t.get_text() for t in axes.texts] == [value, ".12"] * 4
        assert len(axes.patches) == 1
    assert figure.axes[0].get_title(loc="left") == "exact_match (free-running)"
    assert figure.axes[1].get_title(loc="left") == "token_accuracy (teacher-forced), chance 0.091"
    assert figure.get_supxlabel().endswith("dashed: beyond training")


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (9, 3), (12, 10)])
def test_heat_map_numbers_fit_their_cells(shape):
    columns, rows = shape
    grid = [make_row(x, y, 0.99999, 0.00001) for x in range(1, columns + 1) for y in range(1, rows)]
    figure = report._heat_maps(make_evaluation([*grid, make_row(1, rows)]))
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        boxes = [t.get_window_extent() for t in axes.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert max(box.width for box in boxes) < axes.bbox.width / columns


# Breakdown


def test_breakdown_by_operation_shows_the_hardest_and_all():
    evaluation = make_evaluation(
        [make_row(1, 1), make_row(2, 2)],
        by_operation=[
            make_operation(1, 1, "pair", 1.0),
            make_operation(1, 1, "ifstat", 0.8),
            make_operation(2, 2, "pair", 0.5),
        ],
    )
    key, groups = report._breakdown_groups(evaluation)
    assert key == "by_operation"
    assert [title for title, _ in groups] == [
        "hardest trained difficulty: length 2, nesting 2",
        "all trained difficulties",
    ]
    assert [[(e["operation"], e["exact_match"]) for e in entries] for _, entries in groups] == [
        [("pair", 0.5)],
        [("ifstat", 0.8), ("pair", 0.75)],
    ]
    figure = report._breakdown(evaluation, key, groups)
    assert figure.axes[1].get_xlabel() == "operation"
    assert "exact_match (free-running) and its 95% interval" in legend_labels(figure)


def test_breakdown_of_one_difficulty_has_one_panel():
    evaluation = make_evaluation(
        [make_row(9)], by_carry_chain=[make_carry(9, c, 1 - c / 10) for c in range(10)]
    )
    _, groups = report._breakdown_groups(evaluation)
    assert [title for title, _ in groups] == ["hardest trained difficulty: length 9"]


def test_interval_is_wilsons():
    # Nine of ten: (0.9 + 0.19208 -+ 1.96 sqrt(0.009 + 0.009604)) / 1.38416.
    low, high = report.wilson(0.9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)
    low, high = report.wilson(1.0, 10)
    assert (round(low, 4), round(high, 4)) == (0.7225, 1.0)


# Tables


def test_table():
    assert report.format_table(SMALL) == (
        "addition, test split, input form reverse, seed 1\n"
        "\n"
        "                                 token_accuracy     exact_match\n"
        "length  nesting  num_examples  (teacher-forced)  (free-running)"
        "  free_token_accuracy  answer_in_program\n"
        "     1        1          1000            1.0000          1.0000"
        "               0.9700             0.1250\n"
        "     2        1          1000           >0.9999          0.9000"
        "               0.9700             0.1250\n"
        "     3        1            50            0.9800         <0.0001"
        "               0.9700             0.1250  beyond training\n"
        "\n"
        "chance token_accuracy: 0.0909\n"
        "\n"
        "by_carry_chain, hardest trained difficulty: length 2\n"
        "\n"
        "                              exact_match\n"
        "carry_chain  num_examples  (free-running)  answer_in_program\n"
        "          0           300          0.5000             0.0000\n"
        "\n"
        "by_carry_chain, all trained difficulties\n"
        "\n"
        "                              exact_match\n"
        "carry_chain  num_examples  (free-running)  answer_in_program\n"
        "          0           400          0.6000             0.0000\n"
        "          1           100          1.0000             0.0000"
    )


def test_markdown_table():
    evaluation = make_evaluation(
        [make_row(1, 1)], task="program", by_operation=[make_operation(1, 1, "pair", 0.75)]
    )
    assert report.format_markdown_table(evaluation) == (
        "**program, test split, input form reverse, seed 1**\n"
        "\n"
        "| length | nesting | num_examples | token_accuracy (teacher-forced) |"
        " exact_match (free-running) | free_token_accuracy | answer_in_program |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| 1 | 1 | 1000 | 0.9800 | 0.9000 | 0.9700 | 0.1250 |\n"
        "\n"
        "chance token_accuracy: 0.0909\n"
        "\n"
        "**by_operation, hardest trained difficulty: length 1**\n"
        "\n"
        "| operation | num_examples | exact_match (free-running) | answer_in_program |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| pair | 500 | 0.7500 | 0.2000 |"
    )


def test_markdown_marks_rows_beyond_training():
    lines = report.format_markdown_table(SMALL).splitlines()
    assert [line for line in lines if line.endswith("| beyond training |")] == [lines[6]]
    assert len({line.count("|") for line in lines[2:7]}) == 1


def test_samples():
    assert report.format_samples(SMALL) == (
        "length 3, nesting 2\n"
        "  program  j=858\n"
        "           for x in range(8):j+=92\n"
        "           print((j+756))\n"
        "  target   2350\n"
        "  output   235\\n  WRONG\n"
        "\n"
        "length 1\n"
        "  program  print(1+2)\n"
        "  target   3\n"
        "  output   3  CORRECT"
    )


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1, [1]), (2, [1, 7]), (3, [1, 4, 7]), (7, [1, 2, 3, 4, 5, 6, 7]), (9, range(1, 8))],
)
def test_samples_are_spread_over_the_difficulties(count, lengths):
    sample = {"nesting": 1, "program": "", "target": "", "output": "", "correct": True}
    samples = [{**sample, "length": length} for length in range(1, 8)]
    lines = report.format_samples({"samples": samples}, count=count).splitlines()
    assert [line for line in lines if line.startswith("length")] == [f"length {x}" for x in lengths]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.001, "<0.01"), (0.25, "0.25"), (0.999, ">0.99"), (1.0, "1.00")],
)
def test_no_rate_is_rounded_to_all_or_nothing(value, text):
    assert report.format_rate(value, 2) == text


# Reading


def write_history(path, history):
    path.write_text("".join(json.dumps(epoch) + "\n" for epoch in history))


def test_history_is_read_as_written(tmp_path):
    history = make_history([(1, 1), (2, 1)])
    write_history(tmp_path / "history.jsonl", history)
    assert report.read_history(tmp_path / "history.jsonl") == history


def test_a_torn_last_line_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    write_history(path, make_history([(1, 1)], epochs_each=3))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"history\.jsonl, line 3: no JSON"):
        report.read_history(path)


def test_evaluation_is_read_as_written(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(SMALL, indent=2))
    assert report.read_evaluation(path) == SMALL


def test_a_broken_evaluation_is_named(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text('{"task": "addition",\n "rows": }\n')
    with pytest.raises(ValueError) as caught:
        report.read_evaluation(path)
    assert str(caught.value).startswith(f"{path}: no JSON (Expecting value: line 2 column 10")
