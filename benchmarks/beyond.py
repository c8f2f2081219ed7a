"""How far a network of programs gets beyond what it was trained on.

    python benchmarks/beyond.py --model=W --output=FOLDER

1,000 freshly drawn held-out programs each, distinct after renaming: of one to ten operations on
numbers of the trained length, and of one and two operations on longer numbers. Leaves beyond.json
and beyond.md.
"""

import argparse
import time
from pathlib import Path

import measuring

from keras_l2e import api, devices, tables
from keras_l2e.files import write_text
from keras_l2e.language.tasks import Difficulty


def difficulties(target: Difficulty) -> list[Difficulty]:
    """What is tried beside a trained target."""
    deeper = [Difficulty(target.length, nesting) for nesting in range(1, 11)]
    longer = [
        Difficulty(length, nesting)
        for nesting in range(1, target.nesting + 1)
        for length in range(target.length + 1, 10)
    ]
    return deeper + longer


def measure(model: str) -> dict:
    """What a network comes to at each of the difficulties."""
    network = api.TrainedNetwork(api.find(model))
    target = network.config.target
    rows = score(network, difficulties(target))
    return {"model": Path(model).name, "target": target._asdict(), "rows": rows}


def score(network: api.TrainedNetwork, tried: list[Difficulty]) -> list[dict]:
    """Rows as in evaluation.json, with the seconds that each took."""
    from keras_l2e.training import evaluation

    config, rows = network.config, []
    scorer = evaluation.make_scorer(config, network.model, tried)
    for difficulty in tried:
        start = time.perf_counter()
        row = evaluation.score_drawn(config, difficulty, scorer)
        rows.append({**row, "seconds": round(time.perf_counter() - start, 1)})
        print(f"{difficulty.label}: exact_match {row['exact_match']:.3f}", flush=True)
    return rows


def format_table(result: dict) -> str:
    """One line a difficulty."""
    names = ["exact_match", "written_match", "token_accuracy", "answer_in_program"]
    names = [name for name in names if name in result["rows"][0]]
    target = Difficulty(**result["target"])
    lines = [
        [
            str(row["length"]),
            str(row["nesting"]),
            "" if row["length"] > target.length or row["nesting"] > target.nesting else "yes",
            *(tables.format_rate(row[name], 3) for name in names),
        ]
        for row in result["rows"]
    ]
    return tables.format_markdown(["length", "nesting", "trained", *names], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a run's folder, or a network's name")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    devices.load_tensorflow(devices.default_onednn())
    devices.start(1)
    result = measure(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    measuring.write(arguments.output / "beyond.json", result)
    write_text(arguments.output / "beyond.md", format_table(result) + "\n")
    print(format_table(result))


if __name__ == "__main__":
    main()
