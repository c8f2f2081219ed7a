"""Plots of training runs and evaluations, as PNG files.

`token_accuracy` is teacher-forced and `exact_match` free-running; they are orange and blue in every
figure and never share a name. No rate is rounded to 1 or 0 unless it is exactly that.
"""

import itertools
import math
import textwrap
from pathlib import Path

import matplotlib
from matplotlib import patheffects
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, MultipleLocator, NullLocator

from keras_l2e.files import write_atomically
from keras_l2e.tables import METRICS, breakdowns, describe, format_rate, format_short_rate

# Okabe and Ito's colours, distinct for colour-blind readers; the pale ones are tints of them.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"
COLOURS = {"exact_match": BLUE, "token_accuracy": ORANGE}
PALE = {BLUE: "#8CC3E3", ORANGE: "#F5CE7A"}
# Keeps black lines and small texts visible on every colour.
WHITE_EDGE = [patheffects.withStroke(linewidth=2.4, foreground="white")]

WIDTH = 7.2  # inches: a page's text width
DPI = 200
MAX_BARS_WITH_VALUES = 11  # more lengths than this leave no room for numbers above the bars
MAX_BARS_IN_PAIRS = 20  # more lengths than this leave stripes: one bar is drawn before the other
MAX_BARS_WITH_NAMES = 28
LABEL_WIDTH = 0.022  # of the axis: labels of difficulties that stand closer would touch
NESTING_LABEL_WIDTH = 0.09
MAX_RATIO_WITH_STEPS = 300  # of losses: labels at 1, 2 and 5 of more powers of ten would overlap

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
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}

# What stands below the bars of a kind of programs, where its name alone would not say it.
KIND_LABELS = {"carry_chain": "longest carry chain (digits)"}


def plot_learning_curve(history: list[dict], path) -> None:
    """Draws what a run learnt against the training examples it had seen, as a PNG.

    Above: `token_accuracy` and `exact_match` at the target and at the current difficulty; below:
    the training loss. Vertical lines mark where the curriculum moved.

    Args:
        history: the lines of `history.jsonl`, oldest first; at least one.
        path: where the PNG goes.
    """
    save_figure(_learning_curve(history), path)


def plot_evaluation(evaluation: dict, path) -> None:
    """Draws an evaluation as a PNG: bars by length, or length x nesting heat maps.

    Args:
        evaluation: the content of `evaluation.json`. With a single nesting the figure has bars,
            with several it has two heat maps on the fixed scale 0..1.
        path: where the PNG goes.
    """
    several = len({row["nesting"] for row in _all_rows(evaluation)}) > 1
    save_figure(_heat_maps(evaluation) if several else _length_bars(evaluation), path)


def plot_breakdown(evaluation: dict, path) -> None:
    """Draws `exact_match` by each kind of program as a PNG, where the evaluation has kinds."""
    if groups := breakdowns(evaluation):
        save_figure(_breakdown(evaluation, groups), path)


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


def write_near(axes, x: float, y: float, text: str, size: float, rise: float, **style) -> None:
    """Writes a text `rise` points above the place (x, y)."""
    style = {"ha": "center", "color": "0.2", "zorder": 4, "textcoords": "offset points"} | style
    axes.annotate(text, (x, y), xytext=(0, rise), fontsize=size, **style)


def write_value(axes, x: float, rate: float, top: float) -> None:
    """Writes a bar's value above it, on white."""
    text = format_short_rate(rate, 3)
    write_near(axes, x, top, text, size=5.4, rise=2, va="bottom", path_effects=WHITE_EDGE)


def share_axis(axes) -> None:
    """A y axis for shares, from 0 to 1, with room for values above the bars."""
    axes.set_ylim(0, 1.1)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(axis="y")


# Learning curve


