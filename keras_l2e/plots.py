"""Plots of training runs and evaluations, as PNG files.

`token_accuracy` is teacher-forced and `exact_match` free-running; they are orange and blue in every
figure and never share a name. No rate is rounded to 1 or 0 unless it is exactly that.
"""

import itertools
import math
from pathlib import Path

import matplotlib
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, MultipleLocator, NullLocator

from keras_l2e.files import write_atomically
from keras_l2e.tables import (
    BREAKDOWNS,
    METRICS,
    breakdown_groups,
    describe,
    format_rate,
    format_short_rate,
)

# Okabe and Ito's colours, distinct for colour-blind readers; the pale ones are tints of them.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"
PALE = {BLUE: "#8CC3E3", ORANGE: "#F5CE7A"}

COPY_MARK = Line2D([], [], color=BLACK, linewidth=1.3)
COPY_MARK.set_label("answer_in_program (the text holds the answer)")

WIDTH = 7.2  # inches: a page's text width
DPI = 200
MAX_BARS_WITH_VALUES = 11  # more lengths than this leave no room for numbers above the bars
MAX_BARS_IN_PAIRS = 20  # more lengths than this leave stripes: one bar is drawn before the other
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

COLOURS = {"exact_match": BLUE, "token_accuracy": ORANGE}


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
    several = len({row["nesting"] for row, _ in _all_rows(evaluation)}) > 1
    save_figure(_heat_maps(evaluation) if several else _length_bars(evaluation), path)


def plot_breakdown(evaluation: dict, path) -> None:
    """Draws `exact_match` by operation or by carry-chain length as a PNG, where there is either."""
    if breakdown := breakdown_groups(evaluation):
        save_figure(_breakdown(evaluation, *breakdown), path)


# Figures


def new_figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


@matplotlib.rc_context(STYLE)
def save_figure(figure: Figure, path) -> None:
    """Writes a PNG whole or not at all; equal figures give equal bytes."""
    options = {"format": "png", "dpi": DPI, "metadata": {"Software": None}}
    write_atomically(Path(path), lambda temporary: figure.savefig(temporary, **options))


@matplotlib.rc_context(STYLE)
def _learning_curve(history: list[dict]) -> Figure:
    figure = new_figure(height=4.7)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[5, 2])
    for name, label in METRICS.items():
        colour = COLOURS[name]
        current, target = (_curve(history, s, name) for s in ("validation", "target_validation"))
        # Without a curriculum the current difficulty is the target from the first epoch on.
        if len(_steps(history)) > 1:
            _plot(upper, *current, PALE[colour], 1.0, label=f"{label}, current difficulty")
        _plot(upper, *target, colour, 1.8, label=f"{label}, target difficulty", zorder=3)
    upper.set(ylim=(-0.02, 1.02), ylabel="share right, validation")
    upper.yaxis.set_major_locator(MultipleLocator(0.2))

    examples = [epoch["num_examples"] for epoch in history]
    losses = [epoch["loss"] for epoch in history]
    _plot(lower, examples, losses, GREEN, 1.3)
    lower.set_yscale("log")
    # On a short axis the powers of ten alone would be one label or none.
    is_short = max(losses) < MAX_RATIO_WITH_STEPS * min(losses)
    lower.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_major_formatter("{x:g}")
    lower.set(ylabel="training loss (nats)", xlabel="training examples seen")
    lower.xaxis.set_major_formatter(EngFormatter(sep=""))
    lower.set_xlim(0, examples[-1] * 1.015)
    for axes in (upper, lower):
        axes.grid(axis="y")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.align_ylabels()
    _mark_steps(upper, lower, _steps(history))
    return figure


def _plot(axes, x, y, colour: str, width: float, **style) -> None:
    # The marks show points without neighbours, and else disappear in the line.
    axes.plot(x, y, color=colour, linewidth=width, marker="o", markersize=width + 0.4, **style)


def _curve(history: list[dict], split: str, name: str) -> tuple[list[float], list[float]]:
    """Examples seen and rates; a line breaks where the difficulty changes that is measured."""
    x, y = [], []
    for before, epoch in itertools.pairwise([history[0], *history]):
        if split == "validation" and epoch["difficulty"] != before["difficulty"]:
            x.append(math.nan)
            y.append(math.nan)
        x.append(epoch["num_examples"])
        y.append(epoch[split][name])
    return x, y


