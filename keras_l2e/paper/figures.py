"""The paper's figures, drawn from finished cells: JSON, CSV, PNG and Markdown.

    write(comparisons.collect("addition", "cpu", Path("W/addition")), Path("W"))

leaves addition.json, addition.csv, addition.png and addition.md in W. Cells that are missing stay
blank.
"""

import itertools
import math
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from keras_l2e import plots as report
from keras_l2e.files import write_json, write_text
from keras_l2e.paper import tables as figure_tables
from keras_l2e.paper.cells import OPTIMIZERS, STRATEGIES
from keras_l2e.paper.comparisons import METRICS, compare, mean, measured, shown, strategies

# Of Okabe and Ito's colours those that `report` does not give to the metrics, and a mark each, so
# that strategies can be told apart without colour.
MARKS = {
    "baseline": ("0.45", "s"),
    "naive": ("#CC79A7", "^"),
    "mix": ("#56B4E9", "D"),
    "combined": ("#009E73", "o"),
}
# Of the distance between two groups of bars; narrower bars have no room for their values.
GROUP_WIDTH = 0.9
# Rates of fewer test examples are drawn as uncertain.
FEW_EXAMPLES = 200


def paths(result: dict, folder: Path) -> list[Path]:
    """Where `write` puts FIGURE.json, .csv, .png and .md."""
    return [folder / f"{result['figure']}.{kind}" for kind in ("json", "csv", "png", "md")]


