"""The paper's figures as tables: CSV, and Markdown with differences and samples.

text = figure_markdown(comparisons.collect("addition", "cpu", Path("W/addition")))
"""

import pandas as pd

from keras_l2e.paper.comparisons import (
    AT_TARGET,
    SETTINGS,
    Difference,
    Sets,
    at_targets,
    by_place,
    compare,
    entries,
    seed_sets,
    seeds_spread,
)
from keras_l2e.tables import METRICS, RATES, format_markdown, format_rate

# The pairs that the paper's claims compare.
PAIRS = (
    ("combined", "baseline"),
    ("combined", "naive"),
    ("combined", "mix"),
    ("mix", "baseline"),
    ("naive", "baseline"),
)
# Places that are compared as well, within each strategy.
PLACE_PAIRS = {
    "memorization": (
        ("reverse_double", "none"),
        ("reverse_double", "reverse"),
        ("reverse_double", "double"),
    ),
    "optimizers": (("muon", "sgd"), ("muon", "adam"), ("adam", "sgd")),
}
# What tells the cells of our own figures apart, beside SETTINGS.
OTHER_SETTINGS = {"teachers": ("task",), "models": ("task", "model", "target_form")}
SAMPLES_SHOWN = 3
CALLED_DIFFERENT = (
    "A difference is called one (**bold**) only where it is larger than the 95% margin of error, "
    "which counts seeds and the choice of the test set, and than the range of either cell's seeds "
    "(for a cell run once, the figure's largest); else it stands in brackets. Of equal pairs about "
    "one in twenty is called different by chance."
)


def figure_csv(result: dict) -> str:
    """One line for each cell and difficulty tested, with all that tells it from the others."""
    cells = result["cells"]
    settings = [*OTHER_SETTINGS.get(result["figure"], ()), *SETTINGS]
    about = ["name", *settings, "num_training_examples", "chance_token_accuracy"]
    tested = pd.json_normalize(cells, "rows", about)
    tested = tested.rename(columns={"name": "cell", "num_examples": "num_test_examples"})
    after = pd.json_normalize(cells, "mastered", "name").reindex(
        columns=["name", "length", "nesting", "num_examples"]  # There may be none.
    )
    after = after.set_axis(["cell", "length", "nesting", "mastered_after_examples"], axis=1)
    columns = ["cell", *settings, "length", "nesting", "num_training_examples", "num_test_examples"]
    columns += [rate for rate in RATES if rate in tested]
    columns += ["chance_token_accuracy", "mastered_after_examples"]
    rows = tested.merge(after, "left", ["cell", "length", "nesting"])[columns]
    return rows.astype({"mastered_after_examples": "Int64"}).to_csv(index=False)


def figure_markdown(result: dict) -> str:
    """The figure as tables: rates, differences between strategies, and samples."""
    rows = at_targets(result)
    places, strategies = (rows[name].cat.categories for name in ("place", "strategy"))
    others = PLACE_PAIRS.get(result["figure"], ())
    pairs = {
        result["figure"]: {p: {f"{a} - {b}": ((p, a), (p, b)) for a, b in PAIRS} for p in places},
        "strategy": {s: {f"{a} - {b}": ((a, s), (b, s)) for a, b in others} for s in strategies},
    }
    measures = {metric: seed_sets(rows, metric) for metric in METRICS}
    parts = [f"# {result['figure']}, budget {result['budget']}"]
    parts.append(preface(result, _what_was_run(result), measures))
    for metric, sets in measures.items():
        parts += [f"## {METRICS[metric]}", rates_table(result, metric)]
        found = [differences(sets, keys).rename_axis(name) for name, keys in pairs.items()]
        found = [table_markdown(table) for table in found if len(table.columns)]
        parts += [f"Differences in {metric}:", *found] if found else []
    if result["figure"] == "optimizers":
        seen = entries(result, "mastered")
        parts += ["## Training examples until mastered", mastery(seen, "optimizer")]
    if result["figure"] != "memorization":
        kind = "operation" if result["figure"] == "programs" else "longest carry chain (digits)"
        parts += [f"## {METRICS['exact_match']} by {kind}", _kinds(result)]
    parts += ["## Samples", *_samples(result)]
    return "\n\n".join(parts) + "\n"


def _what_was_run(result: dict) -> str:
    return (
        f"Every cell was trained on {num_examples(result)} examples and tested on held-out ones at "
        "its target. Where there are two seeds, both are given."
        f"{short_of_target(result['cells'])}"
    )


def short_of_target(cells: list[dict]) -> str:
    """A sentence that names the cells whose teacher was still on its way, if there are any."""
    stopped = [
        "{name} (at length {reached[length]}, nesting {reached[nesting]})".format_map(cell)
        for cell in cells
        if cell["reached"] != {k: cell[f"target_{k}"] for k in ("length", "nesting")}
    ]
    return f" Ended before they came to their target: {'; '.join(stopped)}." if stopped else ""


def num_examples(result: dict) -> str:
    """How many training examples the cells of a figure had."""
    most = result["num_training_examples"]
    ended = any(cell["num_training_examples"] < most for cell in result["cells"])
    return f"{'at most ' if ended else ''}{most:,}"


