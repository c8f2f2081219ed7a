"""What the cells of a figure have measured, and which of their differences are real.

    result = collect("addition", "cpu", Path("W/addition"))
    sets = seed_sets(at_targets(result), "exact_match")
    compare(sets, ("length 9", "combined"), ("length 9", "naive"))

Cells that are missing are left out. Two numbers are called different only where `difference` says
so; here of two seeds and of one, each tested on 5,000 examples:

    >>> import numpy as np
    >>> a = Measured(np.array([0.90, 0.94]), np.array([5000, 5000]))
    >>> b = Measured(np.array([0.80]), np.array([5000]))
    >>> difference(a, b, Spread(largest=0.04, deviation=0.02, degrees=4))
    Difference(value=0.12, margin=0.069315, significant=True)
    >>> difference(a, b, Spread(largest=0.2, deviation=0.02, degrees=4)).significant
    False
"""

import contextlib
import itertools
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from keras_l2e.errors import WorkError
from keras_l2e.paper.cells import Cell, cells, check_flags, name_network
from keras_l2e.tables import breakdown, read_evaluation, read_history
from keras_l2e.teaching.teachers import TEACHERS

# What tells cells apart.
SETTINGS = ["strategy", "seed", "input_form", "optimizer", "learning_rate"]
SETTINGS += ["target_length", "target_nesting"]
# Where strategies are compared: the name of the place in which a cell stands.
PLACES = {
    "addition": "length {target_length}",
    "programs": "length {target_length}, nesting {target_nesting}",
    "memorization": "{input_form}",
    "optimizers": "{optimizer}",
    "teachers": "{task}",
}
# Of rows with their cell's settings, those at its target.
AT_TARGET = "length == target_length and nesting == target_nesting"
# Accuracy above which a difficulty counts as mastered (the paper's, see `teachers`).
MASTERED = 0.95
# By what, where it is not the paper's token_accuracy.
MASTERED_BY = {"teachers": "exact_match", "models": "exact_match"}
# Nearer than this to 0 or 1 a rate says little of how far seeds lie apart elsewhere; of so many
# sets of seeds that are not, it is known without.
END, ENOUGH = 0.01, 5


class Measured(NamedTuple):
    """Rates of cells that are equal but for their seeds, and the test examples behind each."""

    rates: np.ndarray
    counts: np.ndarray


# (place, strategy) -> what its cells have measured.
Sets = dict[tuple[str, str], Measured]


class Spread(NamedTuple):
    """How far rates of cells that are equal but for their seeds lie apart.

    Attributes:
        largest: the largest rate of such cells minus their smallest.
        deviation: the standard deviation, pooled over all sets of such cells.
        degrees: its degrees of freedom: cells beyond the first of each set.
    """

    largest: float
    deviation: float
    degrees: int


class Difference(NamedTuple):
    """How far two sets of cells are apart.

    Attributes:
        value: mean of the first set - mean of the second.
        margin: what chance may make of no difference: see `difference`.
        significant: whether the value is larger than the margin, and the seeds' spread known.
    """

    value: float
    margin: float
    significant: bool


def collect(figure: str, budget: str, folder: Path) -> dict:
    """What the finished cells of a figure have measured: the content of FIGURE.json.

    Args:
        figure, budget: names in `cells.FIGURES` and `cells.BUDGETS`.
        folder: the folder of the cells.

    Raises:
        UsageError: a cell was run with other flags, for another budget.
        WorkError: a finished cell's files are broken, or no cell is finished.
    """
    wanted = cells(figure, budget)
    check_flags(wanted, folder)
    found = [cell for cell in wanted if (folder / cell.name / "evaluation.json").exists()]
    if not found:
        raise WorkError(f"no cell of the figure {figure} in {folder} is done")
    return {
        "figure": figure,
        "budget": budget,
        "num_training_examples": max(cell.num_examples for cell in wanted),
        "missing": [cell.name for cell in wanted if cell not in found],
        "cells": [_read(figure, cell, folder / cell.name) for cell in found],
    }


