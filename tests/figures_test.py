"""Figures and tables from cells that were never run: numbers made up, but drawn for good."""

import csv
import io
import itertools
import json
import math
import re

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from keras_l2e.errors import WorkError
from keras_l2e.language.tasks import Difficulty, grid
from keras_l2e.paper import comparisons, figures
from keras_l2e.paper import tables as figure_tables
from keras_l2e.paper.cells import FIGURES, cells
from keras_l2e.paper.comparisons import Measured, Spread, difference

RATES = {"sgd": 0.5, "adam": 0.003, "muon": 0.004}
SKILL = {"baseline": 0.35, "naive": 0.55, "mix": 0.75, "combined": 0.9}


def write_cell(folder, cell, skill):
    """A finished cell as training leaves it, its accuracies falling with the difficulty."""
    target = Difficulty(cell.flags["target_length"], cell.flags.get("target_nesting", 1))
    levels = grid(target)
    rows, samples = [], []
    for level in levels:
        hardness = level.length * level.nesting / 10
        accuracy = round(0.1 + 0.9 * math.exp(-hardness * (1 - skill) * 2), 6)
        rows.append(
            {
                "length": level.length,
                "nesting": level.nesting,
                "num_examples": 1000,
                "token_accuracy": accuracy,
                "exact_match": round(accuracy**3, 6),
                "free_token_accuracy": accuracy,
                "answer_in_program": 1.0 if cell.flags["task"] == "copy" else 0.1,
            }
        )
        sample = {"length": level.length, "nesting": level.nesting, "program": "print((1+\n2))"}
        samples.append(sample | {"target": "12184", "output": "12084", "correct": False})
    history = []
    for epoch in (1, 2):
        reached = levels[: int(len(levels) * skill * epoch / 2)]
        line = {
            "num_examples": cell.num_examples * epoch // 2,
            "difficulty": target._asdict(),
            "advanced_to": None,
            "target_validation": {"token_accuracy": skill / 2, "exact_match": skill / 3},
        }
        if cell.flags.get("validate_all_levels"):
            line["levels"] = [
                {**level._asdict(), "token_accuracy": 0.96 if level in reached else 0.5}
                for level in levels
            ]
        history.append(line)
    evaluation = {
        "input_form": cell.flags.get("input_form", "none"),
        "chance_token_accuracy": 0.0909,
        "rows": rows,
        "samples": samples,
    }
    kinds = {"program": ("by_operation", "operation", ["pair", "small_loop"])}
    kinds["addition"] = ("by_carry_chain", "carry_chain", list(range(target.length + 1)))
    if cell.flags["task"] in kinds:
        breakdown, name, values = kinds[cell.flags["task"]]
        evaluation[breakdown] = [
            {**row, name: value, "exact_match": skill / (2 + i)}
            for row in rows
            for i, value in enumerate(values)
        ]
    (folder / cell.name).mkdir(parents=True)
    (folder / cell.name / "evaluation.json").write_text(json.dumps(evaluation))
    text = "".join(json.dumps(line) + "\n" for line in history)
    (folder / cell.name / "history.jsonl").write_text(text)


def make_folder(folder, figure, budget="cpu", keep=lambda cell: True, rates=RATES):
    for i, cell in enumerate(filter(keep, cells(figure, budget, RATES))):
        skill = SKILL[cell.flags["strategy"]] + 0.02 * cell.flags["seed"] - 0.001 * (i % 7)
        write_cell(folder, cell, skill)
    return comparisons.collect(figure, budget, folder, rates if figure == "optimizers" else None)


@pytest.mark.parametrize(
    ("figure", "budget"),
    [*((figure, "cpu") for figure in FIGURES), ("programs", "paper")],
)
def test_figures_are_drawn_whole(tmp_path, figure, budget):
    result = make_folder(tmp_path / "cells", figure, budget)
    assert result["missing"] == []
    paths = figures.write(result, tmp_path)
    assert [path.name for path in paths] == [f"{figure}.{k}" for k in ("json", "csv", "png", "md")]
    image = matplotlib.image.imread(tmp_path / f"{figure}.png")
    assert image.std() > 0.01
    assert image.shape[1] == 1440  # 7.2 inches, a page's width.
    assert json.loads((tmp_path / f"{figure}.json").read_text()) == result
    rows = list(csv.DictReader(io.StringIO((tmp_path / f"{figure}.csv").read_text())))
    assert len(rows) == sum(len(cell["rows"]) for cell in result["cells"])
    assert {row["chance_token_accuracy"] for row in rows} == {"0.0909"}


