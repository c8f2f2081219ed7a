"""How far a network of programs gets beyond what it was trained on.

    python benchmarks/beyond.py --model=W --output=FOLDER

1,000 freshly drawn held-out programs each, distinct after renaming: of one to ten operations on
numbers of the trained length, of one and two operations on longer numbers, and of numbers each with
a length of its own up to the trained one, as the paper's released code draws them for `mix`. Leaves
beyond.json and beyond.md.
"""

import argparse
import functools
import random
import time
from pathlib import Path

import measuring

from keras_l2e import api, devices, tables
from keras_l2e.files import write_text
from keras_l2e.language import interpreter, programs
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import Difficulty

# In the place of a row's length.
OWN = "own"


class _OwnLengths(programs.Draft):
    """A program each of whose numbers is drawn as at a length of its own."""

    def __init__(self, rng: random.Random, length: int):
        super().__init__(rng, length)
        self.length = length

    def literal(self):
        self.largest_literal = 10 ** (1 + self.draw(self.length))
        return super().literal()

    def small(self):
        self.largest_small = 4 * (1 + self.draw(self.length))
        return super().small()


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
    known = [Difficulty(target.length, nesting) for nesting in range(1, target.nesting + 1)]
    own = [{**row, "length": OWN} for row in score(network, known, draw_own_lengths)]
    return {"model": Path(model).name, "target": target._asdict(), "rows": rows + own}


def draw_own_lengths(rng: random.Random, difficulty: Difficulty) -> Example:
    r"""Draws a program of numbers that each have a length of their own.

    Args:
        rng: the source of every draw.
        difficulty: its length is the greatest that a number is drawn at.

    >>> draw_own_lengths(random.Random(1), Difficulty(5, 2))
    Example(program='b=3440;\nprint((b-(2*8272)))', target='-13104', trace='16544;-13104')
    """
    draft = _OwnLengths(rng, difficulty.length)
    for _ in range(difficulty.nesting):
        draft.previous = rng.choice(list(programs.OPERATIONS.values()))(draft)
    text = "\n".join([*draft.statements, f"print({draft.previous.text})"])
    return Example(text, interpreter.run(text), interpreter.trace(text))


def score(network: api.TrainedNetwork, tried: list[Difficulty], draw=None) -> list[dict]:
    """Rows as in evaluation.json, with the seconds that each took.

    Args:
        network: a trained one.
        tried: the difficulties.
        draw: draws an example of one of them; by default the task does.
    """
    from keras_l2e.training import evaluation

    config, rows = network.config, []
    scorer = evaluation.make_scorer(config, network.model, tried)
    for difficulty in tried:
        start = time.perf_counter()
        how = (functools.partial(draw, difficulty=difficulty), OWN) if draw else ()
        row = evaluation.score_drawn(config, difficulty, scorer, *how)
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
            _trained(row, target),
            *(tables.format_rate(row[name], 3) for name in names),
        ]
        for row in result["rows"]
    ]
    return tables.format_markdown(["length", "nesting", "trained", *names], lines)


def _trained(row: dict, target: Difficulty) -> str:
    if row["length"] == OWN:
        return f"each number up to {target.length}"
    return "yes" if row["length"] <= target.length and row["nesting"] <= target.nesting else ""


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
