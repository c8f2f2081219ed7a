"""How wide a network must be for sums of a given length: the longest ones mastered, by its cells.

    python benchmarks/width.py --workdir=W

The recipe of a flagfile at another width, on longer and longer sums; every run sees the same number
of training examples. A length is mastered when the validation's token_accuracy there was above 0.95
after an epoch. Leaves width.json, width.md and width.png.
"""

import statistics

import matplotlib
import variations
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_l2e import plots, tables
from keras_l2e.paper.cells import Cell

FLAGFILE = "addition_9.cfg"
WIDTHS = (32, 64, 128, 256)
SEEDS = (1, 2)
# More digits than any of them gets to, so that no run stands at its target and lowers its rate.
CHANGES = {
    "target_length": 32,
    "advance_threshold": 0.95,
    "num_epochs": 80,
    "validate_all_levels": True,
    "validation_examples": 100,
    "test_examples": 1_000,
}


def cells() -> dict[tuple[int, int], Cell]:
    """(cells, seed) -> its run."""
    recipe = variations.read_recipe(FLAGFILE) | CHANGES
    return {
        (width, seed): Cell(
            f"width_{width}_seed_{seed}", recipe | {"hidden_dim": width, "seed": seed}
        )
        for width in WIDTHS
        for seed in SEEDS
    }


def longest(mastered: list[dict]) -> int:
    """The greatest length mastered; 0 if none was."""
    return max((level["length"] for level in mastered if level["num_examples"]), default=0)


def format_table(runs: list[dict]) -> str:
    """One line a run."""
    header = ["cells", "seed", "training examples", "longest length mastered, digits", "minutes"]
    rows = [
        [
            str(run["hidden_dim"]),
            str(run["seed"]),
            f"{run['num_examples']:,}",
            str(run["longest_mastered"]),
            f"{run['seconds'] / 60:.1f}",
        ]
        for run in runs
    ]
    return tables.format_markdown(header, rows)


def draw(runs: list[dict]) -> Figure:
    """A dot for each run, and a line through the means."""
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.new_figure(height=3.2)
        axes = figure.subplots()
        by_width = {}
        for run in runs:
            by_width.setdefault(run["hidden_dim"], []).append(run["longest_mastered"])
        widths = list(by_width)
        means = [statistics.mean(found) for found in by_width.values()]
        axes.plot(widths, means, color="0.6")
        for width, found in by_width.items():
            axes.plot([width] * len(found), found, "o", color=plots.BLUE, clip_on=False)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, widths)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(
            xlabel="LSTM cells in the encoder and in the decoder",
            ylabel="longest sums mastered (digits)",
            title=f"Addition: {runs[0]['num_examples']:,} training examples each",
        )
        return figure


def main() -> None:
    arguments = variations.parse(__doc__)
    found, missing = variations.collect(arguments, "width", cells())
    runs = [
        {"hidden_dim": width, "seed": seed, "longest_mastered": longest(result["mastered"])}
        | result
        for (width, seed), result in found.items()
    ]
    result = {"flagfile": FLAGFILE, "changes": CHANGES, "missing": missing, "runs": runs}
    output = variations.write(arguments, "width", result, format_table(runs))
    plots.save_figure(draw(runs), output / "width.png")


if __name__ == "__main__":
    main()
