"""Figures and tables from cells that were never run: numbers made up, but drawn for good."""

import itertools
import json
import math
import re

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer

from keras_l2e.errors import WorkError
from keras_l2e.language.tasks import Difficulty, grid
from keras_l2e.paper import comparisons, figures, models, tables
from keras_l2e.paper.cells import FIGURES, cells
from keras_l2e.tables import METRICS
from keras_l2e.teaching.bandits import BANDITS

SLOW = pytest.mark.slow
SKILL = {"baseline": 0.35, "naive": 0.55, "mix": 0.75, "combined": 0.9, "review": 0.95}
SKILL |= {name: 0.6 + 0.02 * i for i, name in enumerate(BANDITS)}
SKILL["frontier"] = SKILL["review"]


# An epoch of each network.
SECONDS = {"lstm": 10, "attention": 10, "transformer": 15, "universal_transformer": 18}


def write_cell(folder, cell, skill, quicker=0):
    """A finished cell as training leaves it, its accuracies falling with the difficulty."""
    target = Difficulty(cell.flags["target_length"], cell.flags.get("target_nesting", 1))
    levels = grid(target)
    rows, samples = [], []
    for level in levels:
        accuracy = 0.1 + 0.9 * math.exp(-level.length * level.nesting / 5 * (1 - skill))
        rates = {"token_accuracy": accuracy, "exact_match": accuracy**3}
        rates |= {"free_token_accuracy": accuracy, "answer_in_program": 0.1}
        rows.append({**level._asdict(), "num_examples": 1000, **rates})
        sample = {**level._asdict(), "program": "print((1+\n2))", "target": "12184"}
        samples.append(sample | {"output": "12084", "correct": False})
    history = []
    for epoch in (1, 2):
        reached = levels[: int(len(levels) * skill * epoch / 2)]
        line = {
            "num_examples": cell.num_examples * epoch // 2,
            "difficulty": target._asdict(),
            "advanced_to": None,
            "epoch": epoch,
            "target_validation": {
                "token_accuracy": skill / 2,
                "exact_match": epoch * skill / 4,
                "free_token_accuracy": epoch * skill / 3,
                "num_examples": 500,
            },
        }
        if cell.flags.get("validate_all_levels"):
            line["levels"] = [
                {
                    **level._asdict(),
                    "share": 1 / len(levels),
                    "token_accuracy": 0.96 if level in reached else 0.5,
                    "exact_match": 0.98 if level in reached else None,
                    "free_token_accuracy": epoch * skill / 3,
                    "num_examples": 100,
                }
                for level in levels
            ]
        history.append(json.dumps(line) + "\n")
    evaluation = {"input_form": cell.flags.get("input_form", "none")}
    evaluation |= {"chance_token_accuracy": 0.0909, "rows": rows, "samples": samples}
    evaluation["num_parameters"] = 1_000_000
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
    (folder / cell.name / "flags.cfg").write_text(cell.flagfile())
    (folder / cell.name / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / cell.name / "history.jsonl").write_text("".join(history))
    seconds = SECONDS[cell.flags.get("model", "lstm")] - quicker
    timing = [
        {"epoch": epoch, "seconds": seconds}
        | {"most_memory_mib": 100 * seconds * epoch, "validation_seconds": epoch}
        for epoch in (1, 2)
    ]
    (folder / cell.name / "timing.jsonl").write_text("\n".join(map(json.dumps, timing)))


