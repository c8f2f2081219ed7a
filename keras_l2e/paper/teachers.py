"""The figure `teachers`: what each teacher came to, and how it shared out what it taught.

result = comparisons.collect("teachers", "cpu", Path("W/teachers"))
markdown(result), draw(result)
"""

import inspect

import pandas as pd
from matplotlib.figure import Figure

from keras_l2e.paper.comparisons import Sets, at_targets, entries, seed_sets
from keras_l2e.paper.tables import (
    differences,
    level_name,
    mastery,
    preface,
    rates_text,
    short_of_target,
    table_markdown,
)
from keras_l2e.plots import colour_bar, heat_map, new_figure
from keras_l2e.teaching.teachers import TEACHERS

WHAT_WAS_RUN = (
    "Free-running exact_match on held-out examples: at the target, and averaged over all levels, "
    "so that what was forgotten counts; one a seed. A level is mastered when its exact_match in "
    "validation has been above 0.95 after an epoch (sums of one and two digits and programs of "
    "one operation on one digit are judged by training examples: there are too few others). "
    "`looking` is the share of a run's time that went into the validation of all levels after "
    "every epoch, here also where the teacher does not ask for it; the shorter what is taught, the "
    "larger it is. `mix` looks at nothing and shares examples out among levels; `random` looks at "
    "nothing and gives nearly all of an epoch to one level, so that it is tested after whichever "
    "came last. Rates and windows of teachers that follow learning are those of their sources, and "
    "count epochs, of which there are few here."
)
# What every teacher is compared with: ours, and those that look at nothing.
REFERENCES = ("review", "mix", "random")
# Those that go from level to level, to the target if they come so far.
CLIMBING = [
    name
    for name, teacher in TEACHERS.items()
    if "advance_threshold" in inspect.signature(teacher).parameters
]
# Pairs of maps beside each other.
COLUMNS = 5
# What the upper and the lower map of a pair show, and how. A level has hardly ever more than half.
MAPS = {
    "share": {"cmap": "YlOrBr", "vmax": 0.5},
    "exact_match": {},
}
LABELS = {
    "share": "above: share of a level in what is taught; levels upwards, epochs to the right",
    "exact_match": "below: exact_match (free-running) of a level after every epoch",
}


def markdown(result: dict) -> str:
    """For each task a line for each teacher, the best at the target first."""
    found = {task: measured(result, task) for task in _by_task(result)}
    measures = {f"{task}, {name}": x for task, sets in found.items() for name, x in sets.items()}
    parts = [f"# teachers, budget {result['budget']}", preface(result, WHAT_WAS_RUN, measures)]
    seen = entries(result, "mastered")
    for task, cells in _by_task(result).items():
        examples = cells[0]["num_training_examples"]
        parts += [f"## {task}, {examples:,} training examples", _table(result, task, found[task])]
        parts += ["Training examples until mastered:", mastery(seen[seen["place"] == task], "task")]
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
    layout, meshes = figure.add_gridspec(2 * len(rows), COLUMNS), {}
    for i, (task, cells) in enumerate(rows):
        for j, cell in enumerate(cells):
            for k, name in enumerate(MAPS):
                axes = figure.add_subplot(layout[2 * i + k, j])
                meshes[name] = _map(axes, cell["watched"], name)
                axes.tick_params(labelbottom=k == 1, labelleft=j == 0)
                if k == 0:
                    axes.set_title(f"{task}: {cell['strategy']}", fontsize=7)
                if j == 0:
                    axes.set_ylabel(name, fontsize=7)
    panels = figure.axes
    below = {"location": "bottom", "fraction": 0.012, "pad": 0.01, "aspect": 80}
    for name in reversed(MAPS):  # The first bar stands lowest.
        colour_bar(figure, meshes[name], panels, LABELS[name], **below)
    return figure


def _map(axes, watched: dict, name: str):
    """One number of every level, hardest at the top, over the epochs; gives the mesh."""
    cells = [[(number,) for number in level] for level in zip(*watched[name], strict=True)]
    epochs = [i if i % 10 == 0 else "" for i in range(1, len(cells[0]) + 1)]
    levels = [level_name(*level) for level in watched["levels"]]
    mesh = heat_map(axes, cells, epochs, levels, linewidth=0, rasterized=True, **MAPS[name])
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
    return [runs[name] for name in TEACHERS if name in runs]


def measured(result: dict, task: str) -> dict[str, Sets]:
    """What the cells of a task have measured: name of the measure -> sets of seeds."""
    rows = entries(result, "rows").query("place == @task")
    # The mean of levels is as uncertain as one rate of so many examples: small ones weigh most.
    means = rows.groupby(["place", "strategy", "seed"], observed=True, as_index=False).agg(
        exact_match=("exact_match", "mean"),
        num_examples=("num_examples", lambda counts: len(counts) ** 2 / (1 / counts).sum()),
    )
    return {
        "at the target": seed_sets(at_targets(result).query("place == @task"), "exact_match"),
        "over all levels": seed_sets(means, "exact_match"),
    }


def _table(result: dict, task: str, measures: dict[str, Sets]) -> str:
    at_target = measures["at the target"]
    order = sorted(
        at_target, key=lambda key: [-sets[key].rates.mean() for sets in measures.values()]
    )
    teachers = [teacher for _, teacher in order]
    pairs = {t: {f"- {r}": ((task, t), (task, r)) for r in REFERENCES} for t in teachers}
    columns = []
    for name, sets in measures.items():
        rates = {teacher: rates_text(sets[task, teacher].rates) for teacher in teachers}
        columns += [pd.Series(rates, name=name), differences(sets, pairs)]
    looking = pd.DataFrame(_by_task(result)[task]).groupby("strategy")["validation_share"]
    columns.append(looking.agg(rates_text).loc[teachers].rename("looking"))
    table = table_markdown(pd.concat(columns, axis=1).rename_axis("teacher"))
    copied = at_targets(result).query("place == @task")["answer_in_program"].mean()
    said = f"Copying from the text would reach {rates_text([copied])} at the target."
    climbing = [cell for cell in _by_task(result)[task] if cell["strategy"] in CLIMBING]
    return f"{table}\n\n{said}{short_of_target(climbing)}"