def write(result: dict, folder: Path) -> list[Path]:
    """Writes the figure as JSON, CSV, PNG and Markdown; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_csv, as_png, as_markdown = paths(result, folder)
    write_json(as_json, result)
    write_text(as_csv, figure_tables.format_csv(result))
    report.save_figure(draw(result), as_png)
    write_text(as_markdown, figure_tables.format_markdown(result))
    return paths(result, folder)


def draw(result: dict) -> Figure:
    """The figure, as far as its cells are there."""
    with matplotlib.rc_context(report.STYLE):
        return DRAWINGS[result["figure"]](result)


def _addition(result: dict) -> Figure:
    lengths = sorted({cell["target_length"] for cell in shown(result)})
    names = [str(length) for length in lengths]
    settings = [{"target_length": length} for length in lengths]
    figure = report.new_figure(height=4.6)
    panels = figure.subplots(2, sharex=True)
    figure.suptitle(_title(result, "Addition"), x=0.01, ha="left")
    for axes, metric in zip(panels, METRICS, strict=True):
        _bars(axes, result, metric, settings, names)
    panels[-1].set_xlabel("target: digits of both numbers")
    _legend(figure, result)
    return figure


def _bars(axes, result: dict, metric: str, settings: list[dict], names: list[str]) -> None:
    """A group of bars for each place, one bar a strategy: the mean, and each seed as a dot."""
    drawn = strategies(result)
    width = GROUP_WIDTH / max(1, len(drawn))
    for i, place in enumerate(settings):
        for j, strategy in enumerate(drawn):
            found = measured(result, metric, strategy=strategy, **place)
            if not found:
                continue
            x = i + (j - (len(drawn) - 1) / 2) * width
            height = mean(found)
            axes.bar(x, height, 0.92 * width, color=MARKS[strategy][0])
            rates = [m.rate for m in found]
            if len(rates) > 1:
                axes.plot([x] * len(rates), rates, ".", color="0.1", markersize=3, zorder=3)
            report.write_value(axes, x, height, max(rates))
        copied = measured(result, "answer_in_program", **place)
        if copied:
            axes.hlines(
                mean(copied),
                i - GROUP_WIDTH / 2,
                i + GROUP_WIDTH / 2,
                "0.1",
                linewidth=1.3,
                zorder=3,
            )
    _chance(axes, result, metric)
    report.share_axis(axes)
    axes.set(ylabel="share right, test", title=METRICS[metric])
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.55, max(0, len(names) - 1) + 0.55)


def _chance(axes, result: dict, metric: str) -> None:
    if metric == "token_accuracy" and result["cells"]:
        chance = result["cells"][0]["chance_token_accuracy"]
        axes.axhline(chance, color="0.1", linewidth=0.9, linestyle=(0, (1, 1.5)))


def _legend(figure: Figure, result: dict, marks: bool = False) -> None:
    """Strategies, chance and copying, below the panels; `marks` for lines instead of bars."""
    handles = [
        Line2D([], [], color=colour, marker=mark, markersize=4, label=strategy)
        if marks
        else Patch(color=colour, label=strategy)
        for strategy, (colour, mark) in MARKS.items()
        if strategy in strategies(result)
    ]
    if result["cells"]:
        chance = report.format_rate(result["cells"][0]["chance_token_accuracy"], 3)
        dotted = {"color": "0.1", "linewidth": 0.9, "linestyle": (0, (1, 1.5))}
        handles.append(Line2D([], [], label=f"chance token_accuracy: {chance}", **dotted))
    if marks:
        handles.append(Line2D([], [], linestyle="", label="copying the text: 1, by definition"))
        few = {"linestyle": "", "marker": "o", "color": "0.45", "mfc": "white", "markersize": 4}
        handles.append(Line2D([], [], label=f"hollow: below {FEW_EXAMPLES} test examples", **few))
    else:
        handles.append(Line2D([], [], color="0.1", linewidth=1.3, label="answer_in_program"))
        handles.append(
            Line2D([], [], color="0.1", marker=".", linestyle="", label="one seed (bar: the mean)")
        )
    # All in one row would be wider than the page.
    columns = 3 if marks else 4
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _title(result: dict, what: str) -> str:
    text = f"{what}: {result['num_training_examples']:,} training examples a cell"
    if result["budget"] == "paper":
        text = text.replace(":", ": at most", 1)
    missing = sum(not name.startswith("rate_") for name in result["missing"])
    return text + (f" ({missing} cells missing)" if missing else "")


def _programs(result: dict) -> Figure:
    lengths = sorted({cell["target_length"] for cell in shown(result)}) or [1]
    nestings = sorted({cell["target_nesting"] for cell in shown(result)}) or [1]
    others = [strategy for strategy in STRATEGIES if strategy != "baseline"]
    kinds = [("baseline", None), ("combined", None), *((name, "baseline") for name in others)]
    figure = report.new_figure(height=1.2 + len(kinds) * (0.42 + 0.27 * len(nestings)))
    panels = figure.subplots(len(kinds), 2, sharex=True, sharey=True, squeeze=False)
    figure.suptitle(_title(result, "Programs"), x=0.01, ha="left")
    for row, (strategy, reference) in zip(panels, kinds, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            image = _heat_map(axes, result, metric, lengths, nestings, strategy, reference)
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
    chance = result["cells"][0]["chance_token_accuracy"] if result["cells"] else math.nan
    figure.supxlabel(
        f"small: answer_in_program, what copying could reach; chance token_accuracy {chance:.3f}; "
        "in brackets: differences within the noise",
        fontsize=7,
        color="0.35",
    )
    return figure


def _heat_map(axes, result, metric, lengths, nestings, strategy, reference):
    """One strategy over length x nesting, absolute or relative to another one; gives the mesh."""
    grid = [[math.nan] * len(lengths) for _ in nestings]
    size = 7 if len(lengths) <= 4 else 5
    for (x, length), (y, nesting) in itertools.product(enumerate(lengths), enumerate(nestings)):
        place = {"target_length": length, "target_nesting": nesting}
        if reference:
            first, second = ({"strategy": name, **place} for name in (strategy, reference))
            found = compare(result, metric, first, second)
            if found is None:
                continue
            grid[y][x] = found.value
            text = f"{found.value:+.2f}".replace("0.", ".")
            text = text if found.significant else f"({text})"
            ink = "white" if abs(found.value) > 0.27 else "0.1"
            report.write_near(axes, x + 0.5, y + 0.5, text, size, 0, va="center", color=ink)
            continue
        found = measured(result, metric, strategy=strategy, **place)
        if not found:
            continue
        grid[y][x] = mean(found)
        copied = mean(measured(result, "answer_in_program", strategy=strategy, **place))
        ink = {"color": "white" if grid[y][x] > 0.6 else "0.1", "va": "center"}
        text = report.format_short_rate(grid[y][x], 2)
        report.write_near(axes, x + 0.5, y + 0.5, text, size, rise=3, **ink)
        text = report.format_short_rate(copied, 2)
        report.write_near(axes, x + 0.5, y + 0.5, text, max(4, size - 2), rise=-5, **ink)
    limits = (
        {"cmap": "PuOr", "vmin": -0.5, "vmax": 0.5}
        if reference
        else {"cmap": "YlGnBu", "vmin": 0, "vmax": 1}
    )
    mesh = axes.pcolormesh(grid, edgecolor="white", linewidth=1.5, **limits)
    axes.set_xticks([i + 0.5 for i in range(len(lengths))], map(str, lengths))
    axes.set_yticks([i + 0.5 for i in range(len(nestings))], map(str, nestings))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def _memorization(result: dict) -> Figure:
    forms = list(dict.fromkeys(cell["input_form"] for cell in shown(result))) or ["none"]
    figure = report.new_figure(height=1.3 + 1.5 * len(forms))
    panels = figure.subplots(len(forms), 2, sharex=True, sharey=True, squeeze=False)
    target = max((cell["target_length"] for cell in shown(result)), default=1)
    figure.suptitle(_title(result, f"Memorization, target {target} digits"), x=0.01, ha="left")
    for row, form in zip(panels, forms, strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            for strategy in strategies(result):
                _lengths_line(axes, result, metric, strategy, form, target)
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
    _legend(figure, result, marks=True)
    return figure


def _lengths_line(axes, result: dict, metric: str, strategy: str, form: str, target: int) -> None:
    """One strategy's line over the tested lengths, the seeds' range as a band.

    Lengths with few test examples (there are 2 of one digit) have hollow marks.
    """
    settings = {"strategy": strategy, "input_form": form}
    lengths = {
        length: found
        for length in range(1, target + 1)
        if (found := measured(result, metric, length=length, **settings))
    }
    x, y = list(lengths), [mean(found) for found in lengths.values()]
    low = [min(m.rate for m in found) for found in lengths.values()]
    high = [max(m.rate for m in found) for found in lengths.values()]
    few = [i for i in lengths if min(m.num_examples for m in lengths[i]) < FEW_EXAMPLES]
    colour, mark = MARKS[strategy]
    shape = {"color": colour, "marker": mark, "markersize": 2.5}
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, y, linewidth=1, **shape)
    axes.plot(few, [mean(lengths[i]) for i in few], linestyle="", mfc="white", **shape)


def _optimizers(result: dict) -> Figure:
    figure = report.new_figure(height=5.6)
    layout = figure.add_gridspec(2, 6, height_ratios=[1.1, 1])
    optimizers = [o for o in OPTIMIZERS if any(c["optimizer"] == o for c in shown(result))]
    target = max((cell["target_length"] for cell in result["cells"]), default=1)
    title = _title(result, f"Optimizers, addition of {target} digits")
    figure.suptitle(title, x=0.01, ha="left")
    total = result["num_training_examples"]
    first = None
    for i, optimizer in enumerate(OPTIMIZERS):
        axes = figure.add_subplot(layout[0, 2 * i : 2 * i + 2], sharex=first, sharey=first)
        first = first or axes
        for strategy in strategies(result):
            _mastery_line(axes, result, optimizer, strategy, total)
        rate = result["learning_rates"].get(optimizer)
        axes.set_title(optimizer + (f", learning rate {rate:g}" if rate else ""))
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
        _bars(axes, result, metric, [{"optimizer": o} for o in optimizers], optimizers)
        axes.set_title(axes.get_title(loc="left"), fontsize=7.5)
    _legend(figure, result)
    return figure


def _mastery_line(axes, result: dict, optimizer: str, strategy: str, total: int) -> None:
    """Examples until each number of digits is mastered, a mean where all seeds came to it.

    What a seed never mastered stands above the total.
    """
    seen = {}
    for cell in shown(result):
        if (cell["optimizer"], cell["strategy"]) == (optimizer, strategy):
            for level in cell["mastered"]:
                seen.setdefault(level["length"], []).append(level["num_examples"])
    colour, mark = MARKS[strategy]
    # Side by side, or equal marks would hide one another.
    shift = 0.12 * (list(MARKS).index(strategy) - 1.5)
    line = []
    for length, numbers in sorted(seen.items()):
        reached = [number for number in numbers if number is not None]
        x = length + shift
        if len(reached) < len(numbers):
            axes.plot(x, 1.08 * total, marker=mark, color=colour, markersize=3, mfc="white")
        axes.plot([x] * len(reached), reached, color=colour, linewidth=0.8)
        if len(reached) == len(numbers):
            line.append((x, sum(reached) / len(reached)))
        else:  # No mean, and no part of the line.
            axes.plot([x] * len(reached), reached, color=colour, marker=mark, markersize=3)
    if line:
        axes.plot(*zip(*line, strict=True), color=colour, marker=mark, markersize=3, linewidth=1)


DRAWINGS = {
    "addition": _addition,
    "programs": _programs,
    "memorization": _memorization,
    "optimizers": _optimizers,
}
