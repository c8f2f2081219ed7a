"""The figure `models`: networks side by side, after equally many examples and after equal time.

result = comparisons.collect("models", "cpu", Path("W/models"))
markdown(result), draw(result)
"""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from keras_l2e.paper.comparisons import AT_TARGET, MASTERED
from keras_l2e.paper.tables import rates_text, table_markdown
from keras_l2e.plots import (
    BLUE,
    GREEN,
    GROUP_WIDTH,
    ORANGE,
    PURPLE,
    bars_of_seeds,
    labelled,
    new_figure,
    share_axis,
)

WHAT_WAS_RUN = (
    "The numbers published for this suite (arXiv 1807.03819: memory up to 55 digits, programs of "
    "length 5) are of other generators, with answers modulo a power of ten, and after training of "
    "unknown length: they say who wins where, not by how much. `mix` draws one length for all "
    "numbers of a program here, in the code released with arXiv 1410.4615 one for each number. "
    "`double` and `reverse` are tasks of the output: the digits are written twice, or backwards. "
    "All networks read forwards. A network's name is followed by its layers, blocks or steps and "
    "their width; `universal_transformer` does not halt. `attention` and the recipe were developed "
    "on these tasks. Ours are free-running, on held-out examples: characters / whole answers. "
    "`work` is written as a reversed_trace, and judged by its answer alone."
)
# Of a budget that is no other's.
OF_BUDGET = {
    "cpu": " Each was trained on one core. The `transformer` of the universal one's width has four "
    "times its weights. `review` goes up level by level, with its settings of the figure "
    "`teachers`; short texts take less time, so a run that did not climb ends before those of "
    "`mix`, and stands as it ended under equal time."
}
# Of validation, in which both comparisons are made.
NOISE = (
    "Means over all levels, on {count} validation examples in all (up to four digits of the tasks "
    "of the output, sums of one and two digits, and programs of one operation on one digit are "
    "judged by training examples: there are too few others): their choice alone moves an "
    "exact_match of a half by {margin:.3f} either way (95%); what another seed would move is not "
    "in it. Between two epochs the numbers lie on the line through both."
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
EQUAL = {"num_examples": "equally many examples", "seconds": "equal time of training"}
COLOURS = {
    "lstm": "0.45",
    "attention": BLUE,
    "transformer": ORANGE,
    "universal_transformer": GREEN,
}
KEY = ["network", "strategy", "seed"]
RATES = ["exact_match", "free_token_accuracy"]


def markdown(result: dict) -> str:
    """Rates after equal examples, equal time and in the test; what it took; the published."""
    was_run = WHAT_WAS_RUN + OF_BUDGET.get(result["budget"], "")
    parts = [f"# models, budget {result['budget']}", was_run]
    if result["missing"]:
        parts[-1] += f" {len(result['missing'])} cells are missing."
    count = min(cell["num_validated"] for cell in result["cells"])
    for equal, name in EQUAL.items():
        found = at_equal(result, equal)
        parts += [f"## After {name}", _wide(found), _limits(found, equal)]
    parts.append(NOISE.format(count=count, margin=1.96 * 0.5 / count**0.5))
    parts += [f"## Until exact_match, mean of all levels, was above {MASTERED}", _until(result)]
    tested = _rows(result, "rows")
    at_target = tested.query(AT_TARGET)
    parts += ["## In the test at the end, at the target", _wide(at_target), _copied(at_target)]
    parts.append("## In the test at the end, mean of all levels")
    parts.append("Each level counts alike, however few held-out examples it has.")
    means = tested.groupby(["place", *KEY], sort=False, as_index=False)[RATES].mean()
    parts += [_wide(means), "## What it took", _costs(result)]
    return "\n\n".join([*parts, "## Published", table_markdown(PUBLISHED)]) + "\n"


def draw(result: dict) -> Figure:
    """A group of bars for each task, one a network: whole answers; characters behind them.

    Of a network with several seeds their mean, and the range of whole answers.
    """
    found = {equal: at_equal(result, equal) for equal in EQUAL}
    strategies, places = (
        list(dict.fromkeys(found["seconds"][name])) for name in ("strategy", "place")
    )
    networks = colours(found["seconds"][["model", "network"]].itertuples(index=False))
    tried = found["seconds"].groupby("place")["network"].unique()
    groups = {place: [name for name in networks if name in tried[place]] for place in places}
    figure = new_figure(height=0.8 + 1.9 * len(EQUAL) * len(strategies))
    panels = figure.subplots(len(EQUAL) * len(strategies), sharex=True)
    for axes, (equal, strategy) in zip(panels, itertools.product(EQUAL, strategies), strict=True):
        chosen = found[equal][found[equal]["strategy"] == strategy]
        for network, colour in networks.items():
            here = {x: group for x, group in enumerate(groups.values()) if network in group}
            widths = np.array([GROUP_WIDTH / len(group) for group in here.values()])
            slots = np.array([group.index(network) for group in here.values()])
            middles = np.array([*here]) - GROUP_WIDTH / 2 + (slots + 0.5) * widths
            of_seeds = chosen[chosen["network"] == network].groupby("place")[RATES]
            rates = of_seeds.agg(["mean", "min", "max"]).reindex([places[x] for x in here])
            characters = rates["free_token_accuracy", "mean"]
            axes.bar(middles, characters, 0.92 * widths, color=colour, alpha=0.35)
            style = {"color": colour, "label": network, "decimals": 2, "size": 4.5}
            bars_of_seeds(axes, middles, rates["exact_match"], 0.92 * widths, **style)
        share_axis(axes)
        axes.set(title=f"{strategy}, after {EQUAL[equal]}")
        axes.set_xticks(range(len(places)), [place.replace(", ", "\n") for place in places])
    figure.supylabel("share right, validation, mean of levels", fontsize=7.5)
    names = labelled(figure)
    figure.legend(
        names.values(),
        names,
        loc="outside lower center",
        ncols=3,
        title="exact_match (free-running); pale: free_token_accuracy",
    )
    return figure


def colours(networks: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Networks and their colours.

    Args:
        networks: models and names of networks; a model's second one has a colour of its own.
    """
    found: dict[str, str] = {}
    for model, network in networks:
        colour = COLOURS[model]
        found.setdefault(network, PURPLE if colour in found.values() else colour)
    return found


def at_equal(result: dict, equal: str) -> pd.DataFrame:
    """How far each cell was when it had used as much as the most modest one of its task in all.

    The most modest one is one of `mix`, which every network has; other strategies' cells that have
    used less stand where they ended.

    Args:
        result: of `comparisons.collect`.
        equal: what is used, `num_examples` or `seconds`.

    Returns:
        A row for each cell: name, place, model, the columns of KEY, `limit`, what each cell of the
        place might use, and RATES, interpolated between the epochs before and after; NaN before
        the first one.
    """
    found = _rows(result, "curve")
    used = found.groupby("name")[equal].transform("max").where(found["strategy"] == "mix")
    found["limit"] = used.groupby(found["place"]).transform("min")

    def interpolate(curve: pd.DataFrame) -> pd.Series:
        limit = curve["limit"].iloc[0]
        return pd.Series(
            {rate: np.interp(limit, curve[equal], curve[rate], left=np.nan) for rate in RATES}
        )

    # A place without a run of `mix` has no limit.
    cells = found.groupby(["name", "place", "model", *KEY, "limit"], sort=False, dropna=False)
    return cells[[equal, "limit", *RATES]].apply(interpolate).reset_index()


def place(cell: dict) -> str:
    """A task, those who write their work apart: what networks are compared on."""
    return cell["task"] + (", work" if cell["target_form"] != "answer" else "")


def _about(cell: dict) -> dict:
    """What tells a cell's entry in a table from others."""
    return {"place": place(cell), **{name: cell[name] for name in KEY}}


def _rows(result: dict, name: str) -> pd.DataFrame:
    """A row for each entry of one list of the cells, with the cell's place and name."""
    found = pd.json_normalize(
        result["cells"], name, ["name", "model", *KEY, "target_length", "target_nesting"]
    )
    found["place"] = found["name"].map({cell["name"]: place(cell) for cell in result["cells"]})
    return found


def _wide(found: pd.DataFrame) -> str:
    """RATES of some cells, blank where they are not known."""
    rates = found[["free_token_accuracy", "exact_match"]].to_numpy()
    texts = ["" if np.isnan(pair).any() else rates_text(pair) for pair in rates]
    return _side_by_side(found.assign(text=texts))


def _until(result: dict) -> str:
    """What each cell had used when its validation was first so good."""
    rows = []
    for cell in result["cells"]:
        first = next((entry for entry in cell["curve"] if entry["exact_match"] > MASTERED), None)
        text = f"{first['num_examples']:,} / {first['seconds']:.0f} s" if first else "never"
        rows.append({**_about(cell), "text": text})
    said = "Training examples / seconds of training, after whole epochs."
    return f"{said}\n\n{_side_by_side(pd.DataFrame(rows))}"


def _side_by_side(found: pd.DataFrame) -> str:
    """`text`: a line for each network and strategy, a column for each task; seeds in one cell."""
    places, networks = (list(dict.fromkeys(found[name])) for name in ("place", "network"))
    texts = found.groupby(["network", "strategy", "place"], sort=False)["text"].agg("; ".join)
    table = texts.unstack()[places].reindex(networks, level="network")
    return table_markdown(table.rename_axis(["network", "strategy"]))


def _copied(at_target: pd.DataFrame) -> str:
    """What copying from the text would reach at the targets."""
    copied = at_target.groupby("place", sort=False)["answer_in_program"].mean()
    texts = [f"{place} {rates_text([rate])}" for place, rate in copied.items()]
    return f"exact_match that copying from the text would reach: {'; '.join(texts)}."


def _limits(found: pd.DataFrame, equal: str) -> str:
    unit = {"num_examples": "{:,.0f} examples", "seconds": "{:.0f} s"}[equal]
    limits = found.drop_duplicates("place").set_index("place")["limit"].dropna()
    return "; ".join(f"{place}: {unit.format(limit)}" for place, limit in limits.items()) + "."


def _costs(result: dict) -> str:
    """Of each network its size, and on each task its speed and the most memory it had."""
    rows = [
        {
            **_about(cell),
            "cost": f"{last['num_examples'] / last['seconds']:,.0f} / {cell['most_memory_mib']:,}",
            "parameters": f"{cell['num_parameters']:,}",
        }
        for cell in result["cells"]
        for last in [cell["curve"][-1]]
    ]
    found = pd.DataFrame(rows).drop_duplicates(["place", "network", "strategy"])
    places = list(dict.fromkeys(found["place"]))
    lines = ["network", "strategy", "parameters"]
    costs = found.set_index([*lines, "place"])["cost"].unstack()[places]
    return (
        "Parameters; examples a second of training / MiB of memory that the process had at most, "
        "validation and the libraries included."
        f"\n\n{table_markdown(costs.reindex(found['network'].unique(), level='network'))}"
    )
