"""The figure `models`: networks side by side, after equally many examples and after equal time.

result = comparisons.collect("models", "cpu", Path("W/models"))
markdown(result), draw(result)
"""

import pandas as pd
from matplotlib.figure import Figure

from keras_l2e.paper.tables import rates_text, table_markdown
from keras_l2e.plots import BLUE, GREEN, ORANGE, new_figure, share_axis
from keras_l2e.tables import format_short_rate

WHAT_WAS_RUN = (
    "The numbers published for this suite (arXiv 1807.03819) are of other generators, with answers "
    "modulo a power of ten, on longer texts (memory up to 55 digits, programs of length 5), and "
    "after training of unknown length: they say who wins where, not by how much. Ours are "
    "free-running, on held-out examples at the target in validation: characters / whole answers. "
    "`work` is written as a reversed_trace, and judged by its answer alone."
)
# Characters / whole answers (arXiv 1807.03819, tables of its "Learning to Execute").
PUBLISHED = pd.DataFrame(
    {
        "copy": ["0.78 / 0.11", "0.98 / 0.63", "1 / 1"],
        "double": ["0.51 / 0.047", "0.94 / 0.55", "1 / 1"],
        "reverse": ["0.91 / 0.32", "0.81 / 0.26", "1 / 1"],
        "program": ["0.53 / 0.12", "0.71 / 0.29", "0.89 / 0.63"],
        "control": ["0.68 / 0.21", "0.93 / 0.66", "1 / 1"],
        "addition": ["0.83 / 0.11", "1 / 1", "1 / 1"],
    },
    index=pd.Index(["lstm", "transformer", "universal_transformer"], name="model"),
)
# What both columns of the comparison are equal in.
EQUAL = {"num_examples": "equally many examples", "seconds": "equal time"}
COLOURS = {
    "lstm": "0.45",
    "attention": BLUE,
    "transformer": ORANGE,
    "universal_transformer": GREEN,
}
KEY = ["model", "strategy", "seed"]
RATES = ["exact_match", "free_token_accuracy"]


def markdown(result: dict) -> str:
    """Rates after equally many examples and after equal time, what it cost, what is published."""
    parts = [f"# models, budget {result['budget']}", WHAT_WAS_RUN]
    if result["missing"]:
        parts[-1] += f" {len(result['missing'])} cells are missing."
    for equal, name in EQUAL.items():
        found = at_equal(result, equal)
        found["text"] = [
            rates_text([row.free_token_accuracy, row.exact_match]) for row in found.itertuples()
        ]
        parts += [f"## After {name}", _wide(found, "text"), _limits(found, equal)]
    return (
        "\n\n".join(
            [*parts, "## What it took", _costs(result), "## Published", table_markdown(PUBLISHED)]
        )
        + "\n"
    )


def draw(result: dict) -> Figure:
    """A group of bars for each task, one a network: whole answers; characters behind them."""
    figure = new_figure(height=4.6)
    for axes, (equal, name) in zip(figure.subplots(2, sharex=True), EQUAL.items(), strict=True):
        found = at_equal(result, equal)
        first = found[found["strategy"] == found["strategy"].iloc[0]]
        places = list(dict.fromkeys(first["place"]))
        width = 0.9 / len(COLOURS)
        for i, (model, colour) in enumerate(COLOURS.items()):
            rates = first[first["model"] == model].groupby("place")[RATES].mean()
            rates = rates.reindex(places)
            middles = [x + (i - (len(COLOURS) - 1) / 2) * width for x in range(len(places))]
            style = {"width": 0.92 * width, "color": colour}
            axes.bar(middles, rates["free_token_accuracy"], alpha=0.35, **style)
            bars = axes.bar(middles, rates["exact_match"], label=model, **style)
            texts = [format_short_rate(rate, 2) for rate in rates["exact_match"]]
            axes.bar_label(bars, texts, fontsize=5, padding=1)
        share_axis(axes)
        axes.set(title=f"after {name}", ylabel="share right, validation")
        axes.set_xticks(range(len(places)), [place.replace(", ", "\n") for place in places])
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(COLOURS),
        title="exact_match (free-running); pale: free_token_accuracy",
    )
    return figure


def at_equal(result: dict, equal: str) -> pd.DataFrame:
    """How far each cell was when it had used as much as the most modest one of its task in all.

    Args:
        result: of `comparisons.collect`.
        equal: what is used, `num_examples` or `seconds`.

    Returns:
        A row for each cell, if its first epoch took no more than that: place, the columns of KEY,
        RATES, num_examples, seconds, and `limit`,
        what each cell of the place might use.
    """
    found = pd.json_normalize(result["cells"], "curve", ["name", *KEY])
    found["place"] = found["name"].map({cell["name"]: place(cell) for cell in result["cells"]})
    used = found.groupby("name")[equal].transform("max")
    found["limit"] = used.groupby(found["place"]).transform("min")
    return found[found[equal] <= found["limit"]].groupby("name").tail(1)


def place(cell: dict) -> str:
    """A task, those who write their work apart: what networks are compared on."""
    return cell["task"] + (", work" if cell["target_form"] != "answer" else "")


def _wide(found: pd.DataFrame, column: str) -> str:
    """A line for each network and strategy, a column for each task; seeds side by side."""
    places = list(dict.fromkeys(found["place"]))
    texts = found.groupby(["model", "strategy", "place"], sort=False)[column].agg("; ".join)
    return table_markdown(texts.unstack()[places].rename_axis(["model", "strategy"]))


def _limits(found: pd.DataFrame, equal: str) -> str:
    unit = {"num_examples": "{:,} examples", "seconds": "{:.0f} s"}[equal]
    limits = found.drop_duplicates("place").set_index("place")["limit"]
    return "; ".join(f"{place}: {unit.format(limit)}" for place, limit in limits.items()) + "."


def _costs(result: dict) -> str:
    """Of each network its size, and on each task its speed and the most memory it had."""
    rows = [
        {
            "place": place(cell),
            **{name: cell[name] for name in KEY},
            "cost": f"{last['num_examples'] / last['seconds']:,.0f} / {cell['most_memory_mib']:,}",
            "parameters": f"{cell['num_parameters']:,}",
        }
        for cell in result["cells"]
        for last in [cell["curve"][-1]]
    ]
    found = pd.DataFrame(rows).drop_duplicates(["place", "model"])
    sizes = found.drop_duplicates("model").set_index("model")["parameters"]
    places = list(dict.fromkeys(found["place"]))
    costs = found.pivot(index="model", columns="place", values="cost")[places]
    table = table_markdown(pd.concat([sizes, costs.loc[sizes.index]], axis=1))
    return f"Parameters; examples a second, validation included / MiB of memory at most.\n\n{table}"
