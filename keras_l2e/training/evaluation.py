"""Evaluates a trained network on held-out examples: what evaluation.json holds.

The test split of every trained difficulty, then what was not trained: the next difficulties, and
what the task itself has of such texts.
"""

import functools
import math
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_l2e import files, plots
from keras_l2e.config import Config
from keras_l2e.data import stored
from keras_l2e.language import programs
from keras_l2e.language.forms import TARGET_FORMS, shows_work
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty, Task
from keras_l2e.training import failures
from keras_l2e.training.scoring import RATES, Scorer, Scores

NUM_SAMPLES = 5
# Examples drawn where none are prepared.
NUM_DRAWN = 1_000


def evaluate(config: Config, network, report: Callable[[str], None] = print) -> dict:
    """Evaluates a network on the test split of every trained difficulty, and on what lies beyond.

    Args:
        config: of the training run.
        network: see `models.build`.
        report: takes each line of progress.

    Returns:
        What evaluation.json holds.
    """
    task = TASKS[config.task]
    beyond = _beyond(task, config.target)
    scorer = make_scorer(config, network, [*config.levels, *beyond])
    result = {
        "task": config.task,
        "split": "test",
        "input_form": config.input_form,
        "seed": config.seed,
        "chance_token_accuracy": task.chance(),
        "num_parameters": network.count_params(),
        "rows": [],
        "beyond_training": [],
        "samples": [],
        **({"failures": []} if shows_work(config.target_form) else {}),
    }
    by_kind = []
    for difficulty in config.levels:
        examples = _read(config, difficulty)
        if not len(examples.program):
            report(f"{difficulty.label}: no test examples")
            continue
        scores = scorer.score(examples)
        texts = [program.decode() for program in examples.program]
        result["rows"].append(_row(config, difficulty, texts, scores))
        result["samples"] += _samples(config, difficulty, examples, scores)
        by_kind += _by_kind(config, difficulty, texts, scores)
        if shows_work(config.target_form):
            wrong = _failures(config, texts, scores)
            result["failures"] += ({**difficulty._asdict(), **row} for row in wrong)
        report(f"{difficulty.label}: {_summary(result['rows'][-1])}")
    for difficulty in beyond:
        row = score_drawn(config, difficulty, scorer)
        result["beyond_training"].append(row)
        report(f"{difficulty.label} (not trained): {_summary(row)}")
    if by_kind:
        result[f"by_{task.kind}"] = by_kind
    for name, label, draw in task.untrained(config.target):
        names = "".join(f"/{value}" for value in label.values())
        row = score_drawn(config, config.target, scorer, draw, names)
        result.setdefault(name, []).append({**label, **row})
    return result


def make_scorer(config: Config, network, difficulties: Iterable[Difficulty]) -> Scorer:
    """A network's scorer for examples of some difficulties."""
    # The bound of work is far longer than nearly all of it; the scorer cuts it before that.
    max_steps = None
    if not shows_work(config.target_form):
        task, form = TASKS[config.task], TARGET_FORMS[config.target_form]
        max_steps = max(form.longest(task.longest(level)) for level in difficulties) + 1
    return Scorer(network, config.input_form, config.target_form, max_steps)


def write(workdir: Path, result: dict) -> None:
    """Writes evaluation.json and its plots into a run's folder."""
    plots.plot_evaluation(result, workdir / "exact_match.png")
    plots.plot_breakdown(result, workdir / "breakdown.png")
    files.write_json(workdir / "evaluation.json", result)


def answer_in_program(program: str, target: str) -> bool:
    """Whether the target stands in the program as a whole number literal."""
    return target in re.findall(r"[0-9]+", program)


def compare(result: dict, published: dict) -> tuple[float, str]:
    """How far an evaluation lies from the published one of the same network, at most.

    Returns:
        The distance in standard errors of a rate on so many examples, and the rate's name.
    """
    found = {(row["length"], row["nesting"]): row for row in result["rows"]}
    distances = []
    for row in published["rows"]:
        difficulty = Difficulty(row["length"], row["nesting"])
        other = found[difficulty]
        for metric in RATES:
            # As if a right answer were among four more examples, lest 0 and 1 have no error.
            rate = (row[metric] * row["num_examples"] + 2) / (row["num_examples"] + 4)
            error = math.sqrt(rate * (1 - rate) / other["num_examples"])
            name = f"{metric} at {difficulty.label}"
            distances.append((abs(other[metric] - row[metric]) / error, name))
    return max(distances)