def _steps(history: list[dict]) -> list[tuple[int, int, str]]:
    """(examples seen, length, nesting) where each new level begins, the first at 0.

    A star behind the nesting says that the level has programs of some operations only.
    """
    steps = []
    seen = 0
    for epoch in history:
        level = epoch["difficulty"]
        nesting = f"nesting {level['nesting']}" + "*" * ("operations" in level)
        if not steps or (level["length"], nesting) != steps[-1][1:]:
            steps.append((seen, level["length"], nesting))
        seen = epoch["num_examples"]
    return steps


def _mark_steps(upper, lower, steps: list[tuple[int, int, str]]) -> None:
    """Marks by lines and labels where the difficulty changes, as far as there is room."""
    style = {"fontsize": 7, "color": "0.35"}
    if len(steps) == 1:
        _, length, nesting = steps[0]
        upper.set_title(f"difficulty: length {length}, {nesting}", **style)
        return
    deeper = [next(same) for _, same in itertools.groupby(steps, key=lambda step: step[2])]
    pad = 27 if len(deeper) > 1 else 16
    some = "; *: some operations only" if any("*" in nesting for *_, nesting in steps) else ""
    upper.set_title(f"current difficulty: length (digits){some}", pad=pad, **style)
    above = {"xycoords": upper.get_xaxis_transform(), "va": "bottom"}
    width = upper.get_xlim()[1]
    for x, length, _ in _apart(steps, width * LABEL_WIDTH):
        write_near(upper, x, 1, str(length), size=7, rise=3, **above)
        for axes in (upper, lower):
            axes.axvline(x, color="0.87", linewidth=0.6, zorder=0.5)
    if len(deeper) == 1:
        return
    for x, _, nesting in _apart(deeper, width * NESTING_LABEL_WIDTH):
        write_near(upper, x, 1, nesting, size=7, rise=14, ha="left", **above)
        for axes in (upper, lower):
            axes.axvline(x, color="0.6", linewidth=0.8, zorder=0.6)


def _apart(steps: list[tuple[int, int, str]], distance: float) -> list[tuple[int, int, str]]:
    """The last step, and of those before it the ones that are so far from the next one kept."""
    kept = [steps[-1]]
    for step in reversed(steps):
        if kept[-1][0] - step[0] >= distance:
            kept.append(step)
    return kept[::-1]


def _all_rows(evaluation: dict) -> list[tuple[dict, bool]]:
    """(row, whether it lies beyond training), by nesting and length."""
    rows = [(row, False) for row in evaluation["rows"]]
    rows += [(row, True) for row in evaluation["beyond_training"]]
    return sorted(rows, key=lambda pair: (pair[0]["nesting"], pair[0]["length"]))


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
        colour = COLOURS[name]
        for i, (row, beyond) in enumerate(rows):
            x = i + offset if in_pairs else i
            style = _beyond_training(colour) if beyond else {"color": colour}
            axes.bar(x, row[name], 0.38 if in_pairs else 0.84, **style)
            if len(rows) <= MAX_BARS_WITH_VALUES:
                write_value(axes, x, row[name], row[name])
    _copy_marks(axes, [row["answer_in_program"] for row, _ in rows])

    chance = evaluation["chance_token_accuracy"]
    line = {"color": BLACK, "linewidth": 0.9, "linestyle": (0, (1, 1.5))}
    axes.axhline(chance, **line)
    handles = [Patch(color=COLOURS[name], label=label) for name, label in METRICS.items()]
    if not in_pairs:
        handles[1].set_label(f"{handles[1].get_label()}, behind")
    handles.append(COPY_MARK)
    handles.append(Line2D([], [], label=f"chance token_accuracy: {format_rate(chance, 3)}", **line))
    if evaluation["beyond_training"]:
        handles.append(Patch(label="beyond training", **_beyond_training(BLUE)))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    axes.set(ylabel=f"share right ({_counts(rows)})", xlabel="length (digits)")
    share_axis(axes)
    _categories(axes, [row["length"] for row, _ in rows])
    return figure


def _beyond_training(colour: str) -> dict:
    return {"facecolor": PALE[colour], "edgecolor": colour, "linewidth": 0.5, "hatch": "/////"}


def write_value(axes, x: float, rate: float, top: float) -> None:
    """Writes a bar's value above it, on white."""
    halo = [patheffects.withStroke(linewidth=2.2, foreground="white")]
    write_near(
        axes, x, top, format_short_rate(rate, 3), 5.4, rise=2, va="bottom", path_effects=halo
    )


def _copy_marks(axes, rates: list[float]) -> None:
    """A short line across each place, edged in white so that it shows on every colour."""
    left, right = ([i + side for i in range(len(rates))] for side in (-0.42, 0.42))
    for linewidth, colour in ((2.4, "white"), (1.3, BLACK)):
        axes.hlines(rates, left, right, colour, linewidth=linewidth, clip_on=False, zorder=3)


