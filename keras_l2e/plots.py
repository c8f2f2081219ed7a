"""Plots of training runs and evaluations, as PNG files.

`token_accuracy` is teacher-forced and `exact_match` free-running; they are orange and blue in every
figure and never share a name. No rate is rounded to 1 or 0 unless it is exactly that.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, MultipleLocator

from keras_l2e.files import write_atomically
from keras_l2e.tables import METRICS, breakdown, describe, format_rate, format_short_rate

# Okabe and Ito's colours, distinct for colour-blind readers; the pale ones are tints of them.
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"
COLOURS = {"exact_match": BLUE, "token_accuracy": ORANGE}
PALE = {BLUE: "#8CC3E3", ORANGE: "#F5CE7A"}
# Keeps black lines and small texts visible on every colour.
WHITE_EDGE = [patheffects.withStroke(linewidth=2.4, foreground="white")]

WIDTH = 7.2  # inches: a page's text width
DPI = 200
# Of the distance between two groups of bars; narrower bars have no room for their values.
GROUP_WIDTH = 0.9
MAX_VALUES = 24  # values above more bars would touch

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "0.35",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "grid.color": "0.92",
    "legend.frameon": False,
}

COPY_LABEL = "answer_in_program (the text holds the answer)"
# What stands below the bars of a kind of programs, where its name alone would not say it.
KIND_LABELS = {"carry_chain": "longest carry chain (digits)"}


def plot_learning_curve(history: list[dict], path) -> None:
    """Draws what a run learnt against the training examples it had seen, as a PNG.

    From above: `token_accuracy` and `exact_match` at the target (lines) and at the current
    difficulty (dots); the current difficulty; the training loss.

    Args:
        history: the lines of `history.jsonl`, oldest first; at least one.
        path: where the PNG goes.
    """
    save_figure(_learning_curve(history), path)


def plot_evaluation(evaluation: dict, path) -> None:
    """Draws an evaluation as a PNG: lines over the length, or length x nesting heat maps.

    Args:
        evaluation: the content of `evaluation.json`. With a single nesting the figure has lines,
            with several it has two heat maps on the fixed scale 0..1.
        path: where the PNG goes.
    """
    several = len({row["nesting"] for row in _all_rows(evaluation)}) > 1
    save_figure(_heat_maps(evaluation) if several else _length_lines(evaluation), path)


def plot_breakdown(evaluation: dict, path) -> None:
    """Draws `exact_match` by kind of program as a PNG, where the evaluation has kinds."""
    if breakdown(evaluation):
        save_figure(_breakdown(evaluation), path)


# What all figures share


def new_figure(height: float) -> Figure:
    """An empty figure as wide as a page, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


@matplotlib.rc_context(STYLE)
def save_figure(figure: Figure, path) -> None:
    """Writes a PNG whole or not at all; equal figures give equal bytes."""
    options = {"format": "png", "dpi": DPI, "metadata": {"Software": None}}
    write_atomically(Path(path), lambda temporary: figure.savefig(temporary, **options))


def write_values(axes, bars, rates: Sequence[float], decimals: int = 3, size=5.4) -> None:
    """Writes rates above their bars and these bars' error bars, on white; nothing for NaN."""
    texts = ["" if math.isnan(rate) else format_short_rate(rate, decimals) for rate in rates]
    style = {"fontsize": size, "color": "0.2", "path_effects": WHITE_EDGE, "zorder": 4}
    axes.bar_label(bars, texts, padding=2, **style)


def bars_of_seeds(axes, middles, rates, widths, decimals: int = 3, size=5.4, **style) -> None:
    """Draws bars for the means of rates over seeds, their ranges on them and the means above.

    Args:
        axes: where.
        middles: of the bars, on the x axis.
        rates: [bars, 3], of each bar the mean, the least and the largest; NaN where none is known.
        widths: of the bars; one number for all.
        decimals, size: of the means, this in points.
        style: of the bars.
    """
    mean, low, high = np.asarray(rates, float).T
    bars = axes.bar(
        middles,
        mean,
        widths,
        yerr=np.maximum([mean - low, high - mean], 0),  # Of equal seeds a mean may be rounded.
        error_kw={"elinewidth": 1, "ecolor": "0.1", "label": "range of the seeds"},
        **style,
    )
    write_values(axes, bars, mean, decimals, size)


def labelled(figure: Figure) -> dict:
    """What has a label in any of the panels, once each: labels and what stands for them."""
    found = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return found


