"""The paper's figures, drawn from finished cells: JSON, CSV, PNG and Markdown.

    result = collect("addition", "cpu", Path("W/addition"))
    write(result, Path("W"))  # addition.json, addition.csv, addition.png, addition.md

Cells that are missing stay blank. Two numbers are called different only where `difference` says so:

    >>> a, b = [Measured(0.90, 5000), Measured(0.94, 5000)], [Measured(0.80, 5000)]
    >>> difference(a, b)
    Difference(value=0.12, noise=0.04, real=True)
    >>> difference(b, a[:1], spread=0.2).real
    False
"""

import csv
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from keras_l2e import report
from keras_l2e.cells import OPTIMIZERS, STRATEGIES, Cell, cells
from keras_l2e.errors import WorkError
from keras_l2e.files import write_atomically, write_json

# Of Okabe and Ito's colours those that `report` does not give to the metrics, and a mark each, so
# that strategies can be told apart without colour.
LOOKS = {
    "baseline": ("0.45", "s"),
    "naive": ("#CC79A7", "^"),
    "mix": ("#56B4E9", "D"),
    "combined": ("#009E73", "o"),
}
METRICS = {
    "token_accuracy": "token_accuracy (teacher-forced, the paper's)",
    "exact_match": "exact_match (free-running)",
}
RATES = ("token_accuracy", "exact_match", "free_token_accuracy", "answer_in_program")
# What an evaluation tells kinds of programs apart by: its key and the name in each entry.
KINDS = {"by_operation": "operation", "by_carry_chain": "carry_chain"}
# The pairs that the paper's claims compare.
PAIRS = (
    ("combined", "baseline"),
    ("combined", "naive"),
    ("combined", "mix"),
    ("mix", "baseline"),
    ("naive", "baseline"),
)
# What else is compared, within each strategy.
OTHER_PAIRS = {
    "memorization": (
        ("input_form", "reverse_double", "none"),
        ("input_form", "reverse_double", "reverse"),
        ("input_form", "reverse_double", "double"),
    ),
    "optimizers": (
        ("optimizer", "muon", "sgd"),
        ("optimizer", "muon", "adam"),
        ("optimizer", "adam", "sgd"),
    ),
}
# Token accuracy above which a difficulty counts as mastered (the paper's, see `curriculum`).
MASTERED = 0.95
SAMPLES_SHOWN = 3


class Measured(NamedTuple):
    """A rate of one cell, and the number of test examples that gave it."""

    rate: float
    num_examples: int


class Difference(NamedTuple):
    """How far two sets of cells are apart.

    Attributes:
        value: mean of the first set - mean of the second.
        noise: what chance alone may make: the larger of the seeds' spread and of the test set's
            sampling error (95%).
        real: whether the difference is larger than the noise.
    """

    value: float
    noise: float
    real: bool


def difference(
    first: Sequence[Measured], second: Sequence[Measured], spread: float = 0.0
) -> Difference:
    """Compares two sets of cells that are equal but for their seeds.

    Args:
        first, second: one entry a seed, at least one.
        spread: the seeds' spread seen elsewhere in the figure, for sets of one seed; a set of
            several has its own, the largest minus the smallest rate.
    """
    own = [max(m.rate for m in s) - min(m.rate for m in s) for s in (first, second) if len(s) > 1]
    variance = sum(_variance(measured) for measured in (first, second))
    noise = max(*(own or [spread]), 1.96 * math.sqrt(variance), 0.0)
    value = _mean(first) - _mean(second)
    return Difference(round(value, 6), round(noise, 6), abs(value) > noise)


def _variance(measured: Sequence[Measured]) -> float:
    """The variance of the mean rate that the choice of the test examples alone makes.

    Positions of one answer hang together, so token accuracies count examples, too; and rates of 0
    and 1 are taken for a little less sure than they seem (Agresti and Coull).
    """
    total = 0.0
    for rate, count in measured:
        rate = (rate * count + 2) / (count + 4)
        total += rate * (1 - rate) / (count + 4)
    return total / len(measured) ** 2


def _mean(measured: Sequence[Measured]) -> float:
    return sum(m.rate for m in measured) / len(measured)


