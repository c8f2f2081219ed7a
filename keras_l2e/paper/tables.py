"""The paper's figures as tables: CSV, and Markdown with differences and samples.

text = format_markdown(comparisons.collect("addition", "cpu", Path("W/addition")))
"""

import csv
import io
import itertools
from collections.abc import Sequence

from keras_l2e import tables as report
from keras_l2e.paper.cells import BUDGETS, OPTIMIZERS
from keras_l2e.paper.comparisons import (
    METRICS,
    RATES,
    Difference,
    compare,
    mean,
    measured,
    places,
    seeds_spread,
    shown,
    strategies,
)

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
SAMPLES_SHOWN = 3


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


def format_markdown(result: dict) -> str:
    """The figure as tables: rates, differences between strategies, and samples."""
    parts = [f"# {result['figure']}, budget {result['budget']}", _preface(result)]
    for metric, label in METRICS.items():
        parts += _section(
            label,
            rates_table(result, metric),
            _differences_table(result, metric),
            _other_differences_table(result, metric),
        )
    parts += _section("Learning rates", _learning_rates_table(result))
    parts += _section("Training examples until mastered", _mastery_table(result))
    kinds = f"{METRICS['exact_match']} by {_kind_name(result)}"
    parts += _section(kinds, _kinds_table(result))
    parts += _section("Samples", format_samples(result))
    return "\n\n".join(parts) + "\n"


def _section(title: str, *parts: str) -> list[str]:
    """A title and what stands below it, if anything does."""
    filled = [part for part in parts if part]
    return [f"## {title}", *filled] if filled else []


def _preface(result: dict) -> str:
    at_most = "at most " if result["budget"] == "paper" else ""
    lines = [
        f"Every cell was trained on {at_most}{result['num_training_examples']:,} examples and "
        "tested on held-out ones at its target. Where there are two seeds, both are given.",
        "A difference is called one (**bold**) only where it is larger than the 95% margin of "
        "error, which counts seeds and the choice of the test set, and than the range of either "
        "cell's seeds (for a cell run once, the figure's largest); else it stands in brackets.",
    ]
    for metric in METRICS:
        spread = seeds_spread(result, metric)
        if spread is None:
            lines.append(f"No cell has two seeds, so no difference in {metric} is called one.")
        else:
            largest, deviation = (report.format_rate(rate, 3) for rate in spread[:2])
            lines.append(
                f"Seeds in {metric}: largest range {largest}, standard deviation {deviation} "
                f"({spread.degrees} degrees of freedom)."
            )
    lines.append("Of equal pairs about one in twenty is called different by chance.")
    lines += _stopped_on_the_way(result)
    if result["missing"]:
        lines.append(f"{len(result['missing'])} cells are missing.")
    return " ".join(lines)


def _stopped_on_the_way(result: dict) -> list[str]:
    """A sentence about the cells whose curriculum had not come to the target when they ended."""
    stopped = []
    for cell in shown(result):
        target = {"length": cell["target_length"], "nesting": cell["target_nesting"]}
        if cell["reached"] != target:
            at = "length {length}, nesting {nesting}".format(**cell["reached"])
            stopped.append(f"{cell['name']} (at {at})")
    return [f"Ended before they came to their target: {'; '.join(stopped)}."] if stopped else []


def rates_table(result: dict, metric: str) -> str:
    """Each strategy's rates at each place, one a seed, beside copying and chance."""
    drawn = strategies(result)
    header = [result["figure"], *drawn, "answer_in_program"]
    header += ["chance"] if metric == "token_accuracy" else []
    rows = []
    for name, settings in places(result).items():
        row = [name]
        for strategy in drawn:
            found = measured(result, metric, strategy=strategy, **settings)
            row.append(" / ".join(report.format_rate(m.rate, 3) for m in found))
        row.append(report.format_rate(mean(measured(result, "answer_in_program", **settings)), 3))
        if metric == "token_accuracy":
            row.append(report.format_rate(result["cells"][0]["chance_token_accuracy"], 3))
        rows.append(row)
    return report.format_markdown(header, rows) if rows else ""


def _differences_table(result: dict, metric: str) -> str:
    """Strategies compared in pairs at each place, and how often the first is the better one."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(strategies(result))]
    columns = []
    for pair in pairs:
        found = []
        for settings in places(result).values():
            first, second = ({"strategy": strategy, **settings} for strategy in pair)
            found.append(compare(result, metric, first, second))
        columns.append([*map(_format_difference, found), _count(found)])
    if not columns:
        return ""
    names = [*places(result), "better / undecided / worse"]
    header = [result["figure"], *(f"{first} - {second}" for first, second in pairs)]
    rows = [list(row) for row in zip(names, *columns, strict=True)]
    return f"Differences in {metric}:\n\n{report.format_markdown(header, rows)}"


def _count(found: list[Difference | None]) -> str:
    """In how many places the first of two is better, not told apart, and worse.

    >>> better, same = Difference(0.1, 0.01, True), Difference(-0.1, 0.2, False)
    >>> _count([better, same, better, None])
    '2 / 1 / 0'
    """
    compared = [difference for difference in found if difference]
    better = sum(difference.significant and difference.value > 0 for difference in compared)
    worse = sum(difference.significant and difference.value < 0 for difference in compared)
    return f"{better} / {len(compared) - better - worse} / {worse}"


def _other_differences_table(result: dict, metric: str) -> str:
    """Input forms or optimizers compared in pairs within each strategy, in the figures of them."""
    pairs = OTHER_PAIRS.get(result["figure"], ())
    header = ["strategy", *(f"{first} - {second}" for _, first, second in pairs)]
    rows = []
    for strategy in strategies(result):
        row = [strategy]
        for key, *names in pairs:
            first, second = ({"strategy": strategy, key: name} for name in names)
            row.append(_format_difference(compare(result, metric, first, second)))
        rows.append(row)
    return report.format_markdown(header, rows) if pairs and rows else ""


def _format_difference(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"**{found.value:+.3f}**" if found.significant else f"({found.value:+.3f})"


def _learning_rates_table(result: dict) -> str:
    """How each learning rate fared that was tried."""
    trials = {
        (cell["optimizer"], cell["learning_rate"]): cell["target_validation"]
        for cell in result["cells"]
        if cell["choosing"]
    }
    if not trials:
        return ""
    rows = []
    for optimizer, rates in BUDGETS[result["budget"]].learning_rates.items():
        chosen = result["learning_rates"].get(optimizer)
        for rate in rates:
            score = trials.get((optimizer, rate))
            if score:
                found = [report.format_rate(score[metric] or 0.0, 3) for metric in METRICS]
            else:
                found = ["diverged" if result["learning_rates"] else ""] * len(METRICS)
            note = f"chosen{_edge(rates, rate)}" if rate == chosen else ""
            rows.append([optimizer, f"{rate:g}", *found, note])
    header = ["optimizer", "learning rate", *(f"validation {metric}" for metric in METRICS), ""]
    return report.format_markdown(header, rows)


def _edge(tried: Sequence[float], chosen: float) -> str:
    """Says if a chosen rate is the lowest or highest tried, where a better one may lie beyond."""
    edges = {min(tried): ", the lowest tried", max(tried): ", the highest tried"}
    return edges.get(chosen, "") if len(tried) > 1 else ""


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
    return report.format_markdown(header, rows) if lengths and rows else ""


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
    header = [result["figure"], "strategy", *columns]
    return report.format_markdown(header, rows) if rows else ""


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
