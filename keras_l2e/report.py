"""Plots and tables from the JSON files the entry points leave.

    >>> print(format_samples(read_evaluation("w/evaluation.json"), count=1))
    length 5
      program  print(60494+65125)
      target   125619
      output   125619  CORRECT

`token_accuracy` is teacher-forced and `exact_match` free-running; they are orange and blue in every
figure and never share a name. No rate is rounded to 1 or 0 unless it is exactly that.
"""

import contextlib
import itertools
import json
import math
import os
import reprlib
from operator import itemgetter
from pathlib import Path

import matplotlib
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, MultipleLocator, NullFormatter

# Okabe and Ito's colours, distinct for colour-blind readers; the pale ones are tints of them.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"
PALE = {BLUE: "#8CC3E3", ORANGE: "#F5CE7A"}
COLOUR_MAP = "YlGnBu"
HALO = [patheffects.withStroke(linewidth=2.2, foreground="white")]

WIDTH = 7.2  # inches: a page's text width
DPI = 200
MAX_BARS_WITH_VALUES = 10  # more lengths than this leave no room for numbers above the bars
MAX_BARS_IN_PAIRS = 20  # more lengths than this leave stripes: one bar is drawn before the other
MAX_STEPS_WITH_LINES = 80  # more steps than this would grey the panel; only labelled ones are drawn
MAX_STRONG_LINES = 12  # nesting changes more often than this are marked like any other step

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": "0.35",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "grid.color": "0.92",
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "xtick.color": "0.35",
    "xtick.labelcolor": "0.1",
    "ytick.color": "0.35",
    "ytick.labelcolor": "0.1",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}

BREAKDOWNS = {
    "by_operation": ("operation", "operation"),
    "by_carry_chain": ("carry_chain", "longest carry chain (digits)"),
}
METRICS = {
    "exact_match": (BLUE, "exact_match (free-running)"),
    "token_accuracy": (ORANGE, "token_accuracy (teacher-forced)"),
}


def plot_learning_curve(history: list[dict], path) -> None:
    """Draws what a run learnt against the training examples it had seen, as a PNG.

    Above: `token_accuracy` and `exact_match` at the target and at the current difficulty; below:
    the training loss. Vertical lines mark where the curriculum moved. None is skipped.

    Args:
        history: the lines of `history.jsonl`, oldest first; at least one.
        path: where the PNG goes.
    """
    _save(_learning_curve(history), path)


def plot_evaluation(evaluation: dict, path) -> None:
    """Draws an evaluation as a PNG: bars by length, or length x nesting heat maps.

    Args:
        evaluation: the content of `evaluation.json`. With a single nesting the figure has bars,
            with several it has two heat maps on the fixed scale 0..1.
        path: where the PNG goes.
    """
    rows = _all_rows(evaluation)
    several = len({row["nesting"] for row, _ in rows}) > 1
    _save(_heat_maps(evaluation) if several else _length_bars(evaluation), path)


def plot_breakdown(evaluation: dict, path) -> bool:
    """Draws `exact_match` by operation or by carry-chain length as a PNG.

    Returns:
        Whether there was anything to draw; if not, no file is written.
    """
    figure = _breakdown(evaluation)
    if figure is None:
        return False
    _save(figure, path)
    return True


def format_table(evaluation: dict) -> str:
    """The evaluation as aligned plain text: a row per difficulty, chance, then the breakdowns.

    A breakdown shows the hardest trained difficulty and all together, where it can: rates over
    examples can be pooled, `token_accuracy` cannot, for its positions are not counted there.
    """
    return _join_tables(evaluation, _plain_table, "{}")


def format_markdown_table(evaluation: dict) -> str:
    """The tables of `format_table` as Markdown."""
    return _join_tables(evaluation, _markdown_table, "**{}**")