def collect(figure: str, budget: str, folder: Path, rates: dict[str, float] | None = None) -> dict:
    """What the finished cells of a figure have measured: the content of FIGURE.json.

    Args:
        figure, budget: names in `cells.FIGURES` and `cells.BUDGETS`.
        folder: the folder of the cells.
        rates: the chosen learning rates, for `optimizers`.

    Raises:
        WorkError: a finished cell's files are broken.
    """
    wanted = cells(figure, budget, rates)
    found = [cell for cell in wanted if (folder / cell.name / "evaluation.json").exists()]
    result = {
        "figure": figure,
        "budget": budget,
        "num_training_examples": wanted[0].num_examples,
        "missing": [cell.name for cell in wanted if cell not in found],
        "learning_rates": rates or {},
        "cells": [_read(cell, folder / cell.name) for cell in found],
    }
    return result


def read(path: Path) -> dict:
    """The content of a FIGURE.json.

    Raises:
        ValueError: names the file that is broken.
    """
    return report.read_evaluation(path)


def _read(cell: Cell, folder: Path) -> dict:
    """One cell's settings and what it measured."""
    try:
        evaluation = report.read_evaluation(folder / "evaluation.json")
        history = report.read_history(folder / "history.jsonl")
        last = history[-1]
        return {
            "name": cell.name,
            "choosing": cell.choosing,
            "task": cell.flags["task"],
            "strategy": cell.flags["strategy"],
            "seed": cell.flags["seed"],
            "input_form": evaluation["input_form"],
            "optimizer": cell.flags["optimizer"],
            "learning_rate": cell.flags["learning_rate"],
            "target_length": cell.flags["target_length"],
            "target_nesting": cell.flags.get("target_nesting", 1),
            "num_training_examples": last["num_examples"],
            "reached": last["advanced_to"] or last["difficulty"],
            "target_validation": last["target_validation"],
            "chance_token_accuracy": evaluation["chance_token_accuracy"],
            "mastered": mastered(history),
            "rows": evaluation["rows"],
            "kinds": _kinds(cell, evaluation),
            "samples": evaluation["samples"],
        }
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise WorkError(f"{folder} is no whole cell: {error}") from None


def _kinds(cell: Cell, evaluation: dict) -> list[dict]:
    """How each kind of program fares at the target, where an evaluation tells kinds apart."""
    target = (cell.flags["target_length"], cell.flags.get("target_nesting", 1))
    return [
        {"kind": str(entry[name]), **{key: entry[key] for key in ("num_examples", *METRICS)}}
        for breakdown, name in KINDS.items()
        for entry in evaluation.get(breakdown, [])
        if (entry["length"], entry["nesting"]) == target
    ]


def mastered(history: list[dict]) -> list[dict]:
    """The training examples seen when each difficulty was first mastered.

    Mastered is a difficulty whose validation token accuracy is above 0.95 after an epoch, whatever
    the strategy trains on at that time; it need not stay so. Very small difficulties are judged by
    training examples, as by the curriculum.

    Returns:
        One entry for each difficulty of a run with --validate_all_levels, `num_examples` None where
        it was never mastered; nothing for other runs.
    """
    found = {}
    for line in history:
        for level in line.get("levels", []):
            key = (level["length"], level["nesting"])
            if found.get(key) is None:
                accuracy = level["token_accuracy"] or 0.0
                found[key] = line["num_examples"] if accuracy > MASTERED else None
    return [
        {"length": length, "nesting": nesting, "num_examples": seen}
        for (length, nesting), seen in found.items()
    ]


def paths(result: dict, folder: Path) -> list[Path]:
    """Where `write` puts FIGURE.json, .csv, .png and .md."""
    return [folder / f"{result['figure']}.{kind}" for kind in ("json", "csv", "png", "md")]


