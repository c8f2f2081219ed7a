"""The paper's figures, drawn from finished cells: JSON, CSV, PNG and Markdown.

    write(comparisons.collect("addition", "cpu", Path("W/addition")), Path("W"))

leaves addition.json, addition.csv, addition.png and addition.md in W. Cells that are missing stay
blank.
"""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from keras_l2e.files import write_json, write_text
from keras_l2e.paper import teachers
from keras_l2e.paper.cells import OPTIMIZERS
from keras_l2e.paper.comparisons import at_targets, by_place, compare, entries, seed_sets
from keras_l2e.paper.tables import figure_csv, figure_markdown
from keras_l2e.plots import STYLE, new_figure, save_figure, share_axis, write_near, write_value
from keras_l2e.tables import METRICS, format_rate, format_short_rate

# Of Okabe and Ito's colours those that `plots` does not give to the metrics, and a mark each, so
# that strategies can be told apart without colour.
MARKS = {
    "baseline": ("0.45", "s"),
    "naive": ("#CC79A7", "^"),
    "mix": ("#56B4E9", "D"),
    "combined": ("#009E73", "o"),
}
CHANCE = {"color": "0.1", "linewidth": 0.9, "linestyle": (0, (1, 1.5))}
# Of the distance between two groups of bars; narrower bars have no room for their values.
GROUP_WIDTH = 0.9
# Rates of fewer test examples are drawn as uncertain.
FEW_EXAMPLES = 200


