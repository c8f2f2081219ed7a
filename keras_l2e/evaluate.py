"""Evaluates a trained network on held-out programs and writes evaluation.json and its plots.

    python -m keras_l2e.evaluate --workdir=W
    python -m keras_l2e.evaluate --pretrained=addition_9 [--output=FILE]

The test split of every trained difficulty, then the next difficulties, which were not trained. Of a
network that comes with the package, the figures found are compared with those published.
"""

import functools
import math
import random
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line, pretrained
from keras_l2e import config as run_flags
from keras_l2e import devices as runtime
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import programs
from keras_l2e.language.tasks import TASKS, Difficulty, carry_chain, draw_unequal_sum, grid

if __name__ == "__main__":
    command_line.define_path("workdir", None, "Folder of the training run.", optional=True)
    flags.DEFINE_string(
        "pretrained", None, "Instead of --workdir: name of a network that comes with the package."
    )
    command_line.define_path(
        "output",
        None,
        "File for the result, as JSON; by default evaluation.json in the workdir, with its plots, "
        "or nowhere with --pretrained.",
        optional=True,
    )
    command_line.define_path(
        "data_dir", None, "Folder of prepared data; the run's own by default.", optional=True
    )

# Digits, the minus sign and EOS: what an output position can hold.
OUTPUT_SYMBOLS = {"program": 12, "addition": 11, "copy": 11}
NUM_SAMPLES = 5
BEYOND_EXAMPLES = 1_000
WITHOUT_HARDEST = "without product or loop"
# Published figures are repeated only within so many standard errors.
MAX_SIGMA = 4


def evaluate(config: SimpleNamespace, model, report=print) -> dict:
    """Evaluates a model on the test split of every trained difficulty, and on the next ones.

    Args:
        config: the flags of the training run.
        model: a `keras.Model` of `models.MODELS`.
        report: called with each line of progress.

    Returns:
        What evaluation.json holds.
    """
    from keras_l2e.data import stored as prepared_data
    from keras_l2e.training.scoring import Scorer

    task = TASKS[config.task]
    target = Difficulty(config.target_length, config.target_nesting)
    beyond = _beyond(config.task, target)
    longest_target = max(task.longest(difficulty)[1] for difficulty in [target, *beyond])
    scorer = Scorer(model, config.input_form, max_steps=longest_target + 1)

    result = {
        "task": config.task,
        "split": "test",
        "input_form": config.input_form,
        "seed": config.seed,
        "chance_token_accuracy": 1 / OUTPUT_SYMBOLS[config.task],
        "rows": [],
        "beyond_training": [],
        "samples": [],
    }
    by_operation, by_carry_chain = [], []
    for difficulty in grid(target):
        texts, targets = prepared_data.read(
            config.task, difficulty, "test", config.data_dir, config.examples_per_difficulty
        )
        texts, targets = texts[: config.test_examples], targets[: config.test_examples]
        if not len(texts):
            report(f"{_name(difficulty)}: no test examples")
            continue
        scores = scorer.score(texts, targets)
        texts = [text.decode() for text in texts]
        row = _row(config.task, difficulty, texts, scores)
        result["rows"].append(row)
        result["samples"] += _samples(config, difficulty, texts, scores)
        report(f"{_name(difficulty)}: {_summary(row)}")
        if config.task == "program":
            kinds = [operations(text, difficulty.nesting) for text in texts]
            by_operation += _breakdown("operation", kinds, config.task, difficulty, texts, scores)
        if config.task == "addition":
            chains = [[carry_chain(text)] for text in texts]
            by_carry_chain += _breakdown(
                "carry_chain", chains, config.task, difficulty, texts, scores
            )
    for difficulty in beyond:
        draw = functools.partial(task.generate, difficulty=difficulty)
        row = _score_drawn(config.task, difficulty, draw, scorer)
        result["beyond_training"].append(row)
        report(f"{_name(difficulty)} (not trained): {_summary(row)}")
    if by_operation:
        result["by_operation"] = by_operation
    if by_carry_chain:
        result["by_carry_chain"] = by_carry_chain
    if config.task == "addition":
        result["unequal_digits"] = _unequal_digits(target.length, scorer)
    return result


