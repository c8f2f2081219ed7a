"""Reproduces a figure of the paper: runs its cells, as far as they are missing, and draws it.

    python -m keras_l2e.reproduce --figure=addition --budget=cpu --workdir=W

Every cell is a training run of its own, with its flagfile, in W/FIGURE. Finished cells are skipped
and stopped ones go on.
"""

from dataclasses import dataclass

from keras_l2e import command_line, settings
from keras_l2e.paper import runner
from keras_l2e.paper.cells import BUDGETS, FIGURES, cells


@dataclass(frozen=True)
class Arguments(settings.Settings):
    """What the command is told."""

    figure: str = settings.choice("", FIGURES, "The figure to reproduce.", required=True)
    budget: str = settings.choice(
        "cpu",
        BUDGETS,
        "How large: smoke shows in minutes that all works, cpu takes hours on two cores, paper has "
        "the paper's own settings and wants a GPU.",
    )
    workdir: str = settings.path("", "Folder of the figure and of its cells.", required=True)
    data_dir: str = settings.path(
        "~/keras_l2e_data", "Folder of prepared data; what is missing is prepared.", required=True
    )
    cells_at_once: int = settings.integer(
        0,
        "Cells that run at the same time; the CPU's cores are dealt out among them. 0: one for "
        "each core, which is quickest for small networks; with --budget=paper one.",
        lower=0,
    )
    draw_only: bool = settings.boolean(
        False, "Run nothing; draw the figure of the cells that are done."
    )


def reproduce(arguments: Arguments) -> None:
    """Runs what is missing of a figure and draws it.

    Raises:
        UsageError: an argument is wrong, the folder holds the cells of another budget, or another
            process runs cells there.
        WorkError: cells failed.
    """
    from keras_l2e.paper import comparisons, figures  # Slow to import, as pandas is.

    workdir = command_line.check_folder("workdir", arguments.workdir)
    figure, budget = arguments.figure, arguments.budget
    if not arguments.draw_only:
        wanted = cells(figure, budget)
        at_most = "at most " if any(cell.may_end_early for cell in wanted) else ""
        counts = dict.fromkeys(f"{cell.num_examples:,}" for cell in wanted)
        said = f"{len(wanted)} cells, {at_most}{' or '.join(counts)} training examples each"
        print(f"{figure}: {said}", flush=True)
        at_once = arguments.cells_at_once or int(budget == "paper")
        runner.run(wanted, workdir / figure, arguments.data_dir, at_once)
    result = comparisons.collect(figure, budget, workdir / figure)
    for path in figures.write(result, workdir):
        print(path)


if __name__ == "__main__":
    command_line.run(reproduce, Arguments)