def write(result: dict, folder: Path) -> list[Path]:
    """Writes the figure as FIGURE.json, .csv, .png and .md; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{result['figure']}.{kind}" for kind in ("json", "csv", "png", "md")]
    write_json(paths[0], result)
    write_text(paths[1], figure_csv(result))
    save_figure(draw(result), paths[2])
    write_text(paths[3], TABLES.get(result["figure"], figure_markdown)(result))
    return paths


def draw(result: dict) -> Figure:
    """The figure, as far as its cells are there."""
    with matplotlib.rc_context(STYLE):
        return DRAWINGS[result["figure"]](result, at_targets(result))


def _titled(result: dict, what: str, height: float) -> Figure:
    """An empty figure with the title that all have."""
    at_most = "at most " if result["budget"] == "paper" else ""
    text = f"{what}: {at_most}{result['num_training_examples']:,} training examples a cell"
    if result["missing"]:
        text += f" ({len(result['missing'])} cells missing)"
    figure = new_figure(height=height)
    figure.suptitle(text, x=0.01, ha="left")
    return figure


def _addition(result: dict, rows: pd.DataFrame) -> Figure:
    figure = _titled(result, "Addition", height=4.6)
    panels = figure.subplots(2, sharex=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        _bars(axes, result, rows, metric)
    lengths = sorted(set(rows["target_length"]))
    panels[-1].set_xticks(range(len(lengths)), map(str, lengths))
    panels[-1].set_xlabel("target: digits of both numbers")
    _legend(figure, result, rows)
    return figure


def _bars(axes, result: dict, rows: pd.DataFrame, metric: str) -> None:
    """A group of bars for each place, one bar a strategy: the mean, and each seed as a dot."""
    places, strategies = (list(rows[name].cat.categories) for name in ("place", "strategy"))
    width = GROUP_WIDTH / len(strategies)
    for (place, strategy), rates in by_place(rows)[metric]:
        shift = strategies.index(strategy) - (len(strategies) - 1) / 2
        x = places.index(place) + shift * width
        axes.bar(x, rates.mean(), 0.92 * width, color=MARKS[strategy][0])
        if len(rates) > 1:
            axes.plot([x] * len(rates), rates, ".", color="0.1", markersize=3, zorder=3)
        write_value(axes, x, rates.mean(), rates.max())
    copied = rows.groupby("place", observed=True)["answer_in_program"].mean()
    middles = np.arange(len(places))
    sides = (middles - GROUP_WIDTH / 2, middles + GROUP_WIDTH / 2)
    axes.hlines(copied, *sides, "0.1", linewidth=1.3, zorder=3)
    _chance(axes, result, metric)
    share_axis(axes)
    axes.set(ylabel="share right, test", title=METRICS[metric])
    axes.set_xticks(middles, places)
    axes.set_xlim(-0.55, len(places) - 0.45)


def _chance(axes, result: dict, metric: str) -> None:
    if metric == "token_accuracy":
        axes.axhline(result["cells"][0]["chance_token_accuracy"], **CHANCE)


def _legend(figure: Figure, result: dict, rows: pd.DataFrame, marks: bool = False) -> None:
    """Strategies, chance and copying, below the panels; `marks` for lines instead of bars."""
    handles = []
    for strategy in rows["strategy"].cat.categories:
        colour, mark = MARKS[strategy]
        line = Line2D([], [], color=colour, marker=mark, markersize=4, label=strategy)
        handles.append(line if marks else Patch(color=colour, label=strategy))
    chance = format_rate(result["cells"][0]["chance_token_accuracy"], 3)
    handles.append(Line2D([], [], label=f"chance token_accuracy: {chance}", **CHANCE))
    if marks:
        handles.append(Line2D([], [], linestyle="", label="copying the text: 1, by definition"))
        few = {"linestyle": "", "marker": "o", "color": "0.45", "mfc": "white", "markersize": 4}
        handles.append(Line2D([], [], label=f"hollow: below {FEW_EXAMPLES} test examples", **few))
    else:
        handles.append(Line2D([], [], color="0.1", linewidth=1.3, label="answer_in_program"))
        dot = {"color": "0.1", "marker": ".", "linestyle": ""}
        handles.append(Line2D([], [], label="one seed (bar: the mean)", **dot))
    # All in one row would be wider than the page.
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if marks else 4)


def _programs(result: dict, rows: pd.DataFrame) -> Figure:
    kinds = [("baseline", None), ("combined", None)]
    kinds += [(strategy, "baseline") for strategy in ("naive", "mix", "combined")]
    num_nestings = rows["target_nesting"].nunique()
    height = 1.2 + len(kinds) * (0.42 + 0.27 * num_nestings)
    figure = _titled(result, "Programs", height)
    panels = figure.subplots(len(kinds), 2, sharex=True, sharey=True, squeeze=False)
    for row, (strategy, reference) in zip(panels, kinds, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            image = _heat_map(axes, rows, metric, strategy, reference)
            title = f"{strategy} - {reference}" if reference else f"{strategy}, absolute"
            axes.set_title(title, fontsize=7.5)
        row[0].set_ylabel("nesting")
        if strategy == "combined":
            extend = "both" if reference else "neither"
            bar = figure.colorbar(image, ax=row, fraction=0.04, pad=0.015, extend=extend)
            bar.set_label("difference" if reference else "share right", fontsize=7)
            bar.outline.set_visible(False)
    for axes, label in zip(panels[0], METRICS.values(), strict=True):
        axes.set_title(f"{label}\n{axes.get_title(loc='left')}", fontsize=7.5)
    for axes in panels[-1]:
        axes.set_xlabel("length (digits)")
    chance = result["cells"][0]["chance_token_accuracy"]
    figure.supxlabel(
        f"small: answer_in_program, what copying could reach; chance token_accuracy {chance:.3f}; "
        "in brackets: differences within the noise",
        fontsize=7,
        color="0.35",
    )
    return figure


def _heat_map(axes, rows: pd.DataFrame, metric: str, strategy: str, reference: str | None):
    """One strategy over length x nesting, absolute or relative to another one; gives the mesh."""
    lengths, nestings = (sorted(set(rows[f"target_{name}"])) for name in ("length", "nesting"))
    sets = seed_sets(rows, metric)
    grid = np.full([len(nestings), len(lengths)], np.nan)
    size = 7 if len(lengths) <= 4 else 5
    for place, cells in rows[rows["strategy"] == strategy].groupby("place", observed=True):
        x, y = lengths.index(cells["length"].iloc[0]), nestings.index(cells["nesting"].iloc[0])
        value, texts = cells[metric].mean(), []
        if reference:
            found = compare(sets, (place, strategy), (place, reference))
            if found is None:
                continue
            value = found.value
            text = f"{value:+.2f}".replace("0.", ".")
            texts.append((text if found.significant else f"({text})", size, 0))
        else:
            texts.append((format_short_rate(value, 2), size, 3))
            copied = cells["answer_in_program"].mean()
            texts.append((format_short_rate(copied, 2), max(4, size - 2), -5))
        grid[y, x] = value
        ink = "white" if (abs(value) > 0.27 if reference else value > 0.6) else "0.1"
        for text, points, rise in texts:
            write_near(axes, x + 0.5, y + 0.5, text, points, rise, va="center", color=ink)
    colours = {"cmap": "PuOr", "vmin": -0.5} if reference else {"cmap": "YlGnBu", "vmin": 0}
    limits = colours | {"vmax": 0.5 if reference else 1}
    mesh = axes.pcolormesh(grid, edgecolor="white", linewidth=1.5, **limits)
    axes.set_xticks([i + 0.5 for i in range(len(lengths))], map(str, lengths))
    axes.set_yticks([i + 0.5 for i in range(len(nestings))], map(str, nestings))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def _memorization(result: dict, rows: pd.DataFrame) -> Figure:
    forms, target = rows["place"].cat.categories, rows["target_length"].max()
    title = f"Memorization, target {target} digits"
    figure = _titled(result, title, height=1.3 + 1.5 * len(forms))
    panels = figure.subplots(len(forms), 2, sharex=True, sharey=True, squeeze=False)
    tested = by_place(entries(result, "rows"))
    for row, form in zip(panels, forms, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            for (place, strategy), cells in tested:
                if place == form:
                    _lengths_line(axes, cells, metric, *MARKS[strategy])
            _chance(axes, result, metric)
            axes.set_title(f"input form {form}")
            axes.grid(axis="y")
        row[0].set_ylabel("share right, test")
    for axes, label in zip(panels[0], METRICS.values(), strict=True):
        axes.set_title(f"{label}\n{axes.get_title(loc='left')}")
    for axes in panels[-1]:
        axes.set_xlabel("digits to memorize, tested")
    panels[0, 0].set(ylim=(-0.03, 1.03), xlim=(0.5, target + 0.5))
    panels[0, 0].yaxis.set_major_locator(MultipleLocator(0.25))
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, result, rows, marks=True)
    return figure


def _lengths_line(axes, cells: pd.DataFrame, metric: str, colour: str, mark: str) -> None:
    """One strategy's line over the tested lengths, the seeds' range as a band.

    Lengths with few test examples (there are 2 of one digit) have hollow marks.
    """
    lengths = cells.groupby("length")
    rates = lengths[metric].agg(["mean", "min", "max"])
    few = rates["mean"][lengths["num_examples"].min() < FEW_EXAMPLES]
    shape = {"color": colour, "marker": mark, "markersize": 2.5}
    axes.fill_between(rates.index, rates["min"], rates["max"], color=colour, alpha=0.25, lw=0)
    axes.plot(rates.index, rates["mean"], linewidth=1, **shape)
    axes.plot(few.index, few, linestyle="", mfc="white", **shape)


def _optimizers(result: dict, rows: pd.DataFrame) -> Figure:
    target, total = rows["target_length"].max(), result["num_training_examples"]
    figure = _titled(result, f"Optimizers, addition of {target} digits", height=5.6)
    layout = figure.add_gridspec(2, 6, height_ratios=[1.1, 1])
    mastered = by_place(entries(result, "mastered"))
    first = None
    for i, optimizer in enumerate(OPTIMIZERS):
        axes = figure.add_subplot(layout[0, 2 * i : 2 * i + 2], sharex=first, sharey=first)
        first = first or axes
        for (place, strategy), levels in mastered:
            if place == optimizer:
                _mastery_line(axes, levels, strategy, total)
        axes.set_title(optimizer)
        axes.set_xlabel("digits")
        axes.axhline(total, color="0.6", linewidth=0.7)
        axes.grid(axis="y")
        if i:
            axes.tick_params(labelleft=False)
    first.set(ylabel="training examples until mastered", ylim=(0, 1.16 * total))
    first.set_xlim(0.5, target + 0.5)
    first.xaxis.set_major_locator(MultipleLocator(1))
    first.yaxis.set_major_formatter(EngFormatter(sep=""))
    # A label of the axis, like the numbers below it.
    beside = {"xycoords": first.get_yaxis_transform(), "textcoords": "offset points"}
    first.annotate("never", (0, 1.08 * total), (-4.5, 0), ha="right", va="center", **beside)
    for i, metric in enumerate(METRICS):
        axes = figure.add_subplot(layout[1, 3 * i : 3 * i + 3])
        _bars(axes, result, rows, metric)
        axes.set_title(axes.get_title(loc="left"), fontsize=7.5)
    _legend(figure, result, rows)
    return figure


def _mastery_line(axes, levels: pd.DataFrame, strategy: str, total: int) -> None:
    """Examples until each number of digits is mastered, a mean where all seeds came to it.

    What a seed never mastered stands above the total.
    """
    colour, mark = MARKS[strategy]
    marks = {"color": colour, "marker": mark, "markersize": 3}
    # Side by side, or equal marks would hide one another.
    shift = 0.12 * (list(MARKS).index(strategy) - 1.5)
    line = []
    for length, numbers in levels.groupby("length")["num_examples"]:
        x, reached = length + shift, numbers.dropna()
        axes.plot([x] * len(reached), reached, color=colour, linewidth=0.8)
        if len(reached) == len(numbers):
            line.append((x, reached.mean()))
        else:  # No mean, and no part of the line.
            axes.plot(x, 1.08 * total, mfc="white", **marks)
            axes.plot([x] * len(reached), reached, **marks)
    if line:
        axes.plot(*zip(*line, strict=True), linewidth=1, **marks)


DRAWINGS = {
    "addition": _addition,
    "programs": _programs,
    "memorization": _memorization,
    "optimizers": _optimizers,
    "teachers": lambda result, rows: teachers.draw(result),
}
TABLES = {"teachers": teachers.markdown}
