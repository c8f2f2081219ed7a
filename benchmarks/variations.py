"""What benchmarks share that train a recipe again and again, each time with something changed.

One run on each core, as `reproduce` runs its cells: a stopped one goes on, finished ones are
skipped.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import measuring
from absl import flags

from keras_l2e import command_line, report, reproduce, run_flags, runtime
from keras_l2e.cells import Cell
from keras_l2e.files import write_text


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
    """Trains what is missing of the cells."""
    folder.mkdir(parents=True, exist_ok=True)
    reproduce.check_flags(folder, wanted)
    config = SimpleNamespace(
        data_dir=data_dir, dead_after=120.0, num_replicas=0, cells_at_once=runtime.num_cores()
    )
    reproduce.Runner(config, folder).run(reproduce.prepare(folder, wanted))


def measure(folder: Path) -> dict | None:
    """What a finished run has come to; None if it is not finished.

    Returns:
        num_examples, seconds: of all its epochs.
        reached: for each length, in order, the examples and seconds before its first epoch.
        mastered: for each length the best validation token_accuracy while it was the current one.
        rows: of evaluation.json.
    """
    if not (folder / "evaluation.json").exists():
        return None
    seconds = reproduce.read_seconds(folder)
    reached, mastered, spent, seen = {}, {}, 0.0, 0
    for line in report.read_history(folder / "history.jsonl"):
        length = line["difficulty"]["length"]
        reached.setdefault(
            length, {"length": length, "num_examples": seen, "seconds": round(spent, 1)}
        )
        accuracy = line["validation"]["token_accuracy"] or 0.0
        mastered[length] = max(mastered.get(length, 0.0), accuracy)
        spent, seen = spent + seconds[line["epoch"]], line["num_examples"]
    return {
        "num_examples": seen,
        "seconds": round(spent, 1),
        "reached": list(reached.values()),
        "mastered": [{"length": n, "token_accuracy": rate} for n, rate in mastered.items()],
        "rows": report.read_evaluation(folder / "evaluation.json")["rows"],
    }


def write(output: Path, name: str, result: dict, table: str) -> None:
    """Writes what the runs have come to, with the environment as NAME.json, and as NAME.md."""
    output.mkdir(parents=True, exist_ok=True)
    measuring.write(output / f"{name}.json", result)
    write_text(output / f"{name}.md", table + "\n")
    print(table + "\n")