def heat_map(axes, cells: list[list[tuple]], columns: list, rows: list, size=8.0, **style):
    """Draws a table of numbers as colours.

    Args:
        axes: where.
        cells: of each row, the lowest first, a tuple for each column: the number, NaN for a cell
            that stays blank, and up to two texts, the second one small below the first.
        columns, rows: what stands below and beside them.
        size: of the texts, in points.
        style: of the mesh, where it is not as shares have it.

    Returns:
        The mesh, for `colour_bar`.
    """
    shares = {"cmap": "YlGnBu", "vmin": 0, "vmax": 1, "edgecolor": "white", "linewidth": 1.5}
    numbers = [[number for number, *_ in row] for row in cells]
    mesh = axes.pcolormesh(numbers, zorder=0, **shares | style)
    for y, row in enumerate(cells):
        for x, (number, *texts) in enumerate(row):
            red, green, blue, _ = mesh.cmap(mesh.norm(number))
            is_dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            places = ((0.38, 1.0), (-0.85, 0.78)) if len(texts) > 1 else ((0.0, 1.0),)
            for text, (rise, part) in zip(texts, places, strict=False):
                axes.annotate(
                    text,
                    (x + 0.5, y + 0.5),
                    (0, rise * size),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=part * size,
                    color="white" if is_dark else "0.1",
                )
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def colour_bar(figure: Figure, mesh, panels, label: str, **options) -> None:
    """Says beside, or below, some panels what the colours of their heat maps mean."""
    bar = figure.colorbar(mesh, ax=panels, **{"fraction": 0.04, "pad": 0.015} | options)
    bar.set_label(label, fontsize=7)
    bar.outline.set_visible(False)


def share_axis(axes, of_lines: bool = False) -> None:
    """A y axis for shares, from 0 to 1, with room for values above bars or for marks of lines."""
    axes.set_ylim((-0.03, 1.03) if of_lines else (0, 1.1))
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(True, axis="y")


# Learning curve


@matplotlib.rc_context(STYLE)
def _learning_curve(history: list[dict]) -> Figure:
    figure = new_figure(height=5.2)
    panels = figure.subplots(3, sharex=True, height_ratios=[10, 3, 4])
    examples = [epoch["num_examples"] for epoch in history]
    _draw_rates(panels[0], history, examples)
    _draw_difficulties(panels[1], history, [0, *examples])
    loss = panels[2]
    losses = [epoch["loss"] for epoch in history]
    loss.plot(examples, losses, ".-", color=GREEN, linewidth=1.3, markersize=3)
    loss.set_yscale("log")
    # On a short axis the powers of ten alone would be one label or none.
    loss.yaxis.set_minor_locator(LogLocator(subs=(2, 5), numticks=2))
    for set_formatter in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        set_formatter("{x:g}")
    loss.set(ylabel="training loss\n(nats)", xlabel="training examples seen")
    loss.xaxis.set_major_formatter(EngFormatter(sep=""))
    loss.set_xlim(0, examples[-1] * 1.015)
    for axes in panels:
        axes.grid(True, axis="y", which="both")
    figure.legend(loc="outside lower center", ncols=2)
    figure.align_ylabels()
    return figure


def _draw_rates(axes, history: list[dict], examples: list[int]) -> None:
    """Validation at the target as lines, at the current difficulty as dots."""
    # Without a curriculum the current difficulty is the target from the first epoch on.
    moves = any(epoch["difficulty"] != history[-1]["difficulty"] for epoch in history)
    for name, label in reversed(METRICS.items()):  # Where they meet, exact_match is seen.
        colour = COLOURS[name]
        if moves:
            current = [epoch["validation"][name] for epoch in history]
            style = {"color": PALE[colour], "markersize": 5}
            axes.plot(examples, current, ".", label=f"{label}, current difficulty", **style)
        target = [epoch["target_validation"][name] for epoch in history]
        style = {"color": colour, "linewidth": 1.8, "markersize": 4, "zorder": 3}
        axes.plot(examples, target, ".-", label=f"{label}, target difficulty", **style)
    axes.set_ylabel("share right, validation")
    share_axis(axes, of_lines=True)


def _draw_difficulties(axes, history: list[dict], edges: list[int]) -> None:
    """The current length, and the nesting where there are several, as steps."""
    title = "current difficulty: length (digits)"
    lengths, nestings = (
        [epoch["difficulty"][name] for epoch in history] for name in ("length", "nesting")
    )
    steps = {"baseline": None, "linewidth": 1.3}
    axes.stairs(lengths, edges, color=BLACK, **steps)
    if max(nestings) > 1:
        axes.stairs(nestings, edges, color=PURPLE, linestyle="--", **steps)
        title += "; dashed: nesting (operations)"
    axes.set_title(title, fontsize=7, color="0.35")
    axes.set_ylabel("difficulty")
    axes.set_ylim(0, 1.1 * max(lengths + nestings))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


# Evaluation


def _all_rows(evaluation: dict) -> list[dict]:
    """The rows by nesting and length, those beyond training among them."""
    rows = evaluation["rows"] + evaluation["beyond_training"]
    return sorted(rows, key=lambda row: (row["nesting"], row["length"]))


