"""The paper's figures as tables: CSV, and Markdown with differences and samples.

text = figure_markdown(comparisons.collect("addition", "cpu", Path("W/addition")))
"""

import itertools

import pandas as pd

from keras_l2e.paper.comparisons import (
    SETTINGS,
    Difference,
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
SAMPLES_SHOWN = 3


def figure_csv(result: dict) -> str:
    """One line for each cell and difficulty tested, with all that tells it from the others."""
    cells = result["cells"]
    about = ["name", *SETTINGS, "num_training_examples", "chance_token_accuracy"]
    tested = pd.json_normalize(cells, "rows", about)
    tested = tested.rename(columns={"name": "cell", "num_examples": "num_test_examples"})
    after = pd.json_normalize(cells, "mastered", "name").reindex(
        columns=["name", "length", "nesting", "num_examples"]  # There may be none.
    )
    after = after.set_axis(["cell", "length", "nesting", "mastered_after_examples"], axis=1)
    columns = ["cell", *SETTINGS, "length", "nesting", "num_training_examples", "num_test_examples"]
    columns += [rate for rate in RATES if rate in tested]
    columns += ["chance_token_accuracy", "mastered_after_examples"]
    rows = tested.merge(after, "left", ["cell", "length", "nesting"])[columns]
    return rows.astype({"mastered_after_examples": "Int64"}).to_csv(index=False)


def figure_markdown(result: dict) -> str:
    """The figure as tables: rates, differences between strategies, and samples."""
    rows = at_targets(result)
    parts = [f"# {result['figure']}, budget {result['budget']}", _preface(result, rows)]
    for metric, label in METRICS.items():
        parts += [f"## {label}", rates_table(result, metric)]
        parts += [f"Differences in {metric}:", _differences(result, rows, metric)]
        if result["figure"] in PLACE_PAIRS:
            parts.append(_place_differences(result, rows, metric))
    if result["figure"] == "optimizers":
        parts += ["## Training examples until mastered", _mastery(result)]
    if result["figure"] != "memorization":
        kind = "operation" if result["figure"] == "programs" else "longest carry chain (digits)"
        parts += [f"## {METRICS['exact_match']} by {kind}", _kinds(result)]
    parts += ["## Samples", _samples(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _preface(result: dict, rows: pd.DataFrame) -> str:
    at_most = "at most " if result["budget"] == "paper" else ""
    lines = [
        f"Every cell was trained on {at_most}{result['num_training_examples']:,} examples and "
        "tested on held-out ones at its target. Where there are two seeds, both are given.",
        "A difference is called one (**bold**) only where it is larger than the 95% margin of "
        "error, which counts seeds and the choice of the test set, and than the range of either "
        "cell's seeds (for a cell run once, the figure's largest); else it stands in brackets.",
    ]
    for metric in METRICS:
        spread = seeds_spread(seed_sets(rows, metric).values())
        if spread is None:
            lines.append(f"No cell has two seeds, so no difference in {metric} is called one.")
        else:
            largest, deviation = (format_rate(rate, 3) for rate in spread[:2])
            lines.append(
                f"Seeds in {metric}: largest range {largest}, standard deviation {deviation} "
                f"({spread.degrees} degrees of freedom)."
            )
    lines.append("Of equal pairs about one in twenty is called different by chance.")
    stopped = [
        "{name} (at length {reached[length]}, nesting {reached[nesting]})".format_map(cell)
        for cell in result["cells"]
        if cell["reached"] != {k: cell[f"target_{k}"] for k in ("length", "nesting")}
    ]
    if stopped:
        lines.append(f"Ended before they came to their target: {'; '.join(stopped)}.")
    if result["missing"]:
        lines.append(f"{len(result['missing'])} cells are missing.")
    return " ".join(lines)


def rates_table(result: dict, metric: str) -> str:
    """Each strategy's rates at each place, one a seed, beside copying and chance."""
    rows = at_targets(result)
    table = by_place(rows)[metric].agg(lambda rates: " / ".join(map(_rate, rates))).unstack()
    copied = rows.groupby("place", observed=True)["answer_in_program"].mean()
    table = table.astype(object).assign(answer_in_program=copied.map(_rate))
    if metric == "token_accuracy":
        table["chance"] = _rate(result["cells"][0]["chance_token_accuracy"])
    return _markdown(table.rename_axis(result["figure"]))


def _differences(result: dict, rows: pd.DataFrame, metric: str) -> str:
    """Strategies compared in pairs at each place, and how often the first is the better one."""
    places, strategies = (rows[name].cat.categories for name in ("place", "strategy"))
    sets, columns = seed_sets(rows, metric), {}
    for first, second in PAIRS:
        if {first, second} <= {*strategies}:
            found = [compare(sets, (p, first), (p, second)) for p in places]
            columns[f"{first} - {second}"] = [*map(format_difference, found), _count(found)]
    names = pd.Index([*places, "better / undecided / worse"], name=result["figure"])
    return _markdown(pd.DataFrame(columns, index=names)) if columns else ""


def _count(found: list[Difference | None]) -> str:
    """In how many places the first of two is better, not told apart, and worse.

    >>> better, same = Difference(0.1, 0.01, True), Difference(-0.1, 0.2, False)
    >>> _count([better, same, better, None])
    '2 / 1 / 0'
    """
    signs = [
        (found.value > 0) - (found.value < 0) if found.significant else 0
        for found in found
        if found
    ]
    return " / ".join(str(signs.count(sign)) for sign in (1, 0, -1))


def _place_differences(result: dict, rows: pd.DataFrame, metric: str) -> str:
    """Input forms or optimizers compared in pairs within each strategy."""
    strategies, sets = rows["strategy"].cat.categories, seed_sets(rows, metric)
    columns = {
        f"{a} - {b}": [format_difference(compare(sets, (a, s), (b, s))) for s in strategies]
        for a, b in PLACE_PAIRS[result["figure"]]
    }
    return _markdown(pd.DataFrame(columns, index=strategies.rename("strategy")))


def format_difference(found: Difference | None) -> str:
    """Bold if it is one, else in brackets; blank if either was not run."""
    if found is None:
        return ""
    return f"**{found.value:+.3f}**" if found.significant else f"({found.value:+.3f})"


def _mastery(result: dict) -> str:
    """For each strategy and number of digits the training examples until mastered, one a seed."""
    seen = entries(result, "mastered")
    seen["text"] = ["never" if pd.isna(n) else f"{n:,.0f}" for n in seen["num_examples"]]
    table = by_place(seen, "length")["text"].agg(" / ".join).unstack()
    table.columns = [f"{length} digits" for length in table.columns]
    return _markdown(table.rename_axis(["optimizer", "strategy"]))


def _kinds(result: dict) -> str:
    """Which kinds of programs fail: a line for each place and strategy, seeds taken together."""
    kinds = entries(result, "kinds")
    kinds["right"] = kinds["num_examples"] * kinds["exact_match"]
    sums = by_place(kinds, "kind")[["right", "num_examples"]].sum()
    table = (sums["right"] / sums["num_examples"]).map(_rate).unstack()
    order = sorted(table.columns, key=lambda kind: (len(kind) if kind.isdigit() else 0, kind))
    return _markdown(table[order].rename_axis([result["figure"], "strategy"]))


def _samples(result: dict) -> str:
    """The same held-out examples as each strategy answers them, wrong characters marked.

    A table for each place, of its target difficulty, first seed: the paper's appendix.
    """
    samples = entries(result, "samples").query(
        "length == target_length and nesting == target_nesting"
    )
    parts = []
    for place, found in samples.groupby("place", observed=True):
        found = found.drop_duplicates(["program", "target", "strategy"])
        drawn = found["strategy"].cat.remove_unused_categories().cat.categories
        # Seeds have samples of their own: those that most strategies answered are shown.
        asked = sorted(found.groupby(["program", "target"], sort=False), key=lambda a: -len(a[1]))
        rows = []
        for (program, target), answers in asked[:SAMPLES_SHOWN]:
            output = dict(zip(answers["strategy"], answers["output"], strict=True))
            marked = [mark_wrong(target, output[s]) if s in output else "" for s in drawn]
            rows.append([_code(program), _code(target), *marked])
        parts += [f"**{place}**", format_markdown(["input", "target", *drawn], rows)]
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


def _rate(value: float) -> str:
    return format_rate(value, 3)


def _markdown(table: pd.DataFrame) -> str:
    """A table with its index as the first columns, what is missing left blank."""
    table = table.reset_index().astype(object).fillna("")
    return format_markdown([*map(str, table.columns)], table.to_numpy().tolist())