def write(result: dict, folder: Path) -> list[Path]:
    """Writes the figure as JSON, CSV, PNG and Markdown; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_csv, as_png, as_markdown = paths(result, folder)
    write_json(as_json, result)
    write_atomically(as_csv, lambda path: path.write_text(format_csv(result)))
    report.save_figure(draw(result), as_png)
    write_atomically(as_markdown, lambda path: path.write_text(format_markdown(result)))
    return paths(result, folder)


def format_csv(result: dict) -> str:
    """One line for each cell and difficulty tested, with all that tells it from the others."""
    settings = ("strategy", "seed", "input_form", "optimizer", "learning_rate")
    settings += ("target_length", "target_nesting")
    header = ["cell", *settings, "length", "nesting"]
    header += ["num_training_examples", "num_test_examples", *RATES, "chance_token_accuracy"]
    header += ["mastered_after_examples"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cell in result["cells"]:
        seen = {(m["length"], m["nesting"]): m["num_examples"] for m in cell["mastered"]}
        for row in cell["rows"]:
            given = [cell["name"], *(cell[name] for name in settings)]
            tested = [row["length"], row["nesting"]]
            sizes = [cell["num_training_examples"], row["num_examples"]]
            rates = [*(row[name] for name in RATES), cell["chance_token_accuracy"]]
            after = seen.get((row["length"], row["nesting"]))
            writer.writerow([*given, *tested, *sizes, *rates, after])
    return text.getvalue()


# Cells by what is compared


def shown(result: dict) -> list[dict]:
    """The cells that the figure shows: not those that a learning rate is chosen by."""
    return [cell for cell in result["cells"] if not cell["choosing"]]


def strategies(result: dict) -> list[str]:
    """The strategies that occur, in the paper's order."""
    return [s for s in STRATEGIES if any(cell["strategy"] == s for cell in shown(result))]


def measured(
    result: dict, metric: str, length: int | None = None, nesting: int | None = None, **settings
) -> list[Measured]:
    """The rates of the cells with these settings, one a seed.

    Args:
        result: of `collect`.
        metric: a name in RATES.
        length, nesting: the difficulty tested; by default each cell's target.
        settings: values of cells, as strategy="mix".
    """
    found = []
    for cell in shown(result):
        if any(cell[name] != value for name, value in settings.items()):
            continue
        tested = (length or cell["target_length"], nesting or cell["target_nesting"])
        for row in cell["rows"]:
            if (row["length"], row["nesting"]) == tested:
                found.append(Measured(row[metric], row["num_examples"]))
    return found


def places(result: dict) -> dict[str, dict]:
    """Where strategies are compared: the name of each place -> the settings of its cells."""
    keys = {
        "addition": ("target_length",),
        "programs": ("target_length", "target_nesting"),
        "memorization": ("input_form",),
        "optimizers": ("optimizer",),
    }[result["figure"]]
    names = {"target_length": "length ", "target_nesting": "nesting "}
    found = {}
    for cell in shown(result):
        name = ", ".join(f"{names.get(key, '')}{cell[key]}" for key in keys)
        found[name] = {key: cell[key] for key in keys}
    return found


def seeds_spread(result: dict, metric: str) -> float | None:
    """The largest spread of seeds in the figure; None if no cell was run for two."""
    spreads = []
    for settings in places(result).values():
        for strategy in strategies(result):
            rates = [m.rate for m in measured(result, metric, strategy=strategy, **settings)]
            if len(rates) > 1:
                spreads.append(max(rates) - min(rates))
    return max(spreads, default=None)


def compare(result: dict, metric: str, first: dict, second: dict) -> Difference | None:
    """The difference of cells with two settings; None if either was not run."""
    sets = [measured(result, metric, **settings) for settings in (first, second)]
    if not all(sets):
        return None
    return difference(*sets, spread=seeds_spread(result, metric) or 0.0)


