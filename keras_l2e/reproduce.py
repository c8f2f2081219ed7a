"""Reproduces a figure of the paper: runs its cells, as far as they are missing, and draws it.

    python -m keras_l2e.reproduce --figure=addition --budget=cpu --workdir=W

Every cell is a training run of its own, with its flagfile, in W/FIGURE. Finished cells are skipped
and stopped ones go on.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from keras_l2e import command_line, settings
from keras_l2e.errors import WorkError
from keras_l2e.paper import runner
from keras_l2e.paper.cells import BUDGETS, FIGURES, cells

# What `--output` keeps of a cell.
KEPT = ("flags.cfg", "history.jsonl", "evaluation.json", "timing.jsonl", "log.txt")


@dataclass
class Arguments:
    """What the command is told."""

    figure: str = settings.choice("", FIGURES, "The figure to reproduce.", required=True)
    budget: str = settings.choice(
        "cpu",
        BUDGETS,
        "How large: smoke shows in minutes that all works, cpu takes hours on two cores, paper has "
        "the paper's own settings and wants a GPU.",
    )
    workdir: str = settings.path("", "Folder of the cells.", required=True)
    data_dir: str = settings.path(
        "~/keras_l2e_data", "Folder of prepared data; what is missing is prepared."
    )
    output: str = settings.path(
        "",
        "Folder for the figure, and for what is worth keeping of its cells; by default the figure "
        "lies in the workdir.",
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
    try:  # Before hours of training.
        from keras_l2e.paper import comparisons, figures
    except ModuleNotFoundError as error:
        raise WorkError(f"{error.name} is missing; install keras_l2e[paper]") from None
    folder = command_line.check_folder("workdir", arguments.workdir) / arguments.figure
    output = command_line.check_folder("output", arguments.output or arguments.workdir)
    command_line.check_folder("data_dir", arguments.data_dir)
    if not arguments.draw_only:
        run(arguments, folder)
    result = comparisons.collect(arguments.figure, arguments.budget, folder)
    for path in figures.write(result, output):
        print(path)
    if output.resolve() != folder.parent.resolve():
        keep([cell["name"] for cell in result["cells"]], folder, output / arguments.figure)


def run(arguments: Arguments, folder: Path) -> None:
    """Says what the cells of the figure are, and runs those that are missing."""
    wanted = cells(arguments.figure, arguments.budget)
    at_most = "at most " if wanted[0].flags.get("min_learning_rate") else ""
    counts = " or ".join(f"{n:,}" for n in dict.fromkeys(cell.num_examples for cell in wanted))
    print(
        f"{arguments.figure}: {len(wanted)} cells, {at_most}{counts} training examples each",
        flush=True,
    )
    at_once = arguments.cells_at_once or int(arguments.budget == "paper")
    runner.run(wanted, folder, arguments.data_dir, at_once)


def keep(names: list[str], folder: Path, output: Path) -> None:
    """Copies what is worth keeping of finished cells from one folder to another."""
    for name in (f"{name}/{file}" for name in names for file in KEPT):
        if (folder / name).exists():
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, output / name)


if __name__ == "__main__":
    command_line.run(reproduce, Arguments)