@matplotlib.rc_context(STYLE)
def _learning_curve(history: list[dict]) -> Figure:
    figure = new_figure(height=4.7)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[5, 2])
    steps = _steps(history)
    examples = [epoch["num_examples"] for epoch in history]
    for name, label in METRICS.items():
        colour = COLOURS[name]
        # Without a curriculum the current difficulty is the target from the first epoch on.
        if len(steps) > 1:
            current = _current(history, name)
            _plot(upper, *current, PALE[colour], 1.0, label=f"{label}, current difficulty")
        target = [epoch["target_validation"][name] for epoch in history]
        _plot(upper, examples, target, colour, 1.8, label=f"{label}, target difficulty", zorder=3)
    upper.set(ylim=(-0.02, 1.02), ylabel="share right, validation")
    upper.yaxis.set_major_locator(MultipleLocator(0.2))

    losses = [epoch["loss"] for epoch in history]
    _plot(lower, examples, losses, GREEN, 1.3)
    lower.set_yscale("log")
    # On a short axis the powers of ten alone would be one label or none.
    is_short = max(losses) < MAX_RATIO_WITH_STEPS * min(losses)
    lower.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_major_formatter("{x:g}")
    lower.xaxis.set_major_formatter(EngFormatter(sep=""))
    lower.set(ylabel="training loss (nats)", xlabel="training examples seen")
    lower.set_xlim(0, examples[-1] * 1.015)
    for axes in (upper, lower):
        axes.grid(axis="y")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.align_ylabels()
    _mark_steps((upper, lower), steps)
    return figure


def _plot(axes, x, y, colour: str, width: float, **style) -> None:
    # The marks show points without neighbours, and else disappear in the line.
    axes.plot(x, y, color=colour, linewidth=width, marker="o", markersize=width + 0.4, **style)


def _level(epoch: dict) -> tuple[int, str]:
    """(length, nesting) of an epoch; a star marks an early run's level of some operations only."""
    level = epoch["difficulty"]
    return level["length"], f"nesting {level['nesting']}" + "*" * ("operations" in level)


def _current(history: list[dict], name: str) -> tuple[tuple, tuple]:
    """Examples seen and rates at the current difficulty; the line breaks where that changes."""
    points = []
    for _, epochs in itertools.groupby(history, key=_level):
        points += [(epoch["num_examples"], epoch["validation"][name]) for epoch in epochs]
        points.append((math.nan, math.nan))
    return tuple(zip(*points, strict=True))


def _steps(history: list[dict]) -> list[tuple[int, int, str]]:
    """(examples seen, length, nesting) where each new level begins, the first at 0."""
    steps = []
    seen = 0
    for level, epochs in itertools.groupby(history, key=_level):
        steps.append((seen, *level))
        seen = [epoch["num_examples"] for epoch in epochs][-1]
    return steps


def _mark_steps(panels, steps: list[tuple[int, int, str]]) -> None:
    """Marks by lines and labels where the difficulty changes, as far as there is room."""
    style = {"fontsize": 7, "color": "0.35"}
    if len(steps) == 1:
        _, length, nesting = steps[0]
        panels[0].set_title(f"difficulty: length {length}, {nesting}", **style)
        return
    some = "; *: some operations only" if any("*" in nesting for *_, nesting in steps) else ""
    panels[0].set_title(f"current difficulty: length (digits){some}", **style)
    lengths = [(x, str(length)) for x, length, _ in steps]
    _mark(panels, lengths, LABEL_WIDTH, "0.87", pad=2)
    deeper = [next(same) for _, same in itertools.groupby(steps, key=lambda step: step[2])]
    if len(deeper) > 1:
        nestings = [(x, nesting) for x, _, nesting in deeper]
        _mark(panels, nestings, NESTING_LABEL_WIDTH, "0.6", pad=13, ha="left")


