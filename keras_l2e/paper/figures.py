"""The paper's figures, drawn from finished cells: JSON, CSV, PNG and Markdown.

    write(comparisons.collect("addition", "cpu", Path("W/addition")), Path("W"))

leaves addition.json, addition.csv, addition.png and addition.md in W. Cells that are missing stay
blank.
"""

import math
from collections.abc import Container
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from keras_l2e.files import write_json, write_text
from keras_l2e.paper import models, teachers
from keras_l2e.paper.cells import OPTIMIZERS
from keras_l2e.paper.comparisons import PLACES, at_targets, by_place, compare, entries, seed_sets
from keras_l2e.paper.tables import figure_csv, figure_markdown, num_examples
from keras_l2e.plots import (
    GREEN,
    GROUP_WIDTH,
    PURPLE,
    STYLE,
    bars_of_seeds,
    colour_bar,
    heat_map,
    labelled,
    new_figure,
    save_figure,
    share_axis,
)
from keras_l2e.tables import METRICS, format_rate, format_short_rate

# Of Okabe and Ito's colours those that `plots` does not give to the metrics, and a mark each, so
# that strategies can be told apart without colour.
MARKS = {
    "baseline": ("0.45", "s"),
    "naive": (PURPLE, "^"),
    "mix": ("#56B4E9", "D"),
    "combined": (GREEN, "o"),
}
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
        return DRAWINGS[result["figure"]](result)


def _titled(result: dict, what: str, height: float) -> Figure:
    """An empty figure with the title that all have."""
    text = f"{what}: {num_examples(result)} training examples a cell"
    if result["missing"]:
        text += f" ({len(result['missing'])} cells missing)"
    figure = new_figure(height=height)
    figure.suptitle(text, x=0.01, ha="left")
    return figure