def make_result(folder, figure, budget="cpu", keep=lambda cell: True):
    for i, cell in enumerate(filter(keep, cells(figure, budget))):
        skill = SKILL[cell.flags["strategy"]] + 0.02 * cell.flags["seed"] - 0.001 * (i % 7)
        # Of networks, so that one teacher's runs end before the others'.
        quicker = 3 * ((figure, cell.flags["strategy"]) == ("models", "review"))
        write_cell(folder, cell, skill, quicker)
    return comparisons.collect(figure, budget, folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every figure made up whole, in its budget for the CPU."""
    return {figure: make_result(tmp_path_factory.mktemp(figure), figure) for figure in FIGURES}


@pytest.fixture(scope="module")
def drawn(results):
    """Every figure drawn."""
    return {figure: figures.draw(result) for figure, result in results.items()}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_drawn_whole(tmp_path, results, drawn, figure):
    result = results[figure]
    assert result["missing"] == []
    drawn[figure].draw_without_rendering()
    for legend in drawn[figure].legends:  # They lie within the page.
        box = legend.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= drawn[figure].bbox.x1
    (tmp_path / "csv").write_text(tables.figure_csv(result))
    rows = pd.read_csv(tmp_path / "csv")
    assert len(rows) == sum(len(cell["rows"]) for cell in result["cells"])
    assert set(rows["chance_token_accuracy"]) == {0.0909}


@pytest.mark.parametrize(
    "figure",
    [
        "addition",
        "optimizers",
        *(pytest.param(f, marks=SLOW) for f in ("programs", "memorization")),
    ],
)
def test_figures_are_drawn_of_what_is_there(tmp_path, figure):
    result = make_result(
        tmp_path / "cells",
        figure,
        keep=lambda cell: cell.flags["strategy"] in ("combined", "mix") and cell.flags["seed"] == 1,
    )
    paths = figures.write(result, tmp_path)
    assert [path.name for path in paths] == [f"{figure}.{k}" for k in ("json", "csv", "png", "md")]
    assert json.loads(paths[0].read_text()) == result
    image = matplotlib.image.imread(paths[2])
    assert image.std() > 0.01 and image.shape[1] == 1440  # 7.2 inches, a page's width.
    num_missing = len(cells(figure, "cpu")) - len(result["cells"])
    assert f"{num_missing} cells are missing" in paths[3].read_text()


def test_a_bar_is_the_mean_of_its_seeds_with_their_range(results, drawn):
    rows = comparisons.at_targets(results["addition"])
    for axes, metric in zip(drawn["addition"].axes, METRICS, strict=True):
        sets = comparisons.seed_sets(rows, metric)
        groups = [group for group in axes.containers if isinstance(group, BarContainer)]
        assert [group.get_label() for group in groups] == list(figures.MARKS)
        for group in groups:
            ranges = group.errorbar.lines[2][0].get_segments()
            for length, bar, ends in zip((5, 7, 9), group.patches, ranges, strict=True):
                found = sets[f"length {length}", group.get_label()].rates
                assert len(found) == 2
                assert bar.get_height() == pytest.approx(found.mean())
                assert sorted(y for _, y in ends) == pytest.approx(sorted(found))
        copied = axes.collections[-1].get_segments()
        assert [segment[0][1] for segment in copied] == pytest.approx([0.1] * 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "length 5",
        "length 7",
        "length 9",
    ]


def test_heat_maps_show_means_and_differences(results, drawn):
    relative = [(strategy, "baseline") for strategy in ("naive", "mix", "combined")]
    kinds = [("baseline", None), ("combined", None), *relative]
    panels = list(itertools.product(kinds, METRICS))
    rows = comparisons.at_targets(results["programs"])
    # The other axes are scales of colours.
    for axes, ((strategy, reference), metric) in zip(drawn["programs"].axes, panels, strict=False):
        sets = comparisons.seed_sets(rows, metric)
        expected = np.empty([3, 3])
        for (y, nesting), (x, length) in itertools.product(
            enumerate((1, 2, 3)), enumerate((2, 4, 6))
        ):
            place = f"length {length}, nesting {nesting}"
            expected[y, x] = sets[place, strategy].rates.mean()
            if reference:
                expected[y, x] -= sets[place, reference].rates.mean()
        (mesh,) = axes.collections
        np.testing.assert_allclose(np.reshape(mesh.get_array(), [3, 3]), expected, atol=1e-6)
        title = f"{strategy} - {reference}" if reference else f"{strategy}, absolute"
        assert axes.get_title(loc="left").endswith(title)


def test_what_a_seed_never_mastered_is_missing(drawn):
    # By how write_cell makes them up: the first digits are mastered, a share as large as the skill.
    mastered = {"baseline": 2, "naive": 3, "mix": 5, "combined": 6}
    total = 798_720
    for axes in drawn["optimizers"].axes[:3]:
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        for strategy, longest in mastered.items():
            assert np.isnan(lines[strategy]).tolist() == [i > longest for i in range(1, 8)]
        # Two digits took one seed half of the training and the other one all of it.
        assert lines["naive"][:3].tolist() == [total / 2, total * 3 / 4, total]
    (first, *_) = drawn["optimizers"].axes
    assert first.get_title(loc="left") == "sgd, learning rate 1.2"
    assert "missing: a seed never did" in first.get_ylabel()


def test_teachers_stand_side_by_side(results):
    result = results["teachers"]
    text = figures.teachers.markdown(result)
    for task, total, three in (
        ("addition", "640,000", ("naive", "combined", "review", "learnability")),
        ("program", "384,000", ("baseline", "combined", "review", "space")),
    ):
        part = text.partition(f"## {task}, {total} training examples")[2].partition("\n## ")[0]
        lines = [re.split(r" ?\| ?", line)[1:-1] for line in part.splitlines() if "|" in line]
        header, _, *rows = lines[: 2 + len(SKILL)]
        assert header == [
            "teacher",
            *(
                f"{what}"
                for name in ("at the target", "over all levels")
                for what in (name, "- review", "- mix", "- random")
            ),
            "looking",
        ]
        assert {row[0] for row in rows} == set(SKILL)
        targets = [np.mean([float(x) for x in row[1].split(" / ")]) for row in rows]
        assert targets == sorted(targets, reverse=True)
        # 1 + 2 of twice as many seconds as an epoch takes.
        share = f"{3 / (2 * SECONDS['lstm' if task == 'addition' else 'attention']):.3f}"
        seeds = {name: 3 if name in three else 2 for name in SKILL}
        assert {row[0]: row[-1] for row in rows} == {
            name: " / ".join([share] * count) for name, count in seeds.items()
        }
        by_name = {row[0]: row for row in rows}
        # A teacher is not compared with itself; what is far apart is bold.
        assert by_name["review"][2] == by_name["mix"][3] == by_name["random"][4] == ""
        assert by_name["baseline"][2].startswith("**-")
        assert by_name["frontier"][2].startswith("(")
        mastery = lines[2 + len(SKILL) :]
        assert mastery[0][:2] == ["task", "strategy"]
        assert mastery[0][-1] == ("9" if task == "addition" else "(4,2)")
        reached = {row[1]: row[2:] for row in mastery[2:]}
        assert reached["baseline"][-1] == " / ".join(["never"] * seeds["baseline"])
        half = f"{int(total[:3]) // 2},000"
        assert reached["review"][0] == " / ".join([half] * seeds["review"])


def test_the_maps_of_a_teacher_are_what_it_did(results, drawn):
    cell = next(c for c in results["teachers"]["cells"] if c["strategy"] == "online")
    assert cell["watched"]["levels"] == [[length, 1] for length in range(1, 10)]
    titles = [axes.get_title(loc="left") for axes in drawn["teachers"].axes]
    assert len([title for title in titles if title]) == 2 * len(SKILL)
    i = titles.index("addition: online")
    shares, learnt = (axes.collections[0].get_array() for axes in drawn["teachers"].axes[i : i + 2])
    assert shares.shape == learnt.shape == (9, 2)
    np.testing.assert_allclose(shares, 1 / 9, atol=1e-3)
    assert set(np.unique(learnt)) == {0.0, 0.98}


def test_networks_stand_side_by_side(results):
    """After as much as the most modest one of a task has used by `mix`, between two epochs."""
    result = results["models"]
    places = {"copy", "reverse", "double", "addition", "control", "program"}
    places |= {f"{task}, work" for task in ("addition", "control", "program")}
    curves = {
        strategy: {
            (cell["network"], cell["seed"]): cell["curve"]
            for cell in result["cells"]
            if (models.place(cell), cell["strategy"]) == ("program", strategy)
        }
        for strategy in ("mix", "review")
    }
    for equal, strategy in itertools.product(models.EQUAL, curves):
        found = models.at_equal(result, equal)
        assert set(found["place"]) == places
        program = found.query(f"place == 'program' and strategy == '{strategy}'")
        program = program.set_index(["network", "seed"])
        limit = min(curve[-1][equal] for curve in curves["mix"].values())
        assert set(program["limit"]) == {limit}
        assert set(program.index) == set(curves[strategy])
        for network, (first, second) in curves[strategy].items():
            part = (limit - first[equal]) / (second[equal] - first[equal])
            assert part <= 1 or strategy == "review"
            part = min(part, 1)  # A run that has ended before stands where it ended.
            rate = first["exact_match"] + part * (second["exact_match"] - first["exact_match"])
            # Nothing is known from before the first epoch.
            expected = pytest.approx(math.nan if part < 0 else rate, nan_ok=True)
            assert program.loc[network, "exact_match"] == expected
    text = figures.models.markdown(result)
    # Of the first epoch's time one second went into validation, of the second one's two.
    for strategy, less in (("mix", 0), ("review", 3)):
        seconds = [entry["seconds"] for entry in curves[strategy]["lstm 1 x 208", 1]]
        assert seconds == [SECONDS["lstm"] - less - 1, 2 * (SECONDS["lstm"] - less) - 3]
    assert f"program: {curves['mix']['lstm 1 x 208', 1][1]['seconds']:.0f} s" in text
    assert text.startswith("# models, budget cpu\n\nThe numbers published for this suite")
    assert "on 800 validation examples in all" in text and "by 0.035" in text
    for title in ("at the target", "mean of all levels"):
        section = text.split(f"## In the test at the end, {title}")[1].split("\n## ")[0]
        assert len(re.findall(r"^\| \w+ \d x \d+ \| mix \| 0\.", section, re.MULTILINE)) == 4
        # Of the second Transformer there is no `copy`.
        assert len(re.findall(r"^\| transformer 4 x 128 \| mix \|  \| 0\.", section, re.M)) == 1
    pattern = r"^\| (\w+) (\d x \d+) \| mix \| 1,000,000 \|.* / (.*) \|$"
    costs = {model: {} for model in SECONDS}
    for model, size, cost in re.findall(pattern, text, re.MULTILINE):
        costs[model][size] = cost
    # The second Transformer executes no program with its work.
    assert costs["transformer"].pop("4 x 128") == f"{200 * SECONDS['transformer']:,} |  | "
    sizes = {"lstm": ["1 x 208"], "attention": ["1 x 128"], "transformer": ["4 x 64"]}
    sizes["universal_transformer"] = ["4 x 128"]
    assert costs == {
        model: {size: f"{200 * seconds:,}" for size in sizes[model]}
        for model, seconds in SECONDS.items()
    }
    assert "| universal_transformer | 1 / 1 | 1 / 1 | 1 / 1 | 0.89 / 0.63 |" in text


def test_a_networks_bar_shows_its_seeds(results, drawn):
    panels = itertools.product(models.EQUAL, ("mix", "review"))
    labels = drawn["models"].axes[-1].get_xticklabels()
    places = [label.get_text().replace("\n", ", ") for label in labels]
    num_seeds = {}
    for axes, (equal, strategy) in zip(drawn["models"].axes, panels, strict=True):
        found = models.at_equal(results["models"], equal).query("strategy == @strategy")
        groups = [group for group in axes.containers if isinstance(group, BarContainer)]
        groups = {group.get_label(): group for group in groups if group.errorbar}
        for network, group in groups.items():
            ranges = group.errorbar.lines[2][0].get_segments()
            bars = {
                places[round(bar.get_x() + bar.get_width() / 2)]: (bar, ends)
                for bar, ends in zip(group.patches, ranges, strict=True)
            }
            rates = found[found["network"] == network].set_index("place")["exact_match"].dropna()
            for place, of_seeds in rates.groupby("place"):
                bar, ends = bars[place]
                assert bar.get_height() == pytest.approx(of_seeds.mean())
                assert [y for _, y in ends] == pytest.approx([of_seeds.min(), of_seeds.max()])
                num_seeds[strategy, network, place] = len(of_seeds)
        assert set(groups) >= set(found["network"])
    assert num_seeds["mix", "lstm 1 x 208", "addition"] == 2
    assert num_seeds["mix", "lstm 1 x 208", "copy"] == 1


def test_networks_say_after_how_much_they_were_right(results):
    rates = [0.5, 0.95, 0.96, 0.9]
    curve = [
        {"num_examples": 1000 * i, "seconds": 10.4 * i, "exact_match": rate}
        | {"free_token_accuracy": 0.99}
        for i, rate in enumerate(rates, start=1)
    ]
    cell = results["models"]["cells"][0]
    seeds = [cell | {"curve": curve}, cell | {"seed": 2, "curve": curve[:2]}]
    text = figures.models.markdown(results["models"] | {"cells": seeds})
    section = text.split("was above 0.95\n")[1].split("\n## ")[0]
    assert "| lstm 1 x 208 | mix | 3,000 / 31 s; never |" in section


# What else stands in tables, published_test holds against those that are published.


def test_tables_say_who_did_not_come_to_the_target(results):
    assert "Ended before" not in tables.figure_markdown(results["addition"])
    stopped = results["addition"]["cells"][1] | {"reached": {"length": 4, "nesting": 1}}
    text = tables.figure_markdown(results["addition"] | {"cells": [stopped]})
    said = "Ended before they came to their target: length_5_naive_seed_1 (at length 4, nesting 1)."
    assert said in text


def test_teachers_that_climb_are_named_if_they_did_not_come_to_the_target(results):
    stopped = {"reached": {"length": 4, "nesting": 1}}
    cells = [cell | stopped for cell in results["teachers"]["cells"] if cell["task"] == "addition"]
    text = figures.teachers.markdown(results["teachers"] | {"cells": cells})
    named = text.partition("Ended before they came to their target: ")[2].partition(".\n")[0]
    assert {name.split(" ")[0].split("_")[1] for name in named.split("; ")} == {
        "naive",
        "combined",
        "review",
        "frontier",
    }


def test_the_mean_of_levels_is_as_uncertain_as_its_small_ones():
    sizes = {1: 29, 2: 2735, 3: 5000}
    rows = [{"length": n, "nesting": 1, "num_examples": size} for n, size in sizes.items()]
    rows = [{**row, "exact_match": 0.5} for row in rows]
    cell = dict.fromkeys(comparisons.SETTINGS) | {"strategy": "mix", "task": "addition", "seed": 1}
    cell |= {"target_length": 3, "target_nesting": 1, "rows": rows}
    sets = figures.teachers.measured({"figure": "teachers", "cells": [cell]}, "addition")
    (found,) = sets["over all levels"].values()
    variance = sum(0.25 / size for size in sizes.values()) / 9
    np.testing.assert_allclose(0.25 / found.counts, variance)


def test_a_broken_cell_is_an_error_of_one_line(tmp_path):
    cell = cells("addition", "cpu")[0]
    with pytest.raises(WorkError, match="no cell of the figure addition"):
        comparisons.collect("addition", "cpu", tmp_path)
    write_cell(tmp_path, cell, 0.5)
    (tmp_path / cell.name / "history.jsonl").write_text("")
    with pytest.raises(WorkError, match=f"{cell.name} is no whole cell"):
        comparisons.collect("addition", "cpu", tmp_path)
