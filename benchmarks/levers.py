"""What each part of a recipe is worth: the run of a flagfile again, with one thing changed.

    python benchmarks/levers.py --workdir=W

On shorter sums than the flagfile's, to have all runs in an hour or so. Each run sees the same
number of training examples, but for growing batches, which see fewer. `mix` stands at the
target from the start, so its learning rate falls from the start. Leaves levers.json and levers.md:
examples and minutes (of one core) until each number of digits was mastered (validation
token_accuracy above 0.95), and accuracies on the test split.
"""

import variations

from keras_l2e import tables
from keras_l2e.paper.cells import Cell

FLAGFILE = "addition_9.cfg"
# Lengths of which is told when they were mastered; the last one is the target.
LENGTHS = (3, 4, 5)
SHORTER = {
    "target_length": LENGTHS[-1],
    "num_epochs": 25,
    "validate_all_levels": True,
    "validation_examples": 250,
    "test_examples": 2_000,
}
# The recipe itself under several seeds tells how much of a difference may be chance.
SEEDS = (1, 2, 3)
# Lever -> the changes tried, one run each.
LEVERS = {
    "learning rate": [{"learning_rate": rate} for rate in (3e-3, 9e-3)],
    "schedule": [{"learning_rate_schedule": name} for name in ("constant", "cosine")],
    "average of weights": [{"average_decay": decay} for decay in (0.0, 0.999)],
    "width": [{"hidden_dim": cells} for cells in (128, 256)],
    "depth": [{"num_layers": 2}],
    "one stack for both": [{"tie_encoder_decoder": True}],
    "growing batches": [{"first_batch_size": 32}],
    "strategy": [{"strategy": name} for name in ("naive", "mix", "combined", "frontier")],
    "share of review": [{"mix_share": share} for share in (0.0, 0.3)],
    # Tried with release 0.1.0, which had these settings.
    "lengths in a batch": [{"sort_window": 1}],
    "long carries": [{"carry_share": 0.3}],
    "input form": [{"input_form": form} for form in ("none", "double", "reverse_double")],
    "stored examples": [{"train_source": "prepared", "examples_per_difficulty": 50_000}],
}


def cells() -> dict[str, Cell]:
    """What was changed, in words -> its run."""
    recipe = variations.read_recipe(FLAGFILE) | SHORTER
    runs = [(f"none (seed {seed})", {"seed": seed}) for seed in SEEDS]
    for lever, changes in LEVERS.items():
        for change in changes:
            values = ", ".join(f"{name} {value}" for name, value in change.items())
            runs.append((f"{lever}: {values}", change))
    return {
        name: Cell(f"lever_{i:02}", recipe | {"seed": SEEDS[0]} | change)
        for i, (name, change) in enumerate(runs)
    }


def format_table(results: dict[str, dict]) -> str:
    """One line a run: when it mastered some lengths, and how well it adds in the end."""
    lines = []
    for name, found in results.items():
        mastered = {level["length"]: level for level in found["mastered"]}
        line = [name]
        for length in LENGTHS:
            level = mastered[length]
            never = level["num_examples"] is None
            line.append("never" if never else f"{level['num_examples']:,}")
            line.append("never" if never else f"{level['seconds'] / 60:.1f}")
        line += [f"{found['num_examples']:,}", f"{found['seconds'] / 60:.1f}"]
        target, others = found["rows"][-1], found["rows"][1:-1]
        line.append(tables.format_rate(target["token_accuracy"], 4))
        line.append(tables.format_rate(target["exact_match"], 4))
        line.append(tables.format_rate(min(row["exact_match"] for row in others), 3))
        lines.append(line)
    header = ["what was changed"]
    for length in LENGTHS:
        header += [f"{length} digits mastered: examples", "minutes"]
    longest = f"{LENGTHS[-1]} digits"
    header += ["examples in all", "minutes", f"token_accuracy (teacher-forced), {longest}"]
    header += [f"exact_match (free-running), {longest}"]
    header += [f"worst exact_match at 2 to {LENGTHS[-1] - 1} digits"]
    return tables.format_markdown(header, lines)


def main() -> None:
    arguments = variations.parse(__doc__)
    found, missing = variations.collect(arguments, "levers", cells())
    result = {"flagfile": FLAGFILE, "changes": SHORTER, "missing": missing, "runs": found}
    variations.write(arguments, "levers", result, format_table(found))


if __name__ == "__main__":
    main()