@pytest.mark.parametrize("figure", FIGURES)
def test_legends_lie_within_the_page(tmp_path, figure):
    drawn = figures.draw(make_folder(tmp_path, figure))
    drawn.draw_without_rendering()
    for legend in drawn.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= drawn.bbox.x1


def test_a_bar_is_the_mean_of_its_seeds_and_each_seed_a_dot(tmp_path):
    result = make_folder(tmp_path, "addition")
    for axes, metric in zip(figures.draw(result).axes, comparisons.METRICS, strict=True):
        bars = {(round(bar.get_center()[0]), bar.get_facecolor()): bar for bar in axes.patches}
        dots = {
            round(line.get_xdata()[0], 6): line.get_ydata()
            for line in axes.lines
            if line.get_marker() == "."
        }
        assert len(bars) == len(dots) == 3 * len(SKILL)
        for (i, length), strategy in itertools.product(enumerate((5, 7, 9)), SKILL):
            found = comparisons.measured(result, metric, strategy=strategy, target_length=length)
            bar = bars[i, matplotlib.colors.to_rgba(figures.MARKS[strategy][0])]
            assert bar.get_height() == comparisons.mean(found)
            seeds = dots[round(bar.get_center()[0], 6)]
            assert len(seeds) == 2 and [m.rate for m in found] == list(seeds)
        copied = [segment for lines in axes.collections for segment in lines.get_segments()]
        assert [segment[0][1] for segment in copied] == pytest.approx([0.1] * 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "7", "9"]


def test_heat_maps_show_means_and_differences(tmp_path):
    result = make_folder(tmp_path, "programs")
    relative = [(strategy, "baseline") for strategy in ("naive", "mix", "combined")]
    kinds = [("baseline", None), ("combined", None), *relative]
    panels = list(itertools.product(kinds, comparisons.METRICS))
    drawn = figures.draw(result).axes[: len(panels)]  # The others are scales of colours.
    for axes, ((strategy, reference), metric) in zip(drawn, panels, strict=True):

        def value(length, nesting, names=(strategy, reference), metric=metric):
            first, second = (
                {"strategy": name, "target_length": length, "target_nesting": nesting}
                for name in names
            )
            if second["strategy"]:
                return comparisons.compare(result, metric, first, second).value
            return comparisons.mean(comparisons.measured(result, metric, **first))

        expected = [[value(length, nesting) for length in (2, 4, 6)] for nesting in (1, 2, 3)]
        (mesh,) = axes.collections
        np.testing.assert_array_equal(np.reshape(mesh.get_array(), [3, 3]), expected)
        title = f"{strategy} - {reference}" if reference else f"{strategy}, absolute"
        assert axes.get_title(loc="left").endswith(title)


def test_what_was_never_mastered_stands_above_the_total(tmp_path):
    # By how write_cell makes them up: the first digits are mastered, a share as large as the skill.
    never = {"baseline": {3, 4, 5, 6, 7}, "naive": {4, 5, 6, 7}, "mix": {6, 7}, "combined": {7}}
    total = 798_720
    first, *others = figures.draw(make_folder(tmp_path, "optimizers")).axes[:3]
    for axes in (first, *others):
        for strategy, lengths in never.items():
            lines = [line for line in axes.lines if line.get_color() == figures.MARKS[strategy][0]]
            marks = [line.get_xydata() for line in lines if line.get_mfc() == "white"]
            assert {round(x) for ((x, _),) in marks} == lengths
            assert {y for ((_, y),) in marks} == {1.08 * total}
            if strategy == "naive":
                # Two digits took one seed half of the training and the other one all of it.
                (means,) = (line.get_ydata() for line in lines if len(line.get_xdata()) > 2)
                assert list(means) == [total / 2, total * 3 / 4, total]
    assert axes.get_ylim()[1] > 1.08 * total
    (label,) = (text for text in first.texts if text.get_text() == "never")
    assert label.xy[1] == 1.08 * total


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("strategies", [(), ("combined", "mix")])
def test_figures_are_drawn_of_what_is_there(tmp_path, figure, strategies):
    (tmp_path / "cells").mkdir()
    result = make_folder(
        tmp_path / "cells",
        figure,
        keep=lambda cell: (
            cell.choosing or (cell.flags["strategy"] in strategies and cell.flags["seed"] < 2)
        ),
    )
    assert len(result["missing"]) + len(result["cells"]) == len(cells(figure, "cpu", RATES))
    figures.write(result, tmp_path)
    assert "cells are missing" in (tmp_path / f"{figure}.md").read_text()