def _read(config: Config, difficulty: Difficulty) -> Example:
    read = stored.read(
        config.task, difficulty, "test", config.data_dir, config.examples_per_difficulty
    )
    return Example(*(column[: config.test_examples] for column in read))


def _row(config: Config, difficulty: Difficulty, texts: list[str], scores: Scores) -> dict:
    in_program = list(map(answer_in_program, texts, scores.targets))
    row = {
        **difficulty._asdict(),
        "num_examples": len(texts),
        **scores.rates(),
        "answer_in_program": sum(in_program) / len(in_program),
    }
    if shows_work(config.target_form):
        row["written_match"] = scores.written_match()
    return row


def _by_kind(config: Config, difficulty: Difficulty, texts: list[str], scores: Scores):
    """One row for each kind of example that the task tells apart."""
    task = TASKS[config.task]
    return [
        {
            task.kind: kind,
            **_row(config, difficulty, [texts[i] for i in chosen], scores.subset(chosen)),
        }
        for kind, chosen in sorted(task.by_kind(texts, difficulty).items())
    ]


def _failures(config: Config, texts: list[str], scores: Scores) -> list[dict]:
    """Where the work of each wrong answer goes wrong first, see `failures.table`."""
    work, steps = TARGET_FORMS[config.target_form].work, TASKS[config.task].steps
    columns = zip(texts, scores.targets, scores.outputs, scores.written, strict=True)
    return failures.table(
        failures.first_wrong(work(written), steps(text))
        for text, target, output, written in columns
        if output != target
    )


def _samples(
    config: Config, difficulty: Difficulty, examples: Example, scores: Scores
) -> list[dict]:
    work = TARGET_FORMS[config.target_form].work
    rng = random.Random(f"samples/{difficulty}/{config.seed}")
    chosen = rng.sample(range(len(scores.targets)), min(NUM_SAMPLES, len(scores.targets)))
    samples = []
    for i in chosen:
        sample = {
            **difficulty._asdict(),
            "program": examples.program[i].decode(),
            "target": scores.targets[i],
            "output": scores.outputs[i],
            "correct": scores.outputs[i] == scores.targets[i],
        }
        if work:
            sample |= {"work": work(scores.written[i]), "trace": examples.trace[i].decode()}
        samples.append(sample)
    return samples


def _beyond(task: Task, target: Difficulty) -> list[Difficulty]:
    """The next difficulties that were not trained."""
    length, nesting = target
    other = (length, nesting + 1) if task.max_nesting > 1 else (length + 2, nesting)
    allowed = set(task.difficulties())
    return [Difficulty(*place) for place in ((length + 1, nesting), other) if place in allowed]


def score_drawn(
    config: Config,
    difficulty: Difficulty,
    scorer: Scorer,
    draw: Callable[[random.Random], Example] | None = None,
    name: str = "",
) -> dict:
    """The row of freshly drawn distinct examples of the test split, where none are prepared.

    Args:
        config, scorer: of the network.
        difficulty: of the examples.
        draw: draws an example; by default the task does, at the difficulty.
        name: tells these examples from others of the same difficulty.
    """
    if draw is None:
        draw = functools.partial(TASKS[config.task].generate, difficulty=difficulty)
    rng = random.Random(f"beyond_training/{config.task}/{difficulty}{name}")
    drawn = {}
    for _ in range(20 * NUM_DRAWN):
        example = draw(rng)
        digest = programs.digest(example.program)
        if programs.split_of_digest(digest) == "test":
            drawn.setdefault(digest, example)
        if len(drawn) == NUM_DRAWN:
            break
    columns = Example(*zip(*drawn.values(), strict=True))
    stored_form = Example(*([text.encode() for text in column] for column in columns))
    return _row(config, difficulty, list(columns.program), scorer.score(stored_form))


def _summary(row: dict) -> str:
    return (
        f"token_accuracy {row['token_accuracy']:.4f} (teacher-forced), "
        f"exact_match {row['exact_match']:.4f} (free-running), "
        f"answer_in_program {row['answer_in_program']:.4f}, {row['num_examples']} examples"
    )