def write(workdir: Path, result: dict) -> None:
    """Writes evaluation.json and its plots into a run's folder."""
    from keras_l2e import files
    from keras_l2e import plots as report

    report.plot_evaluation(result, workdir / "exact_match.png")
    report.plot_breakdown(result, workdir / "breakdown.png")
    files.write_json(workdir / "evaluation.json", result)


def operations(program: str, nesting: int) -> list[str]:
    """The operations of a program; one without products and loops, the hardest, says so as well.

    >>> operations("print((52-7))", nesting=2)
    ['pair', 'equality', 'without product or loop']
    """
    found = list(programs.count_operations(program, nesting))
    return found if {"smallmul", "small_loop"} & set(found) else [*found, WITHOUT_HARDEST]


def answer_in_program(program: str, target: str) -> bool:
    """Whether the target stands in the program as a whole number literal."""
    return target in re.findall(r"[0-9]+", program)


def _row(task: str, difficulty: Difficulty, texts: list[str], scores) -> dict:
    copied = task == "copy"
    in_program = [
        copied or answer_in_program(text, target)
        for text, target in zip(texts, scores.targets, strict=True)
    ]
    return {
        "length": difficulty.length,
        "nesting": difficulty.nesting,
        "num_examples": len(texts),
        "token_accuracy": scores.token_accuracy(),
        "exact_match": scores.exact_match(),
        "free_token_accuracy": scores.free_token_accuracy(),
        "answer_in_program": sum(in_program) / len(in_program),
    }


def _breakdown(
    name: str, kinds: list, task: str, difficulty: Difficulty, texts: list[str], scores
) -> list[dict]:
    """One row per kind of program; `kinds` holds, for each text, the kinds it belongs to."""
    members = defaultdict(list)
    for i, kinds_of_text in enumerate(kinds):
        for kind in kinds_of_text:
            members[kind].append(i)
    return [
        {
            name: kind,
            **_row(task, difficulty, [texts[i] for i in chosen], scores.subset(chosen)),
        }
        for kind, chosen in sorted(members.items())
    ]


def _samples(config, difficulty: Difficulty, texts: list[str], scores) -> list[dict]:
    rng = random.Random(f"samples/{difficulty}/{config.seed}")
    chosen = rng.sample(range(len(texts)), min(NUM_SAMPLES, len(texts)))
    return [
        {
            "length": difficulty.length,
            "nesting": difficulty.nesting,
            "program": texts[i],
            "target": scores.targets[i],
            "output": scores.outputs[i],
            "correct": scores.outputs[i] == scores.targets[i],
        }
        for i in chosen
    ]


def _beyond(task: str, target: Difficulty) -> list[Difficulty]:
    """The next difficulties that were not trained."""
    harder = [Difficulty(target.length + 1, target.nesting)]
    if TASKS[task].max_nesting > 1:
        harder.append(Difficulty(target.length, target.nesting + 1))
    else:
        harder.append(Difficulty(target.length + 2, target.nesting))
    allowed = set(TASKS[task].difficulties())
    return [difficulty for difficulty in harder if difficulty in allowed]


def _unequal_digits(digits: int, scorer) -> list[dict]:
    """How sums fare whose other number is shorter, which no task draws: a row for each length."""
    rows = []
    for shorter in range(1, digits):
        draw = functools.partial(draw_unequal_sum, digits=digits, shorter=shorter)
        row = _score_drawn("addition", Difficulty(digits), draw, scorer, f"/{shorter}")
        rows.append({"shorter": shorter, **row})
    return rows