# Figures


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
    width = 0.8 / max(1, len(drawn))
    for i, place in enumerate(settings):
        for j, strategy in enumerate(drawn):
            found = measured(result, metric, strategy=strategy, **place)
            if not found:
                continue
            x = i + (j - (len(drawn) - 1) / 2) * width
            mean = _mean(found)
            axes.bar(x, mean, 0.92 * width, color=LOOKS[strategy][0])
            rates = [m.rate for m in found]
            if len(rates) > 1:
                axes.plot([x] * len(rates), rates, ".", color="0.1", markersize=3, zorder=3)
            report.write_value(axes, x, mean, max(rates))
        copied = measured(result, "answer_in_program", **place)
        if copied:
            axes.hlines(_mean(copied), i - 0.42, i + 0.42, "0.1", linewidth=1.3, zorder=3)
    _chance(axes, result, metric)
    report.share_axis(axes)
    axes.set(ylabel="share right, test", title=METRICS[metric])
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, max(0, len(names) - 1) + 0.6)


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
        for strategy, (colour, mark) in LOOKS.items()
        if strategy in strategies(result)
    ]
    if result["cells"]:
        chance = report.format_rate(result["cells"][0]["chance_token_accuracy"], 3)
        dotted = {"color": "0.1", "linewidth": 0.9, "linestyle": (0, (1, 1.5))}
        handles.append(Line2D([], [], label=f"chance token_accuracy: {chance}", **dotted))
    if marks:
        handles.append(Line2D([], [], linestyle="", label="copying the text: 1, by definition"))
    else:
        handles.append(Line2D([], [], color="0.1", linewidth=1.3, label="answer_in_program"))
        handles.append(
            Line2D([], [], color="0.1", marker=".", linestyle="", label="one seed (bar: the mean)")
        )
    columns = len(handles) if marks else 4
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
            text = text if found.real else f"({text})"
            ink = "white" if abs(found.value) > 0.27 else "0.1"
            report.write_near(axes, x + 0.5, y + 0.5, text, size, 0, va="center", color=ink)
            continue
        found = measured(result, metric, strategy=strategy, **place)
        if not found:
            continue
        grid[y][x] = _mean(found)
        copied = _mean(measured(result, "answer_in_program", strategy=strategy, **place))
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
    """One strategy's line over the tested lengths, the seeds' range as a band."""
    settings = {"strategy": strategy, "input_form": form}
    x, y, low, high = [], [], [], []
    for length in range(1, target + 1):
        if found := measured(result, metric, length=length, **settings):
            x.append(length)
            y.append(_mean(found))
            low.append(min(m.rate for m in found))
            high.append(max(m.rate for m in found))
    colour, mark = LOOKS[strategy]
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, y, color=colour, marker=mark, markersize=2.5, linewidth=1)


def _optimizers(result: dict) -> Figure:
    figure = report.new_figure(height=5.6)
    layout = figure.add_gridspec(2, 6, height_ratios=[1.1, 1])
    optimizers = [o for o in OPTIMIZERS if any(c["optimizer"] == o for c in shown(result))]
    target = max((cell["target_length"] for cell in shown(result)), default=1)
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
    note = "never"
    report.write_near(first, 0.6, total * 1.02, note, 6, rise=1, ha="left", color="0.35")
    for i, metric in enumerate(METRICS):
        axes = figure.add_subplot(layout[1, 3 * i : 3 * i + 3])
        _bars(axes, result, metric, [{"optimizer": o} for o in optimizers], optimizers)
        axes.set_title(axes.get_title(loc="left"), fontsize=7.5)
    _legend(figure, result)
    return figure


def _mastery_line(axes, result: dict, optimizer: str, strategy: str, total: int) -> None:
    """Examples until each number of digits is mastered; what never is stands above the total."""
    seen = {}
    for cell in shown(result):
        if (cell["optimizer"], cell["strategy"]) == (optimizer, strategy):
            for level in cell["mastered"]:
                seen.setdefault(level["length"], []).append(level["num_examples"])
    colour, mark = LOOKS[strategy]
    # Side by side, or equal marks would hide one another.
    shift = 0.12 * (list(LOOKS).index(strategy) - 1.5)
    line = []
    for length, numbers in sorted(seen.items()):
        reached = [number for number in numbers if number is not None]
        x = length + shift
        if len(reached) < len(numbers):
            axes.plot(x, 1.08 * total, marker=mark, color=colour, markersize=3, mfc="white")
        axes.plot([x] * len(reached), reached, color=colour, linewidth=0.8)
        if reached:
            line.append((x, sum(reached) / len(reached)))
    if line:
        axes.plot(*zip(*line, strict=True), color=colour, marker=mark, markersize=3, linewidth=1)


DRAWINGS = {
    "addition": _addition,
    "programs": _programs,
    "memorization": _memorization,
    "optimizers": _optimizers,
}


# Tables


