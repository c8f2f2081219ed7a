"""What benchmarks share that train a recipe again and again, each time with something changed.

One run on each core, as `reproduce` runs its cells: a stopped one goes on, finished ones are
skipped.
"""

import argparse
import statistics
from pathlib import Path

import measuring
from absl import flags

from keras_l2e import command_line
from keras_l2e import config as run_flags
from keras_l2e import tables as report
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.files import write_text
from keras_l2e.paper import comparisons, runner
from keras_l2e.paper.cells import Cell


def parse(description: str) -> argparse.Namespace:
    """The command line of such a benchmark: where its runs, its data and its results lie."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--draw_only", action="store_true", help="run nothing")
    return parser.parse_args()


def read_recipe(flagfile: str) -> dict:
    """The values of the flags in an installed flagfile."""
    lines = command_line.read_flagfile(command_line.find_flagfile(flagfile))
    values = flags.FlagValues()
    run_flags.define(values)
    values(["", *lines, "--workdir=W"])
    names = [line.removeprefix("--").partition("=")[0] for line in lines]
    return {name: values[name].value for name in names}


def run(wanted: list[Cell], folder: Path, data_dir: str) -> None:
    """Trains what is missing of the cells; exits with one line if some fail."""
    try:
        runner.run(wanted, folder, data_dir)
    except (UsageError, WorkError) as error:
        raise SystemExit(f"error: {error}") from None


def collect(arguments: argparse.Namespace, name: str, wanted: dict) -> dict:
    """Trains the cells in a folder of this name, unless only drawing, and measures what is done.

    Returns:
        for each key of `wanted` (key -> `Cell`) whose run is finished, what `measure` finds.
    """
    folder = arguments.workdir / name
    if not arguments.draw_only:
        run(list(wanted.values()), folder, arguments.data_dir)
    measured = {key: measure(folder / cell.name) for key, cell in wanted.items()}
    found = {key: result for key, result in measured.items() if result}
    if not found:
        raise SystemExit(f"error: no run in {folder} is done")
    return found


def measure(folder: Path) -> dict | None:
    """What a finished run with --validate_all_levels has come to; None if it is not finished.

    Returns:
        num_examples, seconds: of all its epochs.
        mastered: for each length the examples and seconds until it was first mastered
            (`comparisons.mastered`), None if it never was.
        rows: of evaluation.json.
    """
    if not (folder / "evaluation.json").exists():
        return None
    history = report.read_history(folder / "history.jsonl")
    timed = runner.read_seconds(folder)
    # A stop may have cost an epoch its line.
    usual = statistics.median(timed.values())
    spent, seconds = {}, 0.0
    for line in history:
        seconds += timed.get(line["epoch"], usual)
        spent[line["num_examples"]] = round(seconds, 1)
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
        "seconds": round(seconds, 1),
        "mastered": mastered,
        "rows": report.read_evaluation(folder / "evaluation.json")["rows"],
    }


def write(output: Path, name: str, result: dict, table: str) -> None:
    """Writes what the runs have come to, with the environment as NAME.json, and as NAME.md."""
    output.mkdir(parents=True, exist_ok=True)
    measuring.write(output / f"{name}.json", result)
    write_text(output / f"{name}.md", table + "\n")
    print(table + "\n")
