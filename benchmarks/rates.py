"""Which learning rate each network of the figure `models` takes best, in its first epochs.

    python benchmarks/rates.py --workdir=W

On doubled digits and on programs with their work, by what validation comes to: the mean over all
levels and the last epochs. Leaves rates.json and rates.md.
"""

import statistics
from pathlib import Path

import variations

from keras_l2e import tables
from keras_l2e.paper import cells as paper_cells
from keras_l2e.paper import comparisons
from keras_l2e.paper.cells import Cell
from keras_l2e.paper.tables import rates_text

PLACES = ("double_answer", "program_reversed_trace")
# More where the largest of these is the best.
SMALLER = (1e-3, 2e-3, 4e-3, 1e-2)
LEARNING_RATES = {
    "lstm": (*SMALLER, 2e-2),
    "attention": (*SMALLER, 2e-2),
    "transformer": SMALLER,
    "universal_transformer": SMALLER,
}
SHORTER = {"num_epochs": 5, "test_examples": 100}
# Epochs whose validation counts: one alone looks at few examples of a level.
LOOKS = 2
# Whole answers come late.
RATES = ("token_accuracy", "exact_match")


def cells() -> dict[tuple[str, float], Cell]:
    """(cell of the figure, learning rate) -> its run."""
    chosen = {}
    for cell in paper_cells.cells("models", "cpu"):
        if cell.name.startswith(PLACES):  # A model's second network takes the rate of its first.
            chosen.setdefault((cell.flags["task"], cell.flags["model"]), cell)
    found = {}
    for cell in chosen.values():
        for rate in LEARNING_RATES[cell.flags["model"]]:
            flags = cell.flags | {"learning_rate": rate, **SHORTER}
            name = f"{cell.name}_rate_{rate:g}".replace(".", "_")
            found[cell.name, rate] = Cell(name, flags)
    return found


def measure(folder: Path) -> dict:
    """The rates of a finished run in its last epochs, all levels counting alike."""
    history = tables.read_history(folder / "history.jsonl")
    means = {
        rate: statistics.mean(comparisons.mean_of_levels(line, rate) for line in history[-LOOKS:])
        for rate in RATES
    }
    return {"num_examples": history[-1]["num_examples"], **means}


def format_table(found: dict) -> str:
    """A line for each cell of the figure, a column for each rate."""
    rates = sorted({rate for _, rate in found})
    lines = []
    for name in dict.fromkeys(name for name, _ in found):
        runs = [found.get((name, rate)) for rate in rates]
        texts = (rates_text([run[rate] for rate in RATES]) if run else "" for run in runs)
        lines.append([name, *texts])
    return tables.format_markdown(["cell", *(f"{rate:g}" for rate in rates)], lines)


def main() -> None:
    arguments = variations.parse(__doc__)
    found, missing = variations.collect(arguments, "rates", cells(), measure)
    runs = [{"cell": name, "learning_rate": rate, **run} for (name, rate), run in found.items()]
    table = format_table(found)
    variations.write(arguments, "rates", {"missing": missing, "runs": runs}, table)


if __name__ == "__main__":
    main()