def share_axis(axes) -> None:
    axes.set_ylim(0, 1.1)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(axis="y")


def _categories(axes, names: list) -> None:
    """One place a name on the x axis; of many numbers only the round ones are written."""
    stride = 1 if len(names) <= 28 else 5
    places = [i for i, name in enumerate(names) if stride == 1 or name % stride == 0]
    axes.set_xticks(places, [str(names[i]) for i in places])
    # Few bars keep their width: without room beside it a single one would fill the page.
    margin = max(0.5, (5 - len(names)) / 2)
    axes.set_xlim(-margin, len(names) - 1 + margin)


def _counts(rows: list[tuple[dict, bool]]) -> str:
    counts = sorted({row["num_examples"] for row, _ in rows})
    few = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"{few} examples each"


@matplotlib.rc_context(STYLE)
def _heat_maps(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    lengths = sorted({row["length"] for row, _ in rows})
    nestings = sorted({row["nesting"] for row, _ in rows})
    figure = new_figure(height=1.6 + 0.84 * len(nestings))
    panels = figure.subplots(2, sharex=True, sharey=True)
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        image = _heat_map(axes, rows, name, lengths, nestings)
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


def _heat_map(axes, rows, name: str, lengths: list[int], nestings: list[int]):
    grid = [[math.nan] * len(lengths) for _ in nestings]
    for row, beyond in rows:
        x, y = lengths.index(row["length"]), nestings.index(row["nesting"])
        grid[y][x] = row[name]
        ink = {"color": "white" if row[name] > 0.6 else "0.1", "va": "center"}
        write_near(axes, x + 0.5, y + 0.5, format_short_rate(row[name], 3), 8, rise=3, **ink)
        write_near(
            axes, x + 0.5, y + 0.5, format_short_rate(row["answer_in_program"], 2), 6.2, -7, **ink
        )
        if beyond:
            frame = {
                "fill": False,
                "edgecolor": ink["color"],
                "linestyle": (0, (3, 2)),
                "zorder": 2,
            }
            axes.add_patch(Rectangle((x + 0.06, y + 0.07), 0.88, 0.86, linewidth=0.8, **frame))
    cells = {"cmap": "YlGnBu", "vmin": 0, "vmax": 1, "edgecolor": "white", "linewidth": 1.5}
    mesh = axes.pcolormesh(grid, **cells)
    axes.set_xticks([i + 0.5 for i in range(len(lengths))], map(str, lengths))
    axes.set_yticks([i + 0.5 for i in range(len(nestings))], map(str, nestings))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def write_near(axes, x: float, y: float, text: str, size: float, rise: float, **style) -> None:
    """Writes a text `rise` points above the place (x, y)."""
    style = {"ha": "center", "color": "0.2", "zorder": 4, "textcoords": "offset points"} | style
    axes.annotate(text, (x, y), xytext=(0, rise), fontsize=size, **style)


@matplotlib.rc_context(STYLE)
def _breakdown(evaluation: dict, kind: str, groups: list[tuple[str, list[dict]]]) -> Figure:
    figure = new_figure(height=1.0 + 1.9 * len(groups))
    panels = figure.subplots(len(groups), squeeze=False)[:, 0]
    figure.suptitle(describe(evaluation), x=0.01, ha="left")
    field, field_label = BREAKDOWNS[kind]
    colour, label = COLOURS["exact_match"], METRICS["exact_match"]
    for axes, (title, entries) in zip(panels, groups, strict=True):
        for x, entry in enumerate(entries):
            rate = entry["exact_match"]
            low, high = wilson(rate, entry["num_examples"])
            axes.bar(x, rate, 0.6, color=colour)
            # An edge in white keeps the black line visible on the bar.
            for linewidth, ink in ((2.6, "white"), (1.2, "0.1")):
                axes.vlines(x, low, high, ink, linewidth=linewidth, zorder=3)
            if len(entries) <= MAX_BARS_WITH_VALUES:
                write_value(axes, x, rate, high)
        _copy_marks(axes, [entry["answer_in_program"] for entry in entries])
        axes.set(ylabel="share right", title=title)
        share_axis(axes)
        _categories(axes, [entry[field] for entry in entries])
    axes.set_xlabel(field_label)
    handles = [Patch(color=colour, label=f"{label} and its 95% interval"), COPY_MARK]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (95% for z = 1.96) of a rate that `count` examples gave."""
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return centre - half, centre + half