def format_samples(evaluation: dict, count: int = 10) -> str:
    """Decoded samples: the program, its target, the output and CORRECT or WRONG.

    Args:
        evaluation: the content of `evaluation.json`.
        count: at most so many, spread evenly over the samples so that all difficulties show.
    """
    samples = evaluation.get("samples") or []
    if count < 0:
        raise ValueError(f"count {count} is out of range; allowed 0 and more")
    if 1 < count < len(samples):
        samples = [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]
    return "\n\n".join(_sample(sample) for sample in samples[:count])


def read_history(path) -> list[dict]:
    """The lines of a `history.jsonl`.

    Raises:
        ValueError: names the file, the line and what is wrong with it.
    """
    history = []
    for number, line in enumerate(_read(path).removesuffix("\n").split("\n"), start=1):
        where = f"{path}, line {number}"
        epoch = _parse(line, path, first_line=number)
        _check(epoch, _EPOCH, where)
        _check(epoch["difficulty"], _DIFFICULTY, f"{where}, difficulty")
        for split in ("validation", "target_validation"):
            if epoch[split] is not None:
                _check(epoch[split], _RATES, f"{where}, {split}")
        history.append(epoch)
    return history


def read_evaluation(path) -> dict:
    """The content of an `evaluation.json`.

    Raises:
        ValueError: names the file, the line or the entry, and what is wrong with it.
    """
    evaluation = _parse(_read(path), path)
    _check(evaluation, _EVALUATION, path)
    for name, fields in _ENTRIES.items():
        if name in evaluation:
            _check(evaluation, {name: _LIST_OR_NULL}, path)
        for i, entry in enumerate(evaluation.get(name) or []):
            _check(entry, fields, f"{path}, {name}[{i}]")
    return evaluation


# Reading


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What a field has to be, in words and as a test.
_COUNT = ("a whole number", lambda v: type(v) is int and v >= 0)
_NUMBER = ("a number or null", lambda v: v is None or _is_number(v))
# A float32 mean of ones may exceed 1 in its last bit.
_RATE = ("a rate from 0 to 1 or null", lambda v: v is None or (_is_number(v) and 0 <= v < 1.00001))
_TEXT = ("a text", lambda v: isinstance(v, str))
_TRUTH = ("true or false", lambda v: isinstance(v, bool))
_OBJECT = ("an object", lambda v: isinstance(v, dict))
_OBJECT_OR_NULL = ("an object or null", lambda v: v is None or isinstance(v, dict))
_LIST = ("a list with at least one entry", lambda v: isinstance(v, list) and len(v) > 0)
_LIST_OR_NULL = ("a list or null", lambda v: v is None or isinstance(v, list))

_DIFFICULTY = {"length": _COUNT, "nesting": _COUNT}
_RATES = {"token_accuracy": _RATE, "exact_match": _RATE}
_EPOCH = {
    "num_examples": _COUNT,
    "difficulty": _OBJECT,
    "loss": _NUMBER,
    "validation": _OBJECT_OR_NULL,
    "target_validation": _OBJECT_OR_NULL,
}
_EVALUATION = {"task": _TEXT, "rows": _LIST}
_COUNTED = {"length": _COUNT, "num_examples": _COUNT, "exact_match": _RATE}
_ROW = {
    **_COUNTED,
    **{"nesting": _COUNT, "token_accuracy": _RATE},
    **{"free_token_accuracy": _RATE, "answer_in_program": _RATE},
}
_ENTRIES = {
    "rows": _ROW,
    "beyond_training": _ROW,
    "by_operation": {**_COUNTED, "nesting": _COUNT, "operation": _TEXT},
    "by_carry_chain": {**_COUNTED, "carry_chain": _COUNT},
    "samples": {
        **_DIFFICULTY,
        **{"program": _TEXT, "target": _TEXT, "output": _TEXT, "correct": _TRUTH},
    },
}