def _mark(panels, marks: list[tuple], distance: float, colour: str, pad: float, **style) -> None:
    """Marks the last place, and of those before it the ones far enough from the next one kept."""
    kept = [marks[-1]]
    for mark in reversed(marks):
        if kept[-1][0] - mark[0] >= distance * panels[0].get_xlim()[1]:
            kept.append(mark)
    above = panels[0].secondary_xaxis("top")
    above.set_xticks(*zip(*reversed(kept), strict=True), **style)
    above.spines[:].set_visible(False)
    above.tick_params(length=0, pad=pad, labelsize=7, labelcolor="0.2")
    for x, _ in kept:
        for axes in panels:
            axes.axvline(x, color=colour, linewidth=0.7, zorder=0.5)


# Evaluation


def _all_rows(evaluation: dict) -> list[dict]:
    """The rows by nesting and length; `beyond` says whether one lies beyond training."""
    rows = [row | {"beyond": False} for row in evaluation["rows"]]
    rows += [row | {"beyond": True} for row in evaluation["beyond_training"]]
    return sorted(rows, key=lambda row: (row["nesting"], row["length"]))


@matplotlib.rc_context(STYLE)
def _length_bars(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    figure = new_figure(height=3.5)
    axes = figure.subplots()
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    in_pairs = len(rows) <= MAX_BARS_IN_PAIRS
    # Unpaired, token_accuracy goes behind: an answer right as a whole has every character right, so
    # among answers of about one length it is the higher of the two.
    for name, offset in (("token_accuracy", 0.2), ("exact_match", -0.2)):
        for i, row in enumerate(rows):
            x = i + offset if in_pairs else i
            style = _bar_style(COLOURS[name], row["beyond"])
            axes.bar(x, row[name], 0.38 if in_pairs else 0.84, **style)
            if len(rows) <= MAX_BARS_WITH_VALUES:
                write_value(axes, x, row[name], row[name])
    copy_mark = _mark_copies(axes, rows)

    chance = evaluation["chance_token_accuracy"]
    label = f"chance token_accuracy: {format_rate(chance, 3)}"
    line = axes.axhline(chance, color=BLACK, linewidth=0.9, linestyle=(0, (1, 1.5)), label=label)
    handles = [Patch(color=COLOURS[name], label=label) for name, label in METRICS.items()]
    if not in_pairs:
        handles[1].set_label(f"{handles[1].get_label()}, behind")
    handles += [copy_mark, line]
    if evaluation["beyond_training"]:
        handles.append(Patch(label="beyond training", **_bar_style(BLUE, beyond=True)))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    axes.set(ylabel=f"share right ({_counts(rows)})", xlabel="length (digits)")
    share_axis(axes)
    _name_bars(axes, [row["length"] for row in rows])
    return figure


def _bar_style(colour: str, beyond: bool) -> dict:
    if not beyond:
        return {"color": colour}
    return {"facecolor": PALE[colour], "edgecolor": colour, "linewidth": 0.5, "hatch": "/////"}


def _mark_copies(axes, entries: list[dict]) -> LineCollection:
    """A line across each place of a bar at its `answer_in_program`."""
    rates = [entry["answer_in_program"] for entry in entries]
    left, right = ([i + side for i in range(len(rates))] for side in (-0.42, 0.42))
    lines = axes.hlines(rates, left, right, BLACK, linewidth=1.3, clip_on=False, zorder=3)
    lines.set(label="answer_in_program (the text holds the answer)", path_effects=WHITE_EDGE)
    return lines


def _name_bars(axes, names: list) -> None:
    """One place a name on the x axis; of many numbers only the round ones are written."""
    many = len(names) > MAX_BARS_WITH_NAMES
    written = [isinstance(name, str) or name % 5 == 0 or not many for name in names]
    places = [i for i in range(len(names)) if written[i]]
    axes.set_xticks(places, [textwrap.fill(str(names[i]), 16) for i in places])
    # Few bars keep their width: without room beside it a single one would fill the page.
    margin = max(0.5, (5 - len(names)) / 2)
    axes.set_xlim(-margin, len(names) - 1 + margin)


def _counts(rows: list[dict]) -> str:
    fewest, most = (f"{count({row['num_examples'] for row in rows}):,}" for count in (min, max))
    return f"{fewest} examples each" if fewest == most else f"{fewest} to {most} examples each"


@matplotlib.rc_context(STYLE)
def _heat_maps(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    figure = new_figure(height=1.6 + 0.84 * len({row["nesting"] for row in rows}))
    panels = figure.subplots(2, sharex=True, sharey=True)
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        image = _heat_map(axes, rows, name)
        axes.set(title=title, ylabel="nesting (operations)")
    axes.set_title(f"{title}, chance {format_rate(evaluation['chance_token_accuracy'], 3)}")
    axes.set_xlabel("length (digits)")
    bar = figure.colorbar(image, ax=panels, fraction=0.04, pad=0.015, aspect=30)
    bar.set_label("share right")
    bar.outline.set_visible(False)
    note = f"{_counts(rows)}; small: answer_in_program, how often the text holds the answer"
    if evaluation["beyond_training"]:
        note += "; dashed: beyond training"
    figure.supxlabel(note, fontsize=7, color="0.35")
    return figure


def _heat_map(axes, rows: list[dict], name: str):
    lengths, nestings = (sorted({row[key] for row in rows}) for key in ("length", "nesting"))
    grid = [[math.nan] * len(lengths) for _ in nestings]
    for row in rows:
        x, y = lengths.index(row["length"]), nestings.index(row["nesting"])
        grid[y][x] = row[name]
        ink = "white" if row[name] > 0.6 else "0.1"
        style = {"va": "center", "color": ink}
        copied = format_short_rate(row["answer_in_program"], 2)
        write_near(axes, x + 0.5, y + 0.5, format_short_rate(row[name], 3), 8, rise=3, **style)
        write_near(axes, x + 0.5, y + 0.5, copied, 6.2, rise=-7, **style)
        if row["beyond"]:
            style = {"facecolor": "none", "edgecolor": ink, "linestyle": (0, (3, 2))}
            axes.add_patch(Rectangle((x + 0.06, y + 0.07), 0.88, 0.86, linewidth=0.8, **style))
    cells = {"vmin": 0, "vmax": 1, "edgecolor": "white", "linewidth": 1.5, "zorder": 0}
    mesh = axes.pcolormesh(grid, cmap="YlGnBu", **cells)
    axes.set_xticks([i + 0.5 for i in range(len(lengths))], map(str, lengths))
    axes.set_yticks([i + 0.5 for i in range(len(nestings))], map(str, nestings))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


# Breakdown


@matplotlib.rc_context(STYLE)
def _breakdown(evaluation: dict, groups: list[tuple[str, str, list[dict]]]) -> Figure:
    figure = new_figure(height=0.8 + 2.1 * len(groups))
    panels = figure.subplots(len(groups), squeeze=False)[:, 0]
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    for axes, (kind, title, entries) in zip(panels, groups, strict=True):
        rates = [entry["exact_match"] for entry in entries]
        places = range(len(rates))
        axes.bar(places, rates, 0.6, color=BLUE)
        bounds = [wilson(entry["exact_match"], entry["num_examples"]) for entry in entries]
        low, high = zip(*bounds, strict=True)
        axes.vlines(places, low, high, "0.1", linewidth=1.2, path_effects=WHITE_EDGE, zorder=3)
        if len(entries) <= MAX_BARS_WITH_VALUES:
            for x in places:
                write_value(axes, x, rates[x], high[x])
        copy_mark = _mark_copies(axes, entries)
        label = KIND_LABELS.get(kind, kind.replace("_", " "))
        axes.set(ylabel="share right", title=title, xlabel=label)
        share_axis(axes)
        _name_bars(axes, [entry[kind] for entry in entries])
    bar = Patch(color=BLUE, label=f"{METRICS['exact_match']} and its 95% interval")
    figure.legend(handles=[bar, copy_mark], loc="outside lower center", ncols=2)
    return figure


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (95% for z = 1.96) of a rate that `count` examples gave."""
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return centre - half, centre + half