def test_tables_of_addition(tmp_path):
    text = figure_tables.format_markdown(make_folder(tmp_path, "addition"))
    row, *_ = [line for line in text.splitlines() if line.startswith("| length 9 | 0.")]
    cells_of_row = [cell.strip() for cell in row.split("|")[1:-1]]
    assert len(cells_of_row) == 7  # Name, four strategies, copying, chance.
    assert all(" / " in cell for cell in cells_of_row[1:5])
    assert cells_of_row[5:] == ["0.100", "0.091"]
    assert "| **+0." in text
    assert "798,720 examples" in text
    assert "`12`~~`0`~~`84`" in text
    assert "`print((1+`<br>`2))`" in text


def test_tables_say_who_did_not_come_to_the_target(tmp_path):
    result = make_folder(tmp_path, "addition", keep=lambda cell: cell.flags["target_length"] == 9)
    assert "Ended before" not in figure_tables.format_markdown(result)
    result["cells"][1]["reached"] = {"length": 4, "nesting": 1}
    said = "Ended before they came to their target: length_9_naive_seed_1 (at length 4, nesting 1)."
    assert said in figure_tables.format_markdown(result)


@pytest.mark.parametrize(
    ("figure", "columns", "num_rows"),
    [
        ("programs", "pair | small_loop |", 36),
        ("addition", "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |", 12),
    ],
)
def test_tables_say_which_kinds_fail(tmp_path, figure, columns, num_rows):
    text = figure_tables.format_markdown(make_folder(tmp_path, figure))
    (table,) = [part for part in text.split("\n\n") if f"| strategy | {columns}" in part]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) == num_rows
    for row in rows:
        assert float(row[2]) > float(row[3]) > 0
    # Sums of five digits have no longer chains.
    assert {len(row) for row in rows} == ({8, 10, 12} if figure == "addition" else {4})


def test_tables_of_optimizers(tmp_path):
    text = figure_tables.format_markdown(make_folder(tmp_path, "optimizers"))
    assert text.count("| chosen |") == 3
    # Half of the training masters half of what all of it does.
    (row,) = [line for line in text.splitlines() if line.startswith("| muon | combined | 399,360")]
    assert row.endswith("| 798,720 / 798,720 | never / never |")


def test_rates_that_are_being_chosen_are_shown(tmp_path):
    (tmp_path / "cells").mkdir()

    def is_trial(cell):
        return cell.choosing and cell.flags["learning_rate"] != RATES["muon"]

    result = make_folder(tmp_path / "cells", "optimizers", keep=is_trial, rates=None)
    assert (len(result["cells"]), len(result["missing"])) == (8, 25)
    drawn = figures.draw(result)
    assert "addition of 7 digits" in drawn.get_suptitle()
    assert "24 cells missing" in drawn.get_suptitle()
    text = figure_tables.format_markdown(result)
    assert "25 cells are missing" in text
    assert "chosen" not in text
    assert re.findall("^## .*", text, re.MULTILINE) == ["## Learning rates"]


def test_a_rate_at_the_edge_is_called_so(tmp_path):
    rates = {"sgd": 1.2, "adam": 0.001, "muon": 0.004}
    text = figure_tables.format_markdown(make_folder(tmp_path, "optimizers", rates=rates))
    chosen = [line for line in text.splitlines() if "chosen" in line]
    assert [line.split("|")[1].strip() for line in chosen] == ["sgd", "adam", "muon"]
    ends = [line.rstrip(" |").rpartition("| ")[2] for line in chosen]
    assert ends == ["chosen, the highest tried", "chosen, the lowest tried", "chosen"]


def test_a_rate_that_diverged_is_a_result(tmp_path):
    def keep(cell):
        return not (cell.choosing and cell.flags["learning_rate"] == 1.2)

    result = make_folder(tmp_path, "optimizers", keep=keep)
    assert result["missing"] == []
    text = figure_tables.format_markdown(result)
    assert "| sgd | 1.2 | diverged | diverged |  |" in text
    # 0.5 is not the highest tried.
    assert "| chosen |" in next(line for line in text.splitlines() if "| sgd | 0.5 |" in line)
    # As long as no rate is chosen, it may be under way.
    result = comparisons.collect("optimizers", "cpu", tmp_path)
    assert "rate_sgd_1_2e+00" in result["missing"]
    assert "diverged" not in figure_tables.format_markdown(result)


def test_relative_cells_within_the_margin_are_in_brackets(tmp_path):
    result = make_folder(tmp_path, "programs")
    place = {"target_length": 2, "target_nesting": 1}
    combined, baseline, nobody = (
        {"strategy": name, **place} for name in ("combined", "baseline", "nobody")
    )
    assert comparisons.compare(result, "token_accuracy", combined, baseline).significant
    same = comparisons.compare(result, "token_accuracy", combined, combined)
    assert (same.value, same.significant) == (0, False)
    assert comparisons.compare(result, "token_accuracy", combined, nobody) is None