def _read(path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text at byte {error.start}") from None


def _parse(text: str, path, first_line: int = 1):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        problem = f"no JSON ({error.msg}, column {error.colno})"
        raise ValueError(f"{path}, line {line}: {problem}") from None


def _check(record, fields: dict, where) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {reprlib.repr(record)} is not an object")
    for name, (expected, holds) in fields.items():
        if name not in record:
            raise ValueError(f"{where}: lacks {name!r}, {expected}")
        if not holds(record[name]):
            raise ValueError(f"{where}: {name} is {reprlib.repr(record[name])}, not {expected}")


# Figures


def _new_figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


@matplotlib.rc_context(STYLE)
def _save(figure: Figure, path) -> None:
    """Writes a PNG whole or not at all; equal figures give equal bytes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@matplotlib.rc_context(STYLE)
def _learning_curve(history: list[dict]) -> Figure:
    if not history:
        raise ValueError("the history has no epoch")
    figure = _new_figure(height=4.7)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[5, 2])

    target, current = (
        {name: _curve(history, split, name) for name in METRICS}
        for split in ("target_validation", "validation")
    )
    for name, (colour, label) in METRICS.items():
        # Without a curriculum the current difficulty is the target from the first epoch on.
        if current != target:
            _draw_curve(
                upper,
                current[name],
                color=PALE[colour],
                linewidth=1.0,
                label=f"{label}, current difficulty",
            )
        _draw_curve(
            upper,
            target[name],
            color=colour,
            linewidth=1.8,
            label=f"{label}, target difficulty",
            zorder=3,
        )
    upper.set(ylim=(-0.02, 1.02), ylabel="share right, validation")
    upper.yaxis.set_major_locator(MultipleLocator(0.2))
    upper.grid(axis="y")

    losses = [(epoch["num_examples"], epoch["loss"]) for epoch in history]
    losses = [(x, y) for x, y in losses if y is not None and math.isfinite(y)]
    _draw_curve(lower, [losses], color=GREEN, linewidth=1.3)
    if losses and min(y for _, y in losses) > 0:
        lower.set_yscale("log")
        low, high = lower.get_ylim()
        lower.yaxis.set_major_formatter("{x:g}")
        # Between powers of ten a short axis would bear one label or none.
        lower.yaxis.set_minor_formatter(
            FuncFormatter(_two_and_five) if high / low < 1000 else NullFormatter()
        )
    lower.set(ylabel="training loss (nats)", xlabel="training examples seen")
    lower.grid(axis="y")
    lower.xaxis.set_major_formatter(EngFormatter(sep=""))
    lower.set_xlim(0, max(1, max(epoch["num_examples"] for epoch in history) * 1.015))

    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.align_ylabels()
    _mark_steps(figure, upper, lower, _steps(history))
    return figure


def _two_and_five(value: float, _) -> str:
    leading = round(value / 10 ** math.floor(math.log10(value) + 1e-9))
    return f"{value:g}" if leading in (2, 5) else ""


def _curve(history: list[dict], split: str, name: str) -> list[list[tuple[int, float]]]:
    """(examples seen, rate) in one list a stage.

    A stage ends where the difficulty on which the rate is measured changes, so that no line joins
    rates of unlike difficulties. At the target difficulty there is one stage.
    """
    stages = []
    stage_difficulty = None
    for epoch in history:
        difficulty = epoch["difficulty"] if split == "validation" else "target"
        if difficulty != stage_difficulty:
            stages.append([])
            stage_difficulty = difficulty
        rate = (epoch[split] or {}).get(name)
        if rate is not None:
            stages[-1].append((epoch["num_examples"], rate))
    return stages


def _draw_curve(axes, stages: list[list[tuple[int, float]]], **style) -> None:
    points = []
    for stage in stages:
        points += [*stage, (math.nan, math.nan)]
    # A short curve shows its points; in a long one those that stand alone would be lost.
    starts = itertools.accumulate((len(stage) + 1 for stage in stages), initial=0)
    alone = [i for i, stage in zip(starts, stages, strict=False) if len(stage) == 1]
    if len(points) <= 30:
        style |= {"marker": "o"}
    elif alone:
        style |= {"marker": "o", "markevery": alone}
    axes.plot(*zip(*points, strict=True), markersize=1.5 + style["linewidth"], **style)


def _steps(history: list[dict]) -> list[tuple[int, int, int]]:
    """(examples seen, length, nesting) where each new difficulty begins; the first begins at 0."""
    steps = []
    seen = 0
    for epoch in history:
        difficulty = (epoch["difficulty"]["length"], epoch["difficulty"]["nesting"])
        if not steps or difficulty != steps[-1][1:]:
            steps.append((seen, *difficulty))
        seen = epoch["num_examples"]
    return steps


def _mark_steps(figure: Figure, upper, lower, steps: list[tuple[int, int, int]]) -> None:
    """Marks difficulty steps by vertical lines, labelled above as far as labels do not collide."""
    nestings = [nesting for _, _, nesting in steps]
    if len(steps) == 1:
        _, length, nesting = steps[0]
        upper.set_title(f"difficulty: {_difficulty(length, nesting)}", fontsize=7, color="0.35")
        return
    several = len(set(nestings)) > 1
    new_nesting = {i for i in range(1, len(steps)) if nestings[i] != nestings[i - 1]}
    upper.set_title(
        "current difficulty: length (digits)"
        + (f", nesting {nestings[0]}" if not several and nestings[0] > 1 else ""),
        fontsize=7,
        color="0.35",
        pad=27 if several else 16,
    )
    above = {"xycoords": upper.get_xaxis_transform(), "va": "bottom"}
    inner = {
        i: _text(upper, x, 1, str(length), size=7, rise=3, **above)
        for i, (x, length, _) in enumerate(steps)
    }
    outer = {
        i: _text(upper, steps[i][0], 1, f"nesting {nestings[i]}", 7, rise=14, ha="left", **above)
        for i in sorted({0} | new_nesting)
        if several
    }
    figure.draw_without_rendering()
    # The ends matter most, then where the nesting changes; of the others every one is labelled, or
    # every second, ... until most of the labels meant to be there have room.
    anchors = [0, len(steps) - 1, *sorted(new_nesting)]
    for stride in (1, 2, 5, 10, 20, 50):
        others = [i for i in inner if i not in anchors and steps[i][1] % stride == 0]
        wanted = list(dict.fromkeys(anchors + others))
        kept = _without_collisions(inner, wanted, gap=2)
        if len(kept) >= 0.7 * len(wanted):
            break
    kept_outer = _without_collisions(outer, list(outer), gap=6)
    for labels, stay in ((inner, kept), (outer, kept_outer)):
        for i in set(labels) - stay:
            labels[i].remove()
    for i, (x, _, _) in enumerate(steps):
        if len(steps) <= MAX_STEPS_WITH_LINES or i in kept:
            strong = i in new_nesting and len(new_nesting) <= MAX_STRONG_LINES
            for axes in (upper, lower):
                axes.axvline(
                    x,
                    color="0.6" if strong else "0.87",
                    linewidth=0.8 if strong else 0.6,
                    zorder=0.5,
                )


def _without_collisions(labels: dict, order: list[int], gap: float) -> set[int]:
    """The keys of the labels to keep: each clears all those kept before it by `gap` pixels."""
    kept = {}
    for key in order:
        box = labels[key].get_window_extent()
        if not any(box.x0 - gap < x1 and x0 < box.x1 + gap for x0, x1 in kept.values()):
            kept[key] = (box.x0, box.x1)
    return set(kept)


def _all_rows(evaluation: dict) -> list[tuple[dict, bool]]:
    """(row, whether it lies beyond training), by nesting and length."""
    rows = [(row, False) for row in evaluation["rows"]]
    rows += [(row, True) for row in evaluation.get("beyond_training") or []]
    return sorted(rows, key=lambda pair: (pair[0]["nesting"], pair[0]["length"]))


@matplotlib.rc_context(STYLE)
def _length_bars(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    figure = _new_figure(height=3.5)
    axes = figure.subplots()
    figure.suptitle(_describe(evaluation), x=0.01, ha="left")
    for i, (_, beyond) in enumerate(rows):
        if beyond:
            axes.axvspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=0)
    in_pairs = len(rows) <= MAX_BARS_IN_PAIRS
    # Unpaired, token_accuracy goes behind: an answer right as a whole has every character right, so
    # among answers of about one length it is the higher of the two.
    for name, offset in (("token_accuracy", 0.2), ("exact_match", -0.2)):
        colour, _ = METRICS[name]
        for i, (row, beyond) in enumerate(rows):
            if row[name] is None:
                continue
            x = i + offset if in_pairs else i
            _bar(axes, x, row[name], 0.4 if in_pairs else 0.84, colour, beyond)
            if len(rows) <= MAX_BARS_WITH_VALUES:
                value = _short_rate(row[name], 3)
                _text(axes, x, row[name], value, 5.9, rise=2, va="bottom", path_effects=HALO)
    _copy_marks(axes, [row.get("answer_in_program") for row, _ in rows])

    handles = [Patch(facecolor=colour, label=label) for colour, label in METRICS.values()]
    if not in_pairs:
        handles[1].set_label(f"{handles[1].get_label()}, behind")
    handles.append(_copy_handle())
    chance = evaluation.get("chance_token_accuracy")
    if chance is not None:
        style = {"color": BLACK, "linewidth": 0.9, "linestyle": (0, (1, 1.5))}
        axes.axhline(chance, **style)
        handles.append(Line2D([], [], label=f"chance token_accuracy: {_rate(chance, 3)}", **style))
    if any(beyond for _, beyond in rows):
        handles.append(
            Patch(facecolor=PALE[BLUE], edgecolor=BLUE, hatch="/////", label="beyond training")
        )
    nesting = rows[0][0]["nesting"]
    axes.set(
        ylim=(0, 1.09 if len(rows) <= MAX_BARS_WITH_VALUES else 1.03),
        ylabel=f"share right ({_counts(rows)})",
        xlabel="length (digits)" + (f", nesting {nesting}" if nesting > 1 else ""),
    )
    _share_axis(axes)
    _categories(axes, [row["length"] for row, _ in rows])
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _bar(axes, x: float, height: float, width: float, colour: str, beyond: bool) -> None:
    style = {"facecolor": colour, "edgecolor": "white", "linewidth": 0.4}
    if beyond:
        style = {"facecolor": PALE[colour], "edgecolor": colour, "linewidth": 0.5, "hatch": "/////"}
    axes.bar(x, height, width, **style)


def _copy_marks(axes, rates: list[float | None]) -> None:
    """A short line across each place, edged in white so that it shows on every colour."""
    for linewidth, colour in ((2.4, "white"), (1.3, BLACK)):
        axes.hlines(
            [rate for rate in rates if rate is not None],
            [i - 0.42 for i, rate in enumerate(rates) if rate is not None],
            [i + 0.42 for i, rate in enumerate(rates) if rate is not None],
            color=colour,
            linewidth=linewidth,
            clip_on=False,
            zorder=3,
        )


def _copy_handle() -> Line2D:
    label = "answer_in_program (the text holds the answer)"
    return Line2D([], [], color=BLACK, linewidth=1.3, label=label)


def _share_axis(axes) -> None:
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(axis="y")


def _categories(axes, names: list) -> None:
    """One place a name on the x axis; of many numbers only the round ones are written."""
    stride = next(s for s in (1, 2, 5, 10, 20) if len(names) <= 28 * s)
    places = [i for i, name in enumerate(names) if stride == 1 or name % stride == 0]
    axes.set_xticks(places, [str(names[i]) for i in places])
    axes.tick_params(axis="x", length=0 if stride == 1 else 3)
    # Few bars keep their width: without room beside it a single one would fill the page.
    margin = max(0.5, (5 - len(names)) / 2)
    axes.set_xlim(-margin, len(names) - 1 + margin)


def _describe(evaluation: dict) -> str:
    forms = (("split", "{} split"), ("input_form", "input form {}"), ("seed", "seed {}"))
    known = [form.format(evaluation[name]) for name, form in forms if name in evaluation]
    return ", ".join([evaluation["task"], *known])


def _difficulty(length: int, nesting: int) -> str:
    return f"length {length}" + (f", nesting {nesting}" if nesting > 1 else "")


def _counts(rows: list[tuple[dict, bool]]) -> str:
    counts = sorted({row["num_examples"] for row, _ in rows})
    few = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"{few} examples each"


@matplotlib.rc_context(STYLE)
def _heat_maps(evaluation: dict) -> Figure:
    rows = _all_rows(evaluation)
    lengths = sorted({row["length"] for row, _ in rows})
    nestings = sorted({row["nesting"] for row, _ in rows})
    side_by_side = len(lengths) <= 5
    panel_height = len(nestings) * (0.6 if side_by_side and len(nestings) < 4 else 0.42) + 0.3
    figure = _new_figure(height=1.05 + panel_height * (1 if side_by_side else 2))
    shape = (1, 2) if side_by_side else (2, 1)
    panels = figure.subplots(*shape, sharex=True, sharey=True)
    figure.suptitle(_describe(evaluation), x=0.01, ha="left")
    chance = evaluation.get("chance_token_accuracy")
    for axes, (name, (_, title)) in zip(panels, METRICS.items(), strict=True):
        image = _heat_map(axes, rows, name, lengths, nestings)
        if name == "token_accuracy" and chance is not None:
            title += f", chance {_rate(chance, 3)}"
        axes.set_title(title)
    for axes in panels if side_by_side else panels[-1:]:
        axes.set_xlabel("length (digits)")
    for axes in panels[:1] if side_by_side else panels:
        axes.set_ylabel("nesting (operations)")
    bar = figure.colorbar(image, ax=panels, fraction=0.04, pad=0.015, aspect=30)
    bar.set_label("share right")
    bar.outline.set_visible(False)
    note = f"{_counts(rows)}; small: answer_in_program, how often the text holds the answer"
    if any(beyond for _, beyond in rows):
        note += "; dashed: beyond training"
    figure.supxlabel(note, fontsize=7, color="0.35")
    return figure


def _heat_map(axes, rows, name: str, lengths: list[int], nestings: list[int]):
    grid = [[math.nan] * len(lengths) for _ in nestings]
    for row, beyond in rows:
        if row[name] is None:
            continue
        x, y = lengths.index(row["length"]), nestings.index(row["nesting"])
        grid[y][x] = row[name]
        ink = "white" if row[name] > 0.6 else "0.1"
        small = row.get("answer_in_program")
        rise = 0 if small is None else 3
        _text(axes, x, y, _short_rate(row[name], 3), 8, rise, color=ink, va="center")
        if small is not None:
            _text(axes, x, y, _short_rate(small, 2), 6.2, rise=-7, color=ink, va="center")
        if beyond:
            corner = (x - 0.44, y - 0.43)
            frame = {"edgecolor": ink, "linewidth": 0.8, "linestyle": (0, (3, 2))}
            axes.add_patch(Rectangle(corner, 0.88, 0.86, fill=False, **frame))
    image = axes.imshow(grid, cmap=COLOUR_MAP, vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(range(len(lengths)), map(str, lengths))
    axes.set_yticks(range(len(nestings)), map(str, nestings))
    # The minor grid is the white gap between the cells.
    axes.set_xticks([i - 0.5 for i in range(1, len(lengths))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(nestings))], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return image


def _text(axes, x: float, y: float, text: str, size: float, rise: float, **style):
    """Writes a text `rise` points above the place (x, y)."""
    style = {"ha": "center", "color": "0.2", "zorder": 4, **style}
    return axes.annotate(
        text, (x, y), xytext=(0, rise), textcoords="offset points", fontsize=size, **style
    )


@matplotlib.rc_context(STYLE)
def _breakdown(evaluation: dict) -> Figure | None:
    breakdown = _breakdown_groups(evaluation)
    if breakdown is None:
        return None
    kind, groups = breakdown
    figure = _new_figure(height=1.0 + 1.9 * len(groups))
    panels = figure.subplots(len(groups), squeeze=False)[:, 0]
    figure.suptitle(_describe(evaluation), x=0.01, ha="left")
    names = [entry["name"] for entry in groups[-1][1]]
    for axes, (title, entries) in zip(panels, groups, strict=True):
        for entry in entries:
            if entry["exact_match"] is not None:
                x = names.index(entry["name"])
                top = _bar_with_interval(axes, x, entry)
                if len(names) <= MAX_BARS_WITH_VALUES:
                    value = _short_rate(entry["exact_match"], 3)
                    _text(axes, x, top, value, 6.2, rise=2, va="bottom", path_effects=HALO)
        copied = {entry["name"]: entry["answer_in_program"] for entry in entries}
        _copy_marks(axes, [copied.get(name) for name in names])
        axes.set(ylim=(0, 1.1), ylabel="share right", title=title)
        _share_axis(axes)
        _categories(axes, names)
    panels[-1].set_xlabel(BREAKDOWNS[kind][1])
    colour, label = METRICS["exact_match"]
    handles = [Patch(facecolor=colour, label=f"{label} and its 95% interval"), _copy_handle()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _bar_with_interval(axes, x: int, entry: dict) -> float:
    """Draws a bar and returns where its interval ends."""
    rate = entry["exact_match"]
    low, high = _wilson(rate, entry["num_examples"])
    axes.bar(x, rate, 0.6, color=METRICS["exact_match"][0])
    # An edge in white keeps the black line visible on the bar.
    axes.vlines(x, low, high, color="white", linewidth=2.6, zorder=3)
    axes.vlines(x, low, high, color="0.1", linewidth=1.2, zorder=3)
    return high


def _breakdown_groups(evaluation: dict):
    """The breakdown's kind and its groups: the hardest trained difficulty, then all together.

    Returns:
        (a key of BREAKDOWNS, [(title, entries)]), an entry being name, num_examples, exact_match
        and answer_in_program; None where the evaluation has no breakdown.
    """
    trained = {(row["nesting"], row["length"]) for row in evaluation["rows"]}
    for key, (field, _) in BREAKDOWNS.items():
        found = [
            ((entry.get("nesting", 1), entry["length"]), {**entry, "name": entry[field]})
            for entry in evaluation.get(key) or []
        ]
        found = [pair for pair in found if pair[0] in trained]
        if not found:
            continue
        hardest = max(difficulty for difficulty, _ in found)
        groups = [
            (
                f"hardest trained difficulty: {_difficulty(hardest[1], hardest[0])}",
                _pool(entry for difficulty, entry in found if difficulty == hardest),
            )
        ]
        if len({difficulty for difficulty, _ in found}) > 1:
            groups.append(("all trained difficulties", _pool(entry for _, entry in found)))
        return key, groups
    return None


def _pool(entries) -> list[dict]:
    """One entry a name; rates over examples are averaged with the numbers of examples."""
    by_name: dict = {}
    for entry in entries:
        by_name.setdefault(entry["name"], []).append(entry)
    pooled = []
    for name, same in by_name.items():
        result = {"name": name, "num_examples": sum(entry["num_examples"] for entry in same)}
        for rate in ("exact_match", "answer_in_program"):
            known = [entry for entry in same if entry.get(rate) is not None]
            total = sum(entry["num_examples"] for entry in known)
            result[rate] = (
                sum(entry[rate] * entry["num_examples"] for entry in known) / total
                if total
                else None
            )
        pooled.append(result)
    # Operations keep the order in which they came.
    return pooled if isinstance(pooled[0]["name"], str) else sorted(pooled, key=itemgetter("name"))


def _wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (95% for z = 1.96) of a rate that `count` examples gave."""
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return centre - half, centre + half


# Tables


def _rate(value: float | None, decimals: int) -> str:
    """A rate in fixed decimals that reads 1 or 0 only if it is.

    >>> [_rate(value, 2) for value in (None, 0.0, 0.004, 0.5, 0.999, 1.0)]
    ['-', '0.00', '<0.01', '0.50', '>0.99', '1.00']
    """
    if value is None:
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 1 and value < 1:
        return f">{1 - 10**-decimals:.{decimals}f}"
    if float(text) == 0 and value > 0:
        return f"<{10**-decimals:.{decimals}f}"
    return text


def _short_rate(value: float, decimals: int) -> str:
    """`_rate` for narrow places: 0.5 is .500, and exactly 1 and 0 are written so."""
    return str(int(value)) if value in (0, 1) else _rate(value, decimals).replace("0.", ".")


def _join_tables(evaluation: dict, render, heading: str) -> str:
    parts = [heading.format(_describe(evaluation))]
    parts.append(render(*_main_table(evaluation)))
    chance = evaluation.get("chance_token_accuracy")
    if chance is not None:
        parts.append(f"chance token_accuracy: {_rate(chance, 4)}")
    breakdown = _breakdown_groups(evaluation)
    if breakdown is not None:
        key, groups = breakdown
        for title, entries in groups:
            parts.append(heading.format(f"{key}, {title}"))
            parts.append(render(*_breakdown_table(BREAKDOWNS[key][0], entries)))
    return "\n\n".join(parts)


def _main_table(evaluation: dict) -> tuple[list[str], list[list[str]]]:
    header = [
        "length",
        "nesting",
        "examples",
        "token_accuracy\n(teacher-forced)",
        "exact_match\n(free-running)",
        "free_token_accuracy",
        "answer_in_program",
    ]
    rows = []
    for note, key in (("", "rows"), ("beyond training", "beyond_training")):
        for row in evaluation.get(key) or []:
            rates = ("token_accuracy", "exact_match", "free_token_accuracy", "answer_in_program")
            rows.append(
                [str(row["length"]), str(row["nesting"]), str(row["num_examples"])]
                + [_rate(row.get(name), 4) for name in rates]
                + [note]
            )
    if evaluation.get("beyond_training"):
        return [*header, ""], rows
    return header, [row[:-1] for row in rows]


def _breakdown_table(field: str, entries: list[dict]) -> tuple[list[str], list[list[str]]]:
    header = [field, "examples", "exact_match\n(free-running)", "answer_in_program"]
    rows = [
        [
            str(entry["name"]),
            str(entry["num_examples"]),
            _rate(entry["exact_match"], 4),
            _rate(entry["answer_in_program"], 4),
        ]
        for entry in entries
    ]
    return header, rows


def _plain_table(header: list[str], rows: list[list[str]]) -> str:
    names = [["", *name.split("\n")][-2:] for name in header]
    lines = [*zip(*names, strict=True), *rows]
    columns = []
    for column in zip(*lines, strict=True):
        width = max(map(len, column))
        pad = str.ljust if _is_text(column[2:]) else str.rjust
        columns.append([pad(cell, width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _markdown_table(header: list[str], rows: list[list[str]]) -> str:
    names = [name.replace("\n", " ") for name in header]
    sides = ["---" if _is_text(column) else "---:" for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, sides, *rows))


def _is_text(column) -> bool:
    return any(cell[:1].isalpha() for cell in column)


def _sample(sample: dict) -> str:
    difficulty = f"length {sample['length']}"
    if sample["nesting"] > 1:
        difficulty += f", nesting {sample['nesting']}"
    # A model may write any character, newlines among them.
    output = sample["output"].replace("\n", "\\n")
    program = sample["program"].replace("\n", "\n           ")
    return "\n".join(
        [
            difficulty,
            f"  program  {program}",
            f"  target   {sample['target']}",
            f"  output   {output}  {'CORRECT' if sample['correct'] else 'WRONG'}",
        ]
    )