def _score_drawn(task: str, difficulty: Difficulty, draw, scorer, name: str = "") -> dict:
    """The row of freshly drawn distinct examples of the test split, where none are prepared."""
    rng = random.Random(f"beyond_training/{task}/{difficulty}{name}")
    drawn = {}
    for _ in range(20 * BEYOND_EXAMPLES):
        example = draw(rng)
        digest = programs.digest(example.program)
        if programs.split_of_digest(digest) == "test":
            drawn.setdefault(digest, example)
        if len(drawn) == BEYOND_EXAMPLES:
            break
    texts, targets = zip(*drawn.values(), strict=True)
    scores = scorer.score([t.encode() for t in texts], [t.encode() for t in targets])
    return _row(task, difficulty, texts, scores)


def compare(result: dict, published: dict) -> tuple[float, str]:
    """How far an evaluation lies from the published one of the same network, at most.

    Returns:
        The distance in standard errors of a rate on so many examples, and the rate's name.
    """
    found = {(row["length"], row["nesting"]): row for row in result["rows"]}
    distances = []
    for row in published["rows"]:
        length, nesting = row["length"], row["nesting"]
        other = found[length, nesting]
        for metric in ("token_accuracy", "exact_match", "free_token_accuracy"):
            # As if a right answer were among four more examples, lest 0 and 1 have no error.
            rate = (row[metric] * row["num_examples"] + 2) / (row["num_examples"] + 4)
            error = math.sqrt(rate * (1 - rate) / other["num_examples"])
            name = f"{metric} at {_name(Difficulty(length, nesting))}"
            distances.append((abs(other[metric] - row[metric]) / error, name))
    return max(distances)


def _name(difficulty: Difficulty) -> str:
    return f"length {difficulty.length}, nesting {difficulty.nesting}"


def _summary(row: dict) -> str:
    return (
        f"token_accuracy {row['token_accuracy']:.4f} (teacher-forced), "
        f"exact_match {row['exact_match']:.4f} (free-running), "
        f"answer_in_program {row['answer_in_program']:.4f}, {row['num_examples']} examples"
    )


def main(config: SimpleNamespace) -> None:
    workdir = pretrained.chosen(config.workdir, config.pretrained)
    run = run_flags.read_finished(workdir)
    output = config.output and Path(config.output).expanduser()
    if output and output.is_dir():
        raise UsageError(f"--output={config.output} is a folder; name a file")
    if output:
        command_line.check_folder("output", output.parent)
    if config.data_dir is not None:
        run.data_dir = config.data_dir
    command_line.check_folder("data_dir", run.data_dir)
    runtime.load_tensorflow(run.onednn)
    # As in training, so that the sums come out the same; the model itself stays on one device.
    # (Early runs did not write down their threads.)
    runtime.start(min(run.num_replicas, runtime.num_devices()), run.threads_per_replica or 1)
    from keras_l2e import files
    from keras_l2e import tables as report
    from keras_l2e.data import stored as prepared_data
    from keras_l2e.networks import models

    target = Difficulty(run.target_length, run.target_nesting)
    prepared_data.prepare(run.task, grid(target), run.data_dir, run.examples_per_difficulty)
    result = evaluate(run, models.load(workdir / "model.keras"))
    place = output or (None if config.pretrained else workdir / "evaluation.json")
    if place and place.exists():
        print(f"replacing {place}")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(output, result)
    elif place:
        write(workdir, result)
    print(report.format_table(result))
    if config.pretrained:
        check_published(result, report.read_evaluation(workdir / "evaluation.json"))


def check_published(result: dict, published: dict) -> None:
    """Says how far the figures found are from the published ones.

    Raises:
        WorkError: farther than chance explains.
    """
    distance, name = compare(result, published)
    said = f"{distance:.1f} standard errors from the published figures at most ({name})"
    if distance > MAX_SIGMA:
        raise WorkError(f"{said}; allowed {MAX_SIGMA}")
    print(said)


if __name__ == "__main__":
    command_line.run(main)