@pytest.mark.parametrize(
    ("figure", "header"),
    [
        ("memorization", "| strategy | reverse_double - none |"),
        ("optimizers", "| strategy | muon - sgd | muon - adam | adam - sgd |"),
    ],
)
def test_forms_and_optimizers_are_compared_too(tmp_path, figure, header):
    text = figure_tables.format_markdown(make_folder(tmp_path, figure))
    tables = [part for part in text.split("\n\n") if part.startswith(header)]
    assert len(tables) == 2  # For each metric.
    rows = [line.strip("| ").split(" | ") for line in tables[0].splitlines()[2:]]
    assert [row[0] for row in rows] == ["baseline", "naive", "mix", "combined"]
    # They were made up alike.
    assert all(cell.startswith("(") for row in rows for cell in row[1:])


CERTAIN = Spread(largest=0.0, deviation=0.0, degrees=4)


def test_the_margin_counts_the_choice_of_test_examples():
    one = [Measured(0.5, 10_000)]
    # Each rate's standard error is 0.005, that of their difference 1.414 times it.
    assert difference(one, one, CERTAIN).margin == pytest.approx(1.96 * 0.00707, rel=0.01)
    # All seeds answer the same test examples.
    assert difference(2 * one, 2 * one, CERTAIN).margin == pytest.approx(1.96 * 0.00707, rel=0.01)
    assert difference([Measured(0.515, 10_000)], one, CERTAIN).significant
    assert not difference([Measured(0.512, 10_000)], one, CERTAIN).significant
    # Rates of exactly 1 are not known exactly.
    assert 0 < difference([Measured(1.0, 100)], [Measured(1.0, 100)], CERTAIN).margin < 0.1


def test_the_margin_counts_seeds():
    sure = 10**9
    one = [Measured(0.5, sure)]
    two = [Measured(0.50, sure), Measured(0.53, sure)]
    spread = Spread(largest=0.01, deviation=0.02, degrees=4)
    # Student's t for four degrees of freedom is 2.776.
    assert difference(one, one, spread).margin == pytest.approx(2.776 * 0.02 * 2**0.5, rel=1e-3)
    assert difference(two, two, spread).margin == pytest.approx(2.776 * 0.02, rel=1e-3)
    # Never less than the range: a set of two seeds has its own, a set of one has the largest seen.
    little = Spread(largest=0.5, deviation=0.001, degrees=4)
    assert difference(two, two, little).margin == pytest.approx(0.03)
    assert difference(two, one, little).margin == 0.5
    # Nobody knows what another seed would have given.
    assert not difference([Measured(0.9, sure)], one).significant
    # By themselves: (0.03 / sqrt(2)), one degree of freedom, for two and one.
    expected = 12.706 * 0.03 / 2**0.5 * 1.5**0.5
    assert difference(two, one).margin == pytest.approx(expected, rel=1e-3)


def test_one_equal_pair_in_twenty_is_called_different_at_most():
    rng = np.random.default_rng(1)
    for seeds, others in ((1, 4), (2, 8)):
        called = 0
        for _ in range(2_000):
            rates = rng.normal(0.5, 0.02, [2 + others, 2])
            cells = [[Measured(rate, 10**9) for rate in pair] for pair in rates.tolist()]
            first, second = (cell[:seeds] for cell in cells[:2])
            among = cells[2:] if seeds == 1 else cells
            called += difference(first, second, comparisons.spread_of(among)).significant
        assert called / 2_000 < 0.05 + 4 * (0.05 * 0.95 / 2_000) ** 0.5


def test_mastered_is_the_first_time_above_the_threshold():
    def line(seen, *accuracies):
        levels = [
            {"length": i, "nesting": 1, "token_accuracy": accuracy}
            for i, accuracy in enumerate(accuracies, start=1)
        ]
        return {"num_examples": seen, "levels": levels}

    history = [line(10, 0.9, 0.2, None), line(20, 0.96, 0.3, None), line(30, 0.5, 0.95, None)]
    assert [m["num_examples"] for m in comparisons.mastered(history)] == [20, None, None]
    assert comparisons.mastered([{"num_examples": 10}]) == []


def test_a_broken_cell_is_an_error_of_one_line(tmp_path):
    cell = cells("addition", "cpu")[0]
    write_cell(tmp_path, cell, 0.5)
    (tmp_path / cell.name / "history.jsonl").write_text("")
    with pytest.raises(WorkError, match=f"{cell.name} is no whole cell"):
        comparisons.collect("addition", "cpu", tmp_path)