def _read(figure: str, cell: Cell, folder: Path) -> dict:
    """One cell's settings and what it measured."""
    try:
        evaluation = read_evaluation(folder / "evaluation.json")
        history = read_history(folder / "history.jsonl")
        last = history[-1]
        return {
            "name": cell.name,
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
            "mastered": mastered(history, MASTERED_BY.get(figure, "token_accuracy")),
            **(_watched(folder, history) if figure == "teachers" else {}),
            **(_network(cell, folder, evaluation, history) if figure == "models" else {}),
            "rows": evaluation["rows"],
            "kinds": _kinds(evaluation),
            "samples": evaluation["samples"],
        }
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise WorkError(f"{folder} is no whole cell: {error}") from None


def _kinds(evaluation: dict) -> list[dict]:
    """How each kind of program fares at the target, where an evaluation tells kinds apart."""
    kind, _, found = breakdown(evaluation) or ("", "", [])
    names = ("num_examples", "token_accuracy", "exact_match")
    return [{"kind": str(entry[kind]), **{name: entry[name] for name in names}} for entry in found]


def _network(cell: Cell, folder: Path, evaluation: dict, history: list[dict]) -> dict:
    """Which network a cell has trained, what that took, and how far it was after each epoch.

    The curve's seconds are those of training, without validation; its rates are means over levels.
    """
    timed = read_timing(folder)
    rates = ("exact_match", "free_token_accuracy")
    training_seconds = spent_seconds(timed, history, validation=False)
    return {
        **{name: cell.flags[name] for name in ("model", "target_form")},
        "network": name_network(cell.flags),
        "num_parameters": evaluation["num_parameters"],
        "most_memory_mib": max(line["most_memory_mib"] for line in timed.values()),
        "num_validated": sum(level["num_examples"] for level in history[-1]["levels"]),
        "curve": [
            {
                "num_examples": line["num_examples"],
                "seconds": seconds,
                **{name: mean_of_levels(line, name) for name in rates},
            }
            for line, seconds in zip(history, training_seconds, strict=True)
        ],
    }


def mean_of_levels(line: dict, name: str) -> float:
    """A rate in a line of history.jsonl, all levels counting alike; one without examples is 0."""
    return statistics.mean(level[name] or 0.0 for level in line["levels"])


def _watched(folder: Path, history: list[dict]) -> dict:
    """What a cell taught in every epoch and what came of it, and what looking at that took."""
    epochs = [line["levels"] for line in history]
    by_level = {
        name: [[round(level[name] or 0.0, 3) for level in epoch] for epoch in epochs]
        for name in ("share", "exact_match")
    }
    levels = [[level["length"], level["nesting"]] for level in epochs[0]]
    timed = read_timing(folder).values()
    looking, all_seconds = (
        sum(line[name] for line in timed) for name in ("validation_seconds", "seconds")
    )
    return {
        "watched": {"levels": levels, **by_level},
        "validation_share": round(looking / all_seconds, 3),
    }