@matplotlib.rc_context(STYLE)
def _length_lines(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    lengths = [row["length"] for row in rows]
    figure = new_figure(height=3.5)
    axes = figure.subplots()
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    for name, label in reversed(METRICS.items()):  # Where they meet, exact_match is seen.
        rates = [row[name] for row in rows]
        axes.plot(lengths, rates, "o-", color=COLOURS[name], markersize=3.5, label=label)
    copied = [row["answer_in_program"] for row in rows]
    style = {"color": BLACK, "linewidth": 0.5, "markersize": 9, "zorder": 1.5}
    axes.plot(lengths, copied, "_-", label=COPY_LABEL, **style)
    chance = evaluation["chance_token_accuracy"]
    label = f"chance token_accuracy: {format_rate(chance, 3)}"
    axes.axhline(chance, color=BLACK, linewidth=0.9, linestyle=(0, (1, 1.5)), label=label)
    if evaluation["beyond_training"]:
        trained = max(row["length"] for row in evaluation["rows"])
        axes.axvspan(trained + 0.5, lengths[-1] + 0.5, color="0.93", label="beyond training")
    axes.set(ylabel=f"share right ({_counts(rows)})", xlabel="length (digits)")
    axes.set_xlim(lengths[0] - 0.5, lengths[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    share_axis(axes, of_lines=True)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _counts(rows: list[dict]) -> str:
    fewest, most = (f"{count({row['num_examples'] for row in rows}):,}" for count in (min, max))
    return f"{fewest} examples each" if fewest == most else f"{fewest} to {most} examples each"


@matplotlib.rc_context(STYLE)
def _heat_maps(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    figure = new_figure(height=1.6 + 0.84 * len({row["nesting"] for row in rows}))
    panels = figure.subplots(2, sharex=True, sharey=True)
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    lengths, nestings = (sorted({row[key] for row in rows}) for key in ("length", "nesting"))
    tested = {(row["length"], row["nesting"]): row for row in rows}
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        cells = [[_cell(tested.get((x, y)), name) for x in lengths] for y in nestings]
        mesh = heat_map(axes, cells, lengths, nestings)
        for row in evaluation["beyond_training"]:
            corner = lengths.index(row["length"]) + 0.06, nestings.index(row["nesting"]) + 0.07
            style = {"linewidth": 0.8, "linestyle": (0, (3, 2)), "path_effects": WHITE_EDGE}
            axes.add_patch(Rectangle(corner, 0.88, 0.86, fill=False, edgecolor="0.1", **style))
        axes.set(title=title, ylabel="nesting (operations)")
    axes.set_title(f"{title}, chance {format_rate(evaluation['chance_token_accuracy'], 3)}")
    axes.set_xlabel("length (digits)")
    colour_bar(figure, mesh, panels, "share right", aspect=30)
    note = f"{_counts(rows)}; small: answer_in_program, how often the text holds the answer"
    if evaluation["beyond_training"]:
        note += "; dashed: beyond training"
    figure.supxlabel(note, fontsize=7, color="0.35")
    return figure


def _cell(row: dict | None, name: str) -> tuple:
    """A rate of a row and the texts in its cell; blank where there is no row."""
    if row is None:
        return (math.nan,)
    copied = format_short_rate(row["answer_in_program"], 2)
    return row[name], format_short_rate(row[name], 3), copied


# Breakdown


@matplotlib.rc_context(STYLE)
def _breakdown(evaluation: dict) -> Figure:
    kind, title, entries = breakdown(evaluation)
    rates = [entry["exact_match"] for entry in entries]
    bounds = [wilson(entry["exact_match"], entry["num_examples"]) for entry in entries]
    # At 1 and 0 sums in floating point may lie a little on the wrong side.
    below = [max(0.0, rate - low) for rate, (low, _) in zip(rates, bounds, strict=True)]
    above = [max(0.0, high - rate) for rate, (_, high) in zip(rates, bounds, strict=True)]
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    places = range(len(rates))
    bars = axes.bar(
        places,
        rates,
        0.6,
        yerr=[below, above],
        error_kw={"elinewidth": 1.2, "ecolor": "0.1"},
        color=BLUE,
        label=f"{METRICS['exact_match']} and its 95% interval",
    )
    if len(rates) <= MAX_VALUES:
        write_values(axes, bars, rates)
    copied = [entry["answer_in_program"] for entry in entries]
    left, right = ([i + side for i in places] for side in (-0.42, 0.42))
    style = {"linewidth": 1.3, "clip_on": False, "zorder": 3, "path_effects": WHITE_EDGE}
    axes.hlines(copied, left, right, BLACK, label=COPY_LABEL, **style)
    names = [textwrap.fill(str(entry[kind]), 16) for entry in entries]
    axes.set_xticks(places, names)
    axes.set(ylabel="share right", title=title)
    axes.set_xlabel(KIND_LABELS.get(kind, kind.replace("_", " ")))
    # Few bars keep their width: without room beside it a single one would fill the page.
    margin = max(0.5, (5 - len(rates)) / 2)
    axes.set_xlim(-margin, len(rates) - 1 + margin)
    share_axis(axes)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (95% for z = 1.96) of a rate that `count` examples gave."""
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return centre - half, centre + half