def _addition(result: dict) -> Figure:
    rows = at_targets(result)
    figure = _titled(result, "Addition", height=4.6)
    panels = figure.subplots(2, sharex=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        _bars(axes, result, rows, metric)
    panels[-1].set_xlabel("target: digits of both numbers")
    _legend(figure, 4)
    return figure


def _bars(axes, result: dict, rows: pd.DataFrame, metric: str) -> None:
    """A group of bars for each place, one a strategy: the mean of its seeds, and their range."""
    places, strategies = (list(rows[name].cat.categories) for name in ("place", "strategy"))
    middles, width = np.arange(len(places)), GROUP_WIDTH / len(strategies)
    found = by_place(rows)[metric].agg(["mean", "min", "max"])
    for i, strategy in enumerate(strategies):
        rates = found.xs(strategy, level="strategy").reindex(places)
        positions = middles + (i - (len(strategies) - 1) / 2) * width
        style = {"color": MARKS[strategy][0], "label": strategy}
        bars_of_seeds(axes, positions, rates, 0.92 * width, **style)
    copied = rows.groupby("place", observed=True)["answer_in_program"].mean()
    sides = (middles - GROUP_WIDTH / 2, middles + GROUP_WIDTH / 2)
    axes.hlines(copied, *sides, "0.1", linewidth=1.3, zorder=3, label="answer_in_program")
    _chance(axes, result, metric)
    share_axis(axes)
    axes.set(ylabel="share right, test", title=METRICS[metric])
    axes.set_xticks(middles, places)
    axes.set_xlim(-0.55, len(places) - 0.45)


def _chance(axes, result: dict, metric: str) -> None:
    if metric == "token_accuracy":
        chance = result["cells"][0]["chance_token_accuracy"]
        label = f"chance token_accuracy: {format_rate(chance, 3)}"
        axes.axhline(chance, color="0.1", linewidth=0.9, linestyle=(0, (1, 1.5)), label=label)


def _legend(figure: Figure, num_columns: int) -> None:
    """Explains below the panels, once each, what has a label in any of them."""
    found = labelled(figure)
    labels = sorted(found, key=lambda label: label not in MARKS)  # Strategies first.
    handles = [found[label] for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)


def _programs(result: dict) -> Figure:
    rows = at_targets(result)
    kinds = [("baseline", None), ("combined", None)]
    kinds += [(strategy, "baseline") for strategy in ("naive", "mix", "combined")]
    num_nestings = rows["target_nesting"].nunique()
    height = 1.2 + len(kinds) * (0.42 + 0.27 * num_nestings)
    figure = _titled(result, "Programs", height)
    panels = figure.subplots(len(kinds), 2, sharex=True, sharey=True, squeeze=False)
    for row, (strategy, reference) in zip(panels, kinds, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            mesh = _map(axes, rows, metric, strategy, reference)
            title = f"{strategy} - {reference}" if reference else f"{strategy}, absolute"
            axes.set_title(title, fontsize=7.5)
        row[0].set_ylabel("nesting")
        if strategy == "combined":
            label = "difference" if reference else "share right"
            colour_bar(figure, mesh, row, label, extend="both" if reference else "neither")
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


def _map(axes, rows: pd.DataFrame, metric: str, strategy: str, reference: str | None):
    """One strategy over length x nesting, absolute or relative to another one; gives the mesh."""
    lengths, nestings = (sorted(set(rows[f"target_{name}"])) for name in ("length", "nesting"))
    sets = seed_sets(rows, metric)
    copied = rows.groupby("place", observed=True)["answer_in_program"].mean()

    def cell(length: int, nesting: int) -> tuple:
        place = PLACES["programs"].format(target_length=length, target_nesting=nesting)
        if (place, strategy) not in sets:
            return (math.nan,)
        if not reference:
            rate = sets[place, strategy].rates.mean()
            return rate, format_short_rate(rate, 2), format_short_rate(copied[place], 2)
        found = compare(sets, (place, strategy), (place, reference))
        if found is None:
            return (math.nan,)
        text = f"{found.value:+.2f}".replace("0.", ".")
        return found.value, text if found.significant else f"({text})"

    cells = [[cell(length, nesting) for length in lengths] for nesting in nestings]
    size = 7 if len(lengths) <= 4 else 5
    style = {"cmap": "PuOr", "vmin": -0.5, "vmax": 0.5} if reference else {}
    return heat_map(axes, cells, lengths, nestings, size, **style)


def _memorization(result: dict) -> Figure:
    rows = at_targets(result)
    forms, target = rows["place"].cat.categories, rows["target_length"].max()
    title = f"Memorization, target {target} digits"
    figure = _titled(result, title, height=1.3 + 1.5 * len(forms))
    panels = figure.subplots(len(forms), 2, sharex=True, sharey=True, squeeze=False)
    tested = entries(result, "rows")
    few = set(tested[tested["num_examples"] < FEW_EXAMPLES]["length"])
    for row, form in zip(panels, forms, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            _lines(axes, tested[tested["place"] == form], metric, hollow=few)
            _chance(axes, result, metric)
            share_axis(axes, of_lines=True)
            axes.set_title(f"input form {form}")
        row[0].set_ylabel("share right, test")
    for axes, label in zip(panels[0], METRICS.values(), strict=True):
        axes.set_title(f"{label}\n{axes.get_title(loc='left')}")
    for axes in panels[-1]:
        axes.set_xlabel(f"digits to memorize (hollow: below {FEW_EXAMPLES} test examples)")
    panels[0, 0].set_xlim(0.5, target + 0.5)
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, 5)
    return figure


def _lines(axes, found: pd.DataFrame, column: str, hollow: Container[int] = ()) -> None:
    """A line for each strategy over the lengths: the mean of the seeds, their range as a band.

    Where a seed has no number, there is a gap.
    """
    for strategy, cells in found.groupby("strategy", observed=True):
        colour, mark = MARKS[strategy]
        seeds = cells.pivot(index="length", columns="seed", values=column).astype(float)
        lengths, numbers = seeds.index, seeds.to_numpy()
        band = {"color": colour, "alpha": 0.25, "linewidth": 0}
        axes.fill_between(lengths, numbers.min(axis=1), numbers.max(axis=1), **band)
        shape = {"color": colour, "marker": mark, "markersize": 3, "markeredgewidth": 0.7}
        means = numbers.mean(axis=1)
        axes.plot(lengths, means, linewidth=1, label=strategy, **shape)
        some = [length in hollow for length in lengths]
        axes.plot(lengths[some], means[some], linestyle="", mfc="white", **shape)


def _optimizers(result: dict) -> Figure:
    rows = at_targets(result)
    target, total = rows["target_length"].max(), result["num_training_examples"]
    figure = _titled(result, f"Optimizers, addition of {target} digits", height=5.6)
    layout = figure.add_gridspec(2, 6)
    mastered = entries(result, "mastered")
    first = None
    for i, optimizer in enumerate(OPTIMIZERS):
        axes = figure.add_subplot(layout[0, 2 * i : 2 * i + 2], sharex=first, sharey=first)
        first = first or axes
        found = mastered[mastered["place"] == optimizer]
        _lines(axes, found, "num_examples")
        rates = (f"{rate:g}" for rate in found["learning_rate"].unique())
        axes.set_title(", learning rate ".join([optimizer, *rates]))
        axes.set_xlabel("digits")
        axes.tick_params(labelleft=not i)
        axes.grid(True, axis="y")
    first.set(
        ylabel="training examples until mastered\n(missing: a seed never did)", ylim=(0, total)
    )
    first.set_xlim(0.5, target + 0.5)
    first.xaxis.set_major_locator(MultipleLocator(1))
    first.yaxis.set_major_formatter(EngFormatter(sep=""))
    for i, metric in enumerate(METRICS):
        axes = figure.add_subplot(layout[1, 3 * i : 3 * i + 3])
        _bars(axes, result, rows, metric)
        axes.set_title(axes.get_title(loc="left"), fontsize=7.5)
    _legend(figure, 4)
    return figure


DRAWINGS = {
    "addition": _addition,
    "programs": _programs,
    "memorization": _memorization,
    "optimizers": _optimizers,
    "teachers": teachers.draw,
    "models": models.draw,
}
TABLES = {"teachers": teachers.markdown, "models": models.markdown}
