"""The figure `teachers`: what each teacher came to, and how it shared out what it taught.

result = comparisons.collect("teachers", "cpu", Path("W/teachers"))
markdown(result), draw(result)
"""

import pandas as pd
from matplotlib.figure import Figure

from keras_l2e.paper.comparisons import (
    Measured,
    by_place,
    compare,
    entries,
    seed_sets,
    seeds_spread,
)
from keras_l2e.paper.tables import format_difference
from keras_l2e.plots import colour_bar, heat_map, new_figure
from keras_l2e.tables import format_markdown, format_rate

# What every teacher is compared with: ours, and the control.
REFERENCES = ("review", "random")
# Pairs of maps beside each other.
COLUMNS = 5


def markdown(result: dict) -> str:
    """For each task a line for each teacher, the best at the target first."""
    parts = [f"# teachers, budget {result['budget']}", _preface(result)]
    for task, cells in _by_task(result).items():
        examples = cells[0]["num_training_examples"]
        parts += [f"## {task}, {examples:,} training examples", _table(result, task)]
        parts += ["Training examples until a level is mastered:", _mastery(result, task)]
    return "\n\n".join(parts) + "\n"


def draw(result: dict) -> Figure:
    """Of one run of each teacher the shares of all levels, above how far they were learnt."""
    tasks = _by_task(result)
    rows = [
        (task, cells[i : i + COLUMNS])
        for task, cells in ((task, _first_runs(cells)) for task, cells in tasks.items())
        for i in range(0, len(cells), COLUMNS)
    ]
    figure = new_figure(height=0.7 + 1.75 * len(rows))
    layout = figure.add_gridspec(2 * len(rows), COLUMNS)
    for i, (task, cells) in enumerate(rows):
        for j, cell in enumerate(cells):
            for k, name in enumerate(("share", "exact_match")):
                axes = figure.add_subplot(layout[2 * i + k, j])
                mesh = _map(axes, cell["watched"], name)
                axes.tick_params(labelbottom=k == 1, labelleft=j == 0)
                if k == 0:
                    axes.set_title(f"{task}: {cell['strategy']}", fontsize=7)
                if j == 0:
                    axes.set_ylabel(name, fontsize=7)
    label = (
        "above: share of a level in what is taught; below: its exact_match in validation "
        "(free-running); levels upwards, epochs to the right"
    )
    below = {"location": "bottom", "fraction": 0.012, "pad": 0.01, "aspect": 80}
    colour_bar(figure, mesh, figure.axes, label, **below)
    return figure


def _map(axes, watched: dict, name: str):
    """One number of every level, hardest at the top, over the epochs; gives the mesh."""
    cells = [[(number,) for number in level] for level in zip(*watched[name], strict=True)]
    epochs = [i if i % 10 == 0 else "" for i in range(1, len(cells[0]) + 1)]
    levels = [_level(*level) for level in watched["levels"]]
    mesh = heat_map(axes, cells, epochs, levels, linewidth=0, rasterized=True)
    axes.tick_params(labelsize=5)
    return mesh


def _by_task(result: dict) -> dict[str, list[dict]]:
    tasks: dict[str, list[dict]] = {}
    for cell in result["cells"]:
        tasks.setdefault(cell["task"], []).append(cell)
    return tasks


def _first_runs(cells: list[dict]) -> list[dict]:
    """The run of the lowest seed of each teacher."""
    runs: dict[str, dict] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        runs.setdefault(cell["strategy"], cell)
    return list(runs.values())


def _preface(result: dict) -> str:
    lines = [
        "Free-running exact_match on held-out examples: at the target, and averaged over all "
        "levels, so that what was forgotten counts; one a seed. A level is mastered when its "
        "validation accuracy has been above 0.95 after an epoch (token_accuracy; exact_match where "
        "work is written). A difference is called one (**bold**) only where it is larger than the "
        "95% margin of error, which counts seeds and the choice of the test set, and than the "
        "range of either teacher's seeds; else it stands in brackets. Of equal pairs about one in "
        "twenty is called different by chance."
    ]
    if result["missing"]:
        lines.append(f"{len(result['missing'])} cells are missing.")
    return " ".join(lines)


def measured(result: dict, task: str) -> dict[str, dict[tuple[str, str], Measured]]:
    """What the cells of a task have measured: name of the measure -> sets of seeds."""
    rows = entries(result, "rows").query("place == @task")
    target = rows.query("length == target_length and nesting == target_nesting")
    means = rows.groupby(["place", "strategy", "seed"], observed=True, as_index=False).agg(
        exact_match=("exact_match", "mean"), num_examples=("num_examples", "sum")
    )
    return {
        "at the target": seed_sets(target, "exact_match"),
        "over all levels": seed_sets(means, "exact_match"),
    }


def _table(result: dict, task: str) -> str:
    sets = measured(result, task)
    copied = entries(result, "rows").query(
        "place == @task and length == target_length and nesting == target_nesting"
    )["answer_in_program"]
    order = sorted(sets["at the target"], key=lambda key: -sets["at the target"][key].rates.mean())
    lines = []
    for key in order:
        line = [key[1]]
        for found in sets.values():
            line.append(" / ".join(format_rate(rate, 3) for rate in found[key].rates))
            for reference in REFERENCES:
                other = (key[0], reference)
                line.append("" if key == other else format_difference(compare(found, key, other)))
        lines.append(line)
    header = ["teacher"]
    for name in sets:
        header += [name, *(f"- {reference}" for reference in REFERENCES)]
    spreads = {name: seeds_spread(found.values()) for name, found in sets.items()}
    said = [
        f"{name}: largest range of seeds {format_rate(spread.largest, 3)}, standard deviation "
        f"{format_rate(spread.deviation, 3)}"
        for name, spread in spreads.items()
        if spread
    ]
    said.append(f"copying from the text would reach {format_rate(copied.mean(), 3)} at the target")
    return format_markdown(header, lines) + "\n\n" + "; ".join(said) + "."


def _mastery(result: dict, task: str) -> str:
    seen = entries(result, "mastered").query("place == @task")
    seen["text"] = ["never" if pd.isna(n) else f"{n / 1000:,.0f}k" for n in seen["num_examples"]]
    table = by_place(seen, "nesting", "length")["text"].agg(" / ".join)
    table = table.droplevel("place").unstack(["nesting", "length"])
    names = [_level(length, nesting) for nesting, length in table.columns]
    rows = [[name, *texts] for name, texts in zip(table.index, table.to_numpy(), strict=True)]
    return format_markdown(["teacher", *names], rows)


def _level(length: int, nesting: int) -> str:
    return f"({length},{nesting})" if nesting > 1 else str(length)
