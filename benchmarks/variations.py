"""What benchmarks share that train a recipe again and again, each time with something changed.

One run on each core, as `reproduce` runs its cells: a stopped one goes on, finished ones are
skipped.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import measuring

from keras_l2e import command_line, config, tables
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.files import write_text
from keras_l2e.paper import comparisons, runner


def parse(description: str) -> argparse.Namespace:
    """The command line of such a benchmark: where its runs, its data and its results lie."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data_dir", default="~/keras_l2e_data", help="folder of prepared data")
    parser.add_argument("--output", type=Path, help="by default where the runs lie")
    parser.add_argument("--draw_only", action="store_true", help="run and measure nothing")
    return parser.parse_args()


def read_recipe(flagfile: str) -> dict:
    """The values of the flags in an installed flagfile."""
    path = command_line.find_flagfile(flagfile)
    found = command_line.parse(config.Run, ["", f"--flagfile={path}", "--workdir=W"])
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    names = [line.removeprefix("--").partition("=")[0] for line in lines]
    return {name: getattr(found, name) for name in names}


def measure_levels(folder: Path) -> dict:
    """What a finished run with --validate_all_levels has come to.

    Returns:
        num_examples, seconds: of all its epochs.
        mastered: for each length the examples and seconds until it was first mastered
            (`comparisons.mastered`), None if it never was.
        rows: of evaluation.json.
    """
    history = tables.read_history(folder / "history.jsonl")
    seconds = comparisons.spent_seconds(comparisons.read_timing(folder), history)
    spent = {line["num_examples"]: time for line, time in zip(history, seconds, strict=True)}
    mastered = [
        {
            "length": level["length"],
            "num_examples": level["num_examples"],
            "seconds": spent.get(level["num_examples"]),
        }
        for level in comparisons.mastered(history)
    ]
    return {
        "num_examples": history[-1]["num_examples"],
        "seconds": seconds[-1],
        "mastered": mastered,
        "rows": tables.read_evaluation(folder / "evaluation.json")["rows"],
    }


def collect(
    arguments: argparse.Namespace,
    name: str,
    wanted: dict,
    measure: Callable[[Path], dict] = measure_levels,
    command: Sequence[str] = runner.COMMAND,
) -> tuple[dict, list[str]]:
    """Trains the cells in a folder of this name, unless only drawing, and measures what is done.

    Cells with settings that are gone are not trained; where an earlier release has run them they
    are measured with the others.

    Args:
        arguments: of `parse`.
        name: of the benchmark.
        wanted: key -> `Cell`.
        measure: what is found in the folder of a finished run.
        command: see `runner.run`.

    Returns:
        For each key whose run is finished what is found there; the names of cells without a run.
    """
    folder = arguments.workdir / name
    cells = [cell for cell in wanted.values() if not cell.flags.keys() & {*config.REMOVED}]
    if not arguments.draw_only:
        try:
            runner.run(cells, folder, arguments.data_dir, command=command)
        except (UsageError, WorkError) as error:
            raise SystemExit(f"error: {error}") from None
    done = {key: cell for key, cell in wanted.items() if runner.is_done(cell, folder)}
    if not done:
        raise SystemExit(f"error: no run in {folder} is done")
    found = {key: measure(folder / cell.name) for key, cell in done.items()}
    return found, [cell.name for cell in cells if cell not in done.values()]


def write(arguments: argparse.Namespace, name: str, result: dict, table: str) -> Path:
    """Writes NAME.md, and NAME.json with the environment if something was run; gives the folder."""
    output = arguments.output or arguments.workdir / name
    output.mkdir(parents=True, exist_ok=True)
    if not arguments.draw_only:  # Elsewhere than where the runs were timed, perhaps.
        measuring.write(output / f"{name}.json", result)
    write_text(output / f"{name}.md", table + "\n")
    print(table + "\n")
    return output
