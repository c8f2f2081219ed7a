"""What the cells of a figure have measured, and which of their differences are real.

    result = collect("addition", "cpu", Path("W/addition"))
    compare(result, "exact_match", {"strategy": "combined"}, {"strategy": "naive"})

Cells that are missing are left out. Two numbers are called different only where `difference` says
so:

    >>> a, b = [Measured(0.90, 5000), Measured(0.94, 5000)], [Measured(0.80, 5000)]
    >>> difference(a, b, Spread(largest=0.04, deviation=0.02, degrees=4))
    Difference(value=0.12, margin=0.069304, significant=True)
    >>> difference(a, b, Spread(largest=0.2, deviation=0.02, degrees=4)).significant
    False
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_l2e import tables as report
from keras_l2e.errors import WorkError
from keras_l2e.paper.cells import OPTIMIZERS, STRATEGIES, Cell, cells

METRICS = {
    "token_accuracy": "token_accuracy (teacher-forced, the paper's)",
    "exact_match": "exact_match (free-running)",
}
RATES = ("token_accuracy", "exact_match", "free_token_accuracy", "answer_in_program")
# Token accuracy above which a difficulty counts as mastered (the paper's, see `curriculum`).
MASTERED = 0.95
# Student's t for 1, 2, 3... degrees of freedom, two-sided, 95%.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Measured(NamedTuple):
    """A rate of one cell, and the number of test examples that gave it."""

    rate: float
    num_examples: int


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


def difference(
    first: Sequence[Measured], second: Sequence[Measured], spread: Spread | None = None
) -> Difference:
    """Compares two sets of cells that are equal but for their seeds.

    The margin is the 95% margin of error, from the seeds (Student's t) and from the choice of test
    examples (normal), and no less than the range of either set; a set of one cell has the largest
    range seen.

    Args:
        first, second: one entry a seed, at least one.
        spread: of all cells of their kind; by default of these two sets. Where neither has several
            seeds, it is unknown and nothing is significant.
    """
    spread = spread or spread_of([first, second])
    value = mean(first) - mean(second)
    margin = 1.96 * math.sqrt(sum(_variance(measured) for measured in (first, second)))
    if spread:
        sets = math.sqrt(1 / len(first) + 1 / len(second))
        margin = math.hypot(margin, _student(spread.degrees) * spread.deviation * sets)
        for measured in (first, second):
            margin = max(margin, _range(measured) if len(measured) > 1 else spread.largest)
    significant = spread is not None and abs(value) > margin
    return Difference(round(value, 6), round(margin, 6), significant)


def spread_of(sets: Iterable[Sequence[Measured]]) -> Spread | None:
    """The spread of seeds within sets of cells; None if no set has several."""
    several = [measured for measured in sets if len(measured) > 1]
    if not several:
        return None
    degrees = sum(len(measured) - 1 for measured in several)
    squares = sum((m.rate - mean(measured)) ** 2 for measured in several for m in measured)
    largest = max(_range(measured) for measured in several)
    return Spread(largest, math.sqrt(squares / degrees), degrees)


def _range(measured: Sequence[Measured]) -> float:
    return max(m.rate for m in measured) - min(m.rate for m in measured)


def _student(degrees: int) -> float:
    """Student's t that 5% exceed in absolute value; from ten degrees on that of ten."""
    return T_95[min(degrees, len(T_95)) - 1]


def _variance(measured: Sequence[Measured]) -> float:
    """The variance of the mean rate that the choice of the test examples alone makes.

    All seeds are tested on the same examples, so more of them do not lower it. Positions of one
    answer hang together, so token accuracies count examples, too; and rates of 0 and 1 are taken
    for a little less sure than they seem (Agresti and Coull).
    """
    total = 0.0
    for rate, count in measured:
        rate = (rate * count + 2) / (count + 4)
        total += rate * (1 - rate) / (count + 4)
    return total / len(measured)


def mean(measured: Sequence[Measured]) -> float:
    """The mean rate of cells that are equal but for their seeds."""
    return sum(m.rate for m in measured) / len(measured)


def collect(figure: str, budget: str, folder: Path, rates: dict[str, float] | None = None) -> dict:
    """What the finished cells of a figure have measured: the content of FIGURE.json.

    Args:
        figure, budget: names in `cells.FIGURES` and `cells.BUDGETS`.
        folder: the folder of the cells.
        rates: the chosen learning rates, for `optimizers`; None as long as they are open.

    Raises:
        WorkError: a finished cell's files are broken.
    """
    wanted = cells(figure, budget, rates)
    found = [cell for cell in wanted if (folder / cell.name / "evaluation.json").exists()]
    # Names do not depend on the rates: cells whose rates are still open are missing, too. A rate
    # that was tried and is not there once rates are chosen has diverged, which is a result.
    expected = cells(figure, budget, rates or dict.fromkeys(OPTIMIZERS, 0.0))
    names = [cell.name for cell in expected if not (cell.choosing and rates)]
    found_names = {cell.name for cell in found}
    return {
        "figure": figure,
        "budget": budget,
        "num_training_examples": wanted[0].num_examples,
        "missing": [name for name in names if name not in found_names],
        "learning_rates": rates or {},
        "cells": [_read(cell, folder / cell.name) for cell in found],
    }


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
        {"kind": str(entry[kind]), **{key: entry[key] for key in ("num_examples", *METRICS)}}
        for kind in report.kinds(evaluation)
        for entry in evaluation[f"by_{kind}"]
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


def seeds_spread(result: dict, metric: str) -> Spread | None:
    """The spread of seeds in the figure; None if no cell was run for two."""
    return spread_of(
        measured(result, metric, strategy=strategy, **settings)
        for settings in places(result).values()
        for strategy in strategies(result)
    )


def compare(result: dict, metric: str, first: dict, second: dict) -> Difference | None:
    """The difference of cells with two settings; None if either was not run."""
    sets = [measured(result, metric, **settings) for settings in (first, second)]
    if not all(sets):
        return None
    return difference(*sets, seeds_spread(result, metric))