def read_timing(folder: Path) -> dict[int, dict]:
    """The lines of a run's timing.jsonl by their epoch, as far as they can be read.

    A run killed just after a checkpoint lacks the line of that epoch, or has half of it.
    """
    epochs = {}
    for line in (folder / "timing.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            epochs[entry["epoch"]] = entry  # A killed epoch is timed again.
    return epochs


def spent_seconds(
    timed: dict[int, dict], history: list[dict], validation: bool = True
) -> list[float]:
    """Seconds from a run's start to the end of each epoch of its history.

    Args:
        timed: of `read_timing`.
        history: the lines of history.jsonl.
        validation: whether those of validation count.
    """
    seconds = {
        epoch: line["seconds"] - (0 if validation else line["validation_seconds"])
        for epoch, line in timed.items()
    }
    # A stop may have cost an epoch its line.
    usual = statistics.median(seconds.values())
    spent = itertools.accumulate(seconds.get(line["epoch"], usual) for line in history)
    return [round(seconds, 1) for seconds in spent]


def mastered(history: list[dict], metric: str = "token_accuracy") -> list[dict]:
    """The training examples seen when each difficulty was first mastered.

    Mastered is a difficulty whose validation accuracy is above 0.95 after an epoch, whatever is
    trained at that time; it need not stay so. Very small difficulties are judged by training
    examples, as by the teacher.

    Returns:
        One entry for each difficulty of a run with --validate_all_levels, `num_examples` None where
        it was never mastered; nothing for other runs.
    """
    found = {}
    for line in history:
        for level in line.get("levels", []):
            key = (level["length"], level["nesting"])
            if found.get(key) is None:
                accuracy = level[metric] or 0.0
                found[key] = line["num_examples"] if accuracy > MASTERED else None
    return [
        {"length": length, "nesting": nesting, "num_examples": seen}
        for (length, nesting), seen in found.items()
    ]


def entries(result: dict, name: str) -> pd.DataFrame:
    """A row for each entry of one list of a figure's cells.

    Args:
        result: of `collect`.
        name: `rows`, `kinds` or `samples`.

    Returns:
        The entries' columns, then those of SETTINGS, then `place`. Places and strategies are
        categories in their order in the figure, of those alone that occur.
    """
    cells = result["cells"]
    found = pd.json_normalize(cells, name, SETTINGS).infer_objects()
    places = [PLACES[result["figure"]].format_map(cell) for cell in cells]
    found["place"] = np.repeat(places, [len(cell[name]) for cell in cells])
    strategies = [name for name in TEACHERS if any(c["strategy"] == name for c in cells)]
    orders = {"place": list(dict.fromkeys(places)), "strategy": strategies}
    return found.astype({key: pd.CategoricalDtype(order) for key, order in orders.items()})


def at_targets(result: dict) -> pd.DataFrame:
    """The rows of `entries` in which each cell is tested at its target: what the figure shows."""
    return entries(result, "rows").query(AT_TARGET)


def by_place(rows: pd.DataFrame, *others: str):
    """Rows grouped by place and strategy, cells of one group being equal but for their seeds."""
    return rows.groupby(["place", "strategy", *others], observed=True)


def seed_sets(rows: pd.DataFrame, metric: str) -> Sets:
    """For each place and strategy what its cells have measured, one a seed.

    Args:
        rows: of `at_targets`.
        metric: a name in `tables.RATES`.
    """
    columns = [metric, "num_examples"]
    return {key: Measured(*cells[columns].to_numpy().T) for key, cells in by_place(rows)}


def seeds_spread(sets: Iterable[Measured]) -> Spread | None:
    """The spread of seeds within sets of cells; None if no set has several.

    Sets at one end, where nothing or everything is right whatever the seed, count only where few
    others are.
    """
    several = [rates for rates, _ in sets if len(rates) > 1]
    if not several:
        return None
    between = [rates for rates in several if END < rates.mean() < 1 - END]
    if len(between) >= ENOUGH:
        several = between
    degrees = sum(len(rates) - 1 for rates in several)
    deviation = math.sqrt(sum(len(rates) * rates.var() for rates in several) / degrees)
    return Spread(max(float(np.ptp(rates)) for rates in several), deviation, degrees)


def compare(sets: Sets, first: tuple[str, str], second: tuple[str, str]) -> Difference | None:
    """The difference between cells of two (place, strategy); None if either was not run."""
    if first == second or not {first, second} <= sets.keys():
        return None
    return difference(sets[first], sets[second], seeds_spread(sets.values()))


def difference(first: Measured, second: Measured, spread: Spread | None) -> Difference:
    """Compares two sets of cells that are equal but for their seeds.

    The margin is the 95% margin of error, from the seeds (Student's t) and from the choice of test
    examples (normal), and no less than the range of either set; a set of one cell has the largest
    range seen.

    Args:
        first, second: at least one cell each.
        spread: of all cells of their kind; where it is unknown nothing is significant.
    """
    value = first.rates.mean() - second.rates.mean()
    margin = stats.norm.ppf(0.975) * math.sqrt(_variance(first) + _variance(second))
    if spread:
        sets = math.sqrt(1 / len(first.rates) + 1 / len(second.rates))
        seeds = stats.t.ppf(0.975, spread.degrees) * spread.deviation * sets
        ranges = [np.ptp(x) if len(x) > 1 else spread.largest for x, _ in (first, second)]
        margin = max(math.hypot(margin, seeds), *ranges)
    significant = spread is not None and abs(value) > margin
    return Difference(round(float(value), 6), round(float(margin), 6), bool(significant))


def _variance(measured: Measured) -> float:
    """The variance of the mean rate that the choice of the test examples alone makes.

    All seeds are tested on the same examples, so more of them do not lower it. Positions of one
    answer hang together, so token accuracies count examples, too; and rates of 0 and 1 are taken
    for a little less sure than they seem (Agresti and Coull).
    """
    counts = measured.counts + 4
    rates = (measured.rates * measured.counts + 2) / counts
    return (rates * (1 - rates) / counts).mean()