def preface(result: dict, said: str, measures: dict[str, Sets]) -> str:
    """What stands above the tables of a figure.

    Args:
        result: of `collect`.
        said: what its cells are.
        measures: what was measured -> sets of seeds.
    """
    lines = [said, CALLED_DIFFERENT]
    for name, sets in measures.items():
        if spread := seeds_spread(sets.values()):
            largest, deviation = (format_rate(rate, 3) for rate in spread[:2])
            lines.append(
                f"Seeds in {name}: largest range {largest}, standard deviation {deviation} "
                f"({spread.degrees} degrees of freedom)."
            )
        else:
            lines.append(f"No cell has two seeds, so no difference in {name} is called one.")
    if result["missing"]:
        lines.append(f"{len(result['missing'])} cells are missing.")
    return " ".join(lines)


def rates_table(result: dict, metric: str) -> str:
    """Each strategy's rates at each place, one a seed, beside copying and chance."""
    rows = at_targets(result)
    table = by_place(rows)[metric].agg(rates_text).unstack()
    copied = rows.groupby("place", observed=True)["answer_in_program"].mean()
    table = table.astype(object).assign(answer_in_program=copied.map(_rate))
    if metric == "token_accuracy":
        table["chance"] = _rate(result["cells"][0]["chance_token_accuracy"])
    return table_markdown(table.rename_axis(result["figure"]))


def differences(sets: Sets, pairs: dict[str, dict[str, tuple]]) -> pd.DataFrame:
    """How far pairs of cells are apart, as text: bold if they are, else in brackets.

    Args:
        sets: of `seed_sets`.
        pairs: name of a row -> name of a column -> the keys of the two sets.

    Returns:
        Blank where one of the two was not run; no columns in which all is blank.
    """
    texts = {
        row: {name: _format_difference(compare(sets, *keys)) for name, keys in columns.items()}
        for row, columns in pairs.items()
    }
    table = pd.DataFrame.from_dict(texts, orient="index")
    return table.loc[:, (table != "").any()]


def _format_difference(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"**{found.value:+.3f}**" if found.significant else f"({found.value:+.3f})"


def mastery(seen: pd.DataFrame, place: str) -> str:
    """The training examples until each level was mastered, one a seed.

    Args:
        seen: rows of `entries(result, "mastered")`.
        place: what a place is in this figure.
    """
    texts = ["never" if pd.isna(n) else f"{n:,.0f}" for n in seen["num_examples"]]
    cells = by_place(seen.assign(text=texts), "nesting", "length")["text"].agg(" / ".join)
    table = cells.unstack(["nesting", "length"])
    table.columns = [level_name(length, nesting) for nesting, length in table.columns]
    return table_markdown(table.rename_axis([place, "strategy"]))


def level_name(length: int, nesting: int) -> str:
    """A difficulty in a narrow place.

    >>> level_name(9, 1), level_name(4, 2)
    ('9', '(4,2)')
    """
    return f"({length},{nesting})" if nesting > 1 else str(length)


def _kinds(result: dict) -> str:
    """Which kinds of programs fail: a line for each place and strategy, seeds taken together."""
    kinds = entries(result, "kinds")
    kinds["right"] = kinds["num_examples"] * kinds["exact_match"]
    sums = by_place(kinds, "kind")[["right", "num_examples"]].sum()
    table = (sums["right"] / sums["num_examples"]).map(_rate).unstack()
    order = sorted(table.columns, key=lambda kind: (len(kind) if kind.isdigit() else 0, kind))
    return table_markdown(table[order].rename_axis([result["figure"], "strategy"]))


def _samples(result: dict) -> list[str]:
    """The same held-out examples as each strategy answers them: the paper's appendix."""
    samples = entries(result, "samples").query(AT_TARGET)
    samples = samples.drop_duplicates(["place", "program", "target", "strategy"])
    for name in ("program", "target", "output"):
        samples[name] = samples[name].map(_code)
    parts = []
    for place, found in samples.groupby("place", observed=True):
        # Seeds have samples of their own: those that most strategies answered are shown.
        counts = found.groupby(["program", "target"], sort=False).size()
        order = counts.sort_values(ascending=False, kind="stable").index
        answers = found.pivot(index=["program", "target"], columns="strategy", values="output")
        parts += [f"**{place}**", table_markdown(answers.loc[order[:SAMPLES_SHOWN]])]
    return parts


def _code(text: str) -> str:
    """A text as Markdown code in one table cell; pipes do not occur in programs."""
    return "<br>".join(f"`{line}`" if line else "" for line in text.split("\n"))


def rates_text(rates) -> str:
    """The rates of some seeds in one cell."""
    return " / ".join(map(_rate, rates))


def _rate(value: float) -> str:
    return format_rate(value, 3)


def table_markdown(table: pd.DataFrame) -> str:
    """A table with its index as the first columns, what is missing left blank."""
    table = table.reset_index().astype(object).fillna("")
    return format_markdown([*map(str, table.columns)], table.to_numpy().tolist())
