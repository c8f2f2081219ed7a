"""What each part of a recipe is worth: the run of a flagfile again, with one thing changed.

    python benchmarks/levers.py --workdir=W --data_dir=D --output=results/levers

One run on each core, as `reproduce` runs its cells: a stopped one goes on, finished ones are
skipped. Each sees the same number of training examples. Leaves levers.json and levers.md: examples
and minutes (of one core) until each number of digits was reached, and accuracies on the test split.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import measuring
from absl import flags

from keras_l2e import command_line, report, reproduce, run_flags, runtime
from keras_l2e.cells import Cell
from keras_l2e.files import write_atomically, write_json

FLAGFILE = "addition_9.cfg"
# The recipe itself under several seeds tells how much of a difference may be chance.
SEEDS = (1, 2, 3)
# Lever -> the changes tried, one run each.
LEVERS = {
    "learning rate": [{"learning_rate": rate} for rate in (3e-3, 9e-3)],
    "schedule": [{"learning_rate_schedule": name} for name in ("constant", "cosine")],
    "optimizer": [
        {"optimizer": "adam", "learning_rate": 2e-3},
        {"optimizer": "adam", "learning_rate": 6e-3},
    ],
    "average of weights": [{"average_decay": decay} for decay in (0.0, 0.999)],
    "width": [{"hidden_dim": cells} for cells in (128, 256)],
    "depth": [{"num_layers": 2}],
    "one stack for both": [{"tie_encoder_decoder": True}],
    "batch size": [
        {"global_batch_size": 64, "batches_per_epoch": 200},
        {"global_batch_size": 256, "batches_per_epoch": 50},
        {"first_batch_size": 32},
    ],
    "strategy": [{"strategy": name} for name in ("naive", "mix", "combined", "frontier")],
    "share of review": [{"mix_share": share} for share in (0.0, 0.3)],
    "threshold": [{"advance_threshold": accuracy} for accuracy in (0.7, 0.95)],
    "lengths in a batch": [{"sort_window": 1}],
    "long carries": [{"carry_share": 0.3}],
    "input form": [{"input_form": form} for form in ("none", "double", "reverse_double")],
    "fresh data": [{"train_source": "generated"}],
}


def cells() -> dict[str, Cell]:
    """What was changed, in words -> its run."""
    lines = command_line.read_flagfile(command_line.find_flagfile(FLAGFILE))
    values = flags.FlagValues()
    run_flags.define(values)
    values(["", *lines, "--workdir=W"])
    names = [line.removeprefix("--").partition("=")[0] for line in lines]
    base = {name: values[name].value for name in names}
    runs = [(f"none (seed {seed})", {"seed": seed}) for seed in SEEDS]
    for lever, changes in LEVERS.items():
        for change in changes:
            changed = ", ".join(f"{name} {value}" for name, value in change.items())
            runs.append((f"{lever}: {changed}", change))
    return {
        name: Cell(f"lever_{i:02}", base | {"seed": SEEDS[0]} | change)
        for i, (name, change) in enumerate(runs)
    }


def measure(folder: Path) -> dict | None:
    """What a finished run has come to; None if it is not finished."""
    if not (folder / "evaluation.json").exists():
        return None
    history = report.read_history(folder / "history.jsonl")
    seconds = {}
    for line in (folder / "timing.jsonl").read_text().splitlines():
        entry = json.loads(line)
        seconds[entry["epoch"]] = entry["seconds"]
    reached, spent, seen = {}, 0.0, 0
    for line in history:
        reached.setdefault(line["difficulty"]["length"], (seen, round(spent, 1)))
        spent, seen = spent + seconds[line["epoch"]], line["num_examples"]
    rows = report.read_evaluation(folder / "evaluation.json")["rows"]
    return {
        "num_examples": seen,
        "seconds": round(spent, 1),
        "reached": [
            {"length": length, "num_examples": examples, "seconds": at}
            for length, (examples, at) in reached.items()
        ],
        "rows": rows,
    }


def format_table(results: dict[str, dict]) -> str:
    """One line a run: when it reached 5, 7 and 9 digits, and how well it adds in the end."""
    lines = []
    for name, found in results.items():
        reached = {level["length"]: level for level in found["reached"]}
        line = [name]
        for length in (5, 7, 9):
            level = reached.get(length)
            line.append(f"{level['num_examples']:,}" if level else "never")
            line.append(f"{level['seconds'] / 60:.1f}" if level else "never")
        line.append(f"{found['seconds'] / 60:.1f}")
        target, others = found["rows"][-1], found["rows"][1:-1]
        line.append(report.format_rate(target["token_accuracy"], 4))
        line.append(report.format_rate(target["exact_match"], 4))
        line.append(report.format_rate(min(row["exact_match"] for row in others), 3))
        lines.append(line)
    header = ["what was changed"]
    for length in (5, 7, 9):
        header += [f"{length} digits: examples", "minutes"]
    header += ["minutes in all", "token_accuracy (teacher-forced), 9 digits"]
    header += ["exact_match (free-running), 9 digits", "worst exact_match at 2 to 8 digits"]
    return report.format_markdown(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--draw_only", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.workdir / "levers"
    wanted = cells()
    if not arguments.draw_only:
        folder.mkdir(parents=True, exist_ok=True)
        reproduce.check_flagfiles(folder, list(wanted.values()))
        config = SimpleNamespace(
            data_dir=arguments.data_dir,
            dead_after=120.0,
            num_replicas=0,
            cells_at_once=runtime.num_cores(),
        )
        reproduce.Runner(config, folder).run(reproduce.prepare(folder, list(wanted.values())))
    found = {name: measure(folder / cell.name) for name, cell in wanted.items()}
    found = {name: result for name, result in found.items() if result}
    missing = [name for name in wanted if name not in found]
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(
        arguments.output / "levers.json",
        {**measuring.environment(), "flagfile": FLAGFILE, "missing": missing, "runs": found},
    )
    table = format_table(found) + "\n"
    write_atomically(arguments.output / "levers.md", lambda path: path.write_text(table))
    print(table)


if __name__ == "__main__":
    main()