def format_markdown(result: dict) -> str:
    """The figure as tables: rates, differences between strategies, and samples."""
    parts = [f"# {result['figure']}, budget {result['budget']}", _preface(result)]
    for metric, label in METRICS.items():
        parts += [f"## {label}", _rates_table(result, metric)]
        parts += [f"Differences in {metric}:", _differences_table(result, metric)]
        if result["figure"] in OTHER_PAIRS:
            parts.append(_other_differences_table(result, metric))
    if result["figure"] == "optimizers":
        parts += ["## Learning rates", _learning_rates_table(result)]
        parts += ["## Training examples until mastered", _mastery_table(result)]
    if any(cell["kinds"] for cell in shown(result)):
        parts += [f"## {METRICS['exact_match']} by {_kind_name(result)}", _kinds_table(result)]
    parts += ["## Samples", format_samples(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _preface(result: dict) -> str:
    at_most = "at most " if result["budget"] == "paper" else ""
    lines = [
        f"Every cell was trained on {at_most}{result['num_training_examples']:,} examples and "
        "tested on held-out ones at its target. Where there are two seeds, both are given.",
        "A difference is called one (**bold**) only where it is larger than the seeds' spread and "
        "the test set's sampling error (95%); else it stands in brackets.",
    ]
    for metric in METRICS:
        spread = seeds_spread(result, metric)
        said = "not measured" if spread is None else report.format_rate(spread, 3)
        lines.append(f"Largest spread of seeds in {metric}: {said}.")
    if result["missing"]:
        lines.append(f"{len(result['missing'])} cells are missing.")
    return " ".join(lines)


def _rates_table(result: dict, metric: str) -> str:
    drawn = strategies(result)
    header = [result["figure"], *drawn, "answer_in_program"]
    header += ["chance"] if metric == "token_accuracy" else []
    rows = []
    for name, settings in places(result).items():
        row = [name]
        for strategy in drawn:
            found = measured(result, metric, strategy=strategy, **settings)
            row.append(" / ".join(report.format_rate(m.rate, 3) for m in found))
        row.append(report.format_rate(_mean(measured(result, "answer_in_program", **settings)), 3))
        if metric == "token_accuracy":
            row.append(report.format_rate(result["cells"][0]["chance_token_accuracy"], 3))
        rows.append(row)
    return report.format_markdown(header, rows) if rows else ""


def _differences_table(result: dict, metric: str) -> str:
    """Strategies compared in pairs at each place."""
    header, rows = [result["figure"]], []
    pairs = [pair for pair in PAIRS if set(pair) <= set(strategies(result))]
    header += [f"{first} - {second}" for first, second in pairs]
    for name, settings in places(result).items():
        row = [name]
        for pair in pairs:
            first, second = ({"strategy": strategy, **settings} for strategy in pair)
            row.append(_format_difference(compare(result, metric, first, second)))
        rows.append(row)
    return report.format_markdown(header, rows) if rows and pairs else ""


def _other_differences_table(result: dict, metric: str) -> str:
    """Input forms or optimizers compared in pairs within each strategy."""
    pairs = OTHER_PAIRS[result["figure"]]
    header = ["strategy", *(f"{first} - {second}" for _, first, second in pairs)]
    rows = []
    for strategy in strategies(result):
        row = [strategy]
        for key, *names in pairs:
            first, second = ({"strategy": strategy, key: name} for name in names)
            row.append(_format_difference(compare(result, metric, first, second)))
        rows.append(row)
    return report.format_markdown(header, rows) if rows else ""


def _format_difference(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"**{found.value:+.3f}**" if found.real else f"({found.value:+.3f})"


def _learning_rates_table(result: dict) -> str:
    rows = []
    for cell in result["cells"]:
        if cell["choosing"]:
            chosen = result["learning_rates"].get(cell["optimizer"]) == cell["learning_rate"]
            score = cell["target_validation"]
            rates = (report.format_rate(score[metric] or 0.0, 3) for metric in METRICS)
            rate = f"{cell['learning_rate']:g}"
            rows.append([cell["optimizer"], rate, *rates, "chosen" if chosen else ""])
    header = ["optimizer", "learning rate", *(f"validation {metric}" for metric in METRICS), ""]
    return report.format_markdown(header, rows) if rows else ""


def _mastery_table(result: dict) -> str:
    rows = []
    lengths = sorted({m["length"] for cell in shown(result) for m in cell["mastered"]})
    for optimizer, strategy in itertools.product(OPTIMIZERS, strategies(result)):
        same = [
            {m["length"]: m["num_examples"] for m in cell["mastered"]}
            for cell in shown(result)
            if (cell["optimizer"], cell["strategy"]) == (optimizer, strategy)
        ]
        if same:
            row = [optimizer, strategy]
            for length in lengths:
                numbers = [seen.get(length) for seen in same]
                row.append(" / ".join("never" if n is None else f"{n:,}" for n in numbers))
            rows.append(row)
    header = ["optimizer", "strategy", *(f"{length} digits" for length in lengths)]
    return report.format_markdown(header, rows) if rows else ""


def _kind_name(result: dict) -> str:
    tasks = {cell["task"] for cell in shown(result)}
    return "operation" if "program" in tasks else "longest carry chain (digits)"


def _kinds_table(result: dict) -> str:
    """Which kinds of programs fail: a line for each place and strategy, seeds taken together."""
    kinds = {entry["kind"] for cell in shown(result) for entry in cell["kinds"]}
    columns = sorted(kinds, key=lambda kind: (len(kind) if kind.isdigit() else 0, kind))
    rows = []
    for name, settings in places(result).items():
        for strategy in strategies(result):
            entries = [
                entry
                for cell in shown(result)
                if all(cell[k] == v for k, v in {**settings, "strategy": strategy}.items())
                for entry in cell["kinds"]
            ]
            row = [name, strategy]
            for kind in columns:
                same = [entry for entry in entries if entry["kind"] == kind]
                total = sum(entry["num_examples"] for entry in same)
                right = sum(entry["num_examples"] * entry["exact_match"] for entry in same)
                row.append(report.format_rate(right / total, 3) if total else "")
            if entries:
                rows.append(row)
    return report.format_markdown([result["figure"], "strategy", *columns], rows)


def format_samples(result: dict) -> str:
    """The same held-out examples as each strategy answers them, wrong characters marked.

    A table for each place, of its target difficulty, first seed: the paper's appendix.
    """
    parts = []
    for name, settings in places(result).items():
        answers = {}
        for cell in shown(result):
            if all(cell[key] == value for key, value in settings.items()):
                for sample in cell["samples"]:
                    tested = (sample["length"], sample["nesting"])
                    if tested == (cell["target_length"], cell["target_nesting"]):
                        key = (sample["program"], sample["target"])
                        answers.setdefault(key, {}).setdefault(cell["strategy"], sample["output"])
        drawn = [s for s in strategies(result) if any(s in given for given in answers.values())]
        # Seeds have samples of their own: those that most strategies answered are shown.
        best = sorted(answers.items(), key=lambda item: -len(item[1]))[:SAMPLES_SHOWN]
        rows = [
            [_code(program), _code(target)]
            + [mark_wrong(target, given[s]) if s in given else "" for s in drawn]
            for (program, target), given in best
        ]
        if rows:
            parts.append(f"**{name}**")
            parts.append(report.format_markdown(["input", "target", *drawn], rows))
    return "\n\n".join(parts)


def mark_wrong(target: str, output: str) -> str:
    """An answer as Markdown, wrong characters struck out, missing ones as a dot each.

    >>> mark_wrong("12184", "12084")
    '`12`~~`0`~~`84`'
    >>> mark_wrong("5", "5"), mark_wrong("25011", "250")
    ('`5`', '`250`~~`··`~~')
    """
    padded = output.ljust(len(target), "·")
    pairs = itertools.zip_longest(padded, target)
    parts = []
    for right, group in itertools.groupby(pairs, key=lambda pair: pair[0] == pair[1]):
        text = _code("".join(character for character, _ in group))
        parts.append(text if right else f"~~{text}~~")
    return "".join(parts)


def _code(text: str) -> str:
    """A text as Markdown code in one table cell; pipes do not occur in programs."""
    return "<br>".join(f"`{line}`" if line else "" for line in text.split("\n"))
