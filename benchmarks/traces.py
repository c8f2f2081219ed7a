"""What lets a network execute programs: its work, its attention, its curriculum, one at a time.

    python benchmarks/traces.py --workdir=W

The recipe of a flagfile on programs of up to three digits and two operations, each run with one
thing changed, on one core. The learning rate does not fall, so that one run tells both how many
held-out programs of the target it gets right after as many examples as the others and after as
long a time; a change takes the time that its quicker run took, for others ran beside other work.
Leaves traces.json, traces.md and traces.png.
"""

import functools
import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
import variations
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from keras_l2e import plots, tables
from keras_l2e.language import interpreter, traces
from keras_l2e.language.forms import TARGET_FORMS
from keras_l2e.language.programs import Example
from keras_l2e.language.traces import Step
from keras_l2e.paper import comparisons
from keras_l2e.paper.cells import Cell

FLAGFILE = "programs_trace.cfg"
SHORTER = {
    "target_length": 3,
    "num_epochs": 10,
    "learning_rate_schedule": "constant",
    "validation_examples": 1_000,
    "test_examples": 2_000,
}
# The columns: after so many examples, and after so long, which every run took at least.
EXAMPLES, SECONDS = 256_000, 420
# Slower learners, and runs with quicker epochs, get more epochs.
LSTM = {"model": "lstm", "hidden_dim": 256, "num_epochs": 20}
# What trains a run: the usual command, once the target forms of `register` are there.
COMMAND = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent)!r}); import traces; "
    "from keras_l2e.paper import runner; traces.register(); runner.train()",
)
COLOURS = (
    plots.BLUE,
    plots.ORANGE,
    plots.GREEN,
    plots.BLACK,
    plots.PURPLE,
    "#56B4E9",
    "#D55E00",
    "0.6",
)


def register() -> None:
    """Adds FORMS to the target forms.

    Of loops as products the work is not the trace of the program, so that the first wrong steps in
    evaluation.json (`failures`) mean nothing there.
    """
    form = TARGET_FORMS["register_trace"]
    for name, write in FORMS.items():
        TARGET_FORMS[name] = form._replace(
            write=lambda example, write=write: write(example) + example.target,
            # Operands are two to a value; a loop of one round has more values as a product.
            longest=lambda longest: 4 * form.longest(longest),
            work=_from_signed if name == "without_complements" else _work,
        )


def _steps(example: Example) -> list[Step]:
    return interpreter.steps(example.program, registers=True)


def _work(written: str) -> str:
    """The trace, without the operands that stand before its values."""
    return traces.from_registers(re.sub(r"\([^)]*\)", "", written))


def _from_signed(written: str) -> str:
    """The trace, of values that are written backwards with their sign behind them.

    >>> _from_signed("0321<5;2-;-2")
    '5;-2'
    """
    return traces.forward(traces.values_alone(written))


def _without(kind: str, example: Example) -> str:
    return traces.register_trace(step for step in _steps(example) if step.kind != kind)


def _without_leading_digits(example: Example) -> str:
    return traces.register_trace(step._replace(operands=()) for step in _steps(example))


def _without_names(example: Example) -> str:
    return traces.register_trace(step._replace(name="") for step in _steps(example))


def _without_complements(example: Example) -> str:
    """Negative values as their absolute values backwards, the sign behind them.

    >>> _without_complements(Example("print((3-(5 if 4<1234 else 2)))", "-2", ""))
    '0321<5;2-;'
    """
    written = []
    for step in _steps(example):
        mark = traces.register_trace([step])[-1]
        sign = "-" * (mark == traces.SEPARATOR and step.value < 0)
        written += step.name, str(abs(step.value))[::-1], sign, mark
    return "".join(written)


def _with_operands(example: Example) -> str:
    """Before each value what it is computed from, in parentheses.

    >>> _with_operands(Example("print(((3-15)*12))", "-144", ""))
    '(3-51)88-;(88-*21)67-;(88-*21)088-;(67-+088-)658-;'
    """
    steps, written = _steps(example), []
    for i, step in enumerate(steps):
        if operands := _operands(steps, i):
            left, sign, right = operands
            written.append(f"({traces.complement(left)}{sign}{traces.complement(right)})")
        written.append(traces.register_trace([step]))
    return "".join(written)


def _operands(steps: list[Step], i: int) -> tuple[int, str, int] | None:
    """What a value is computed from, and the sign between both; None if it is no result."""
    step = steps[i]
    if step.kind in ("units", "tens"):
        left, right = steps[i + (2 if step.kind == "units" else 1)].operands
        return left, "*", right
    if step.kind == "product" and i and steps[i - 1].kind == "tens":
        return steps[i - 2].value, "+", steps[i - 1].value
    if not step.operands:
        return None
    left, right = step.operands
    sign = "*" if step.kind == "product" else "+" if left + right == step.value else "-"
    return left, sign, right


def products(example: Example) -> list[Step]:
    """The steps of a program with one product for all rounds of a loop.

    >>> program = "e=58308\\nfor x in range(12):e+=65807\\nprint(e)"
    >>> [step.value for step in products(Example(program, "847992", ""))]
    [131614, 658070, 789684, 847992]
    """
    found = []
    steps = [step for step in _steps(example) if step.kind != traces.COUNTER]
    for group in _loops_apart(steps):
        rounds = [step for step in group if step.kind == "round"]
        if len(rounds) < 2:
            found += group
            continue
        # What a round computes before its own value is computed once.
        found += group[: group.index(rounds[0])]
        change = rounds[1].value - rounds[0].value
        found += (Step(value, "product") for value in traces.products(len(rounds), abs(change)))
        found.append(rounds[-1])
    return found


def _loops_apart(steps: list[Step]) -> list[list[Step]]:
    """The steps of each loop, and those between loops."""
    groups, last = [], None
    for step in steps:
        goes_on = last and bool(step.turn) == bool(last.turn)
        if not goes_on or (last.kind == "round" and step.turn <= last.turn):
            groups.append([])
        groups[-1].append(step)
        last = step
    return groups


# `register_trace` with something left out or put in.
FORMS = {
    "without_complements": _without_complements,
    "without_comparisons": functools.partial(_without, traces.COMPARISON),
    "without_counters": functools.partial(_without, traces.COUNTER),
    "without_leading_digits": _without_leading_digits,
    "without_names": _without_names,
    "with_operands": _with_operands,
    "loops_as_products": lambda example: traces.register_trace(products(example)),
}
LEVERS = {
    "lstm, answer": {**LSTM, "target_form": "answer", "num_epochs": 30},
    "lstm, trace": {**LSTM, "target_form": "trace"},
    "lstm, reversed_trace": {**LSTM, "target_form": "reversed_trace"},
    "lstm, register_trace": LSTM,
    "attention, answer": {"target_form": "answer", "num_epochs": 30},
    "attention, trace": {"target_form": "trace"},
    "attention, reversed_trace": {"target_form": "reversed_trace"},
    "without its own past": {"own_past": False, "num_epochs": 12},
    "without the second LSTM": {"second_lstm": False, "num_epochs": 15},
    **{name.replace("_", " "): {"target_form": name} for name in FORMS},
    "batches of 128": {"global_batch_size": 128, "batches_per_epoch": 200},
    "batches of 32": {"global_batch_size": 32, "batches_per_epoch": 800},
    "128 cells": {"hidden_dim": 128, "num_epochs": 15},
    "256 cells": {"hidden_dim": 256},
    "learning rate 0.002": {"learning_rate": 0.002},
    "learning rate 0.008": {"learning_rate": 0.008},
    **{
        f"strategy {name}": {"strategy": name, "advance_threshold": 0.9, "patience": 5}
        for name in ("baseline", "naive", "combined", "review", "frontier")
    },
    # Its levels are left at once, so that most examples come from the target, and a fifth from all.
    "strategy combined, threshold 0": {"strategy": "combined", "advance_threshold": 0.0},
}
SEEDS = (1, 2)
NOTHING = "nothing"


def cells() -> dict[tuple[str, int], Cell]:
    """(what was changed, seed) -> its run."""
    recipe = variations.read_recipe(FLAGFILE) | SHORTER
    return {
        (name, seed): Cell(f"{_file_name(name)}_seed_{seed}", recipe | changes | {"seed": seed})
        for seed in SEEDS
        for name, changes in {NOTHING: {}, **LEVERS}.items()
    }


def _file_name(name: str) -> str:
    return re.sub("[^a-z0-9_]+", "_", name.lower())


def measure(folder: Path) -> dict:
    """What a finished run has come to.

    Returns:
        num_examples, total_seconds: of all epochs.
        curve: num_examples, seconds and exact_match at the target in validation, after each.
        target, by_operation: of evaluation.json, at the target.
    """
    history = tables.read_history(folder / "history.jsonl")
    spent = comparisons.spent_seconds(comparisons.read_timing(folder), history)
    curve = [
        (line["num_examples"], seconds, line["target_validation"]["exact_match"])
        for line, seconds in zip(history, spent, strict=True)
    ]
    evaluation = tables.read_evaluation(folder / "evaluation.json")
    return {
        "num_examples": curve[-1][0],
        "total_seconds": curve[-1][1],
        "curve": curve,
        "target": evaluation["rows"][-1],
        "by_operation": tables.hardest(evaluation["by_operation"])[1],
    }


def after_examples(run: dict) -> float | None:
    """exact_match after at most EXAMPLES; None if no epoch was over then."""
    return [None, *(rate for n, _, rate in run["curve"] if n <= EXAMPLES)][-1]


def after_seconds(run: dict, runs: list[dict]) -> float | None:
    """exact_match after SECONDS, between two epochs, had it been as quick as the quickest like it.

    None if no epoch was over then.
    """
    share = min(other["total_seconds"] for other in runs) / run["total_seconds"]
    _, seconds, rates = np.transpose(run["curve"])
    found = np.interp(SECONDS, share * seconds, rates, left=np.nan)
    return None if np.isnan(found) else float(found)


def format_table(results: dict) -> str:
    """One line for each change, its seeds side by side."""
    header = ["what was changed", f"after {EXAMPLES:,} examples", f"after {SECONDS // 60} minutes"]
    header += ["examples in all", "minutes", "products", "loops"]
    lines = []
    for name in dict.fromkeys(name for name, _ in results):
        runs = [results[key] for key in results if key[0] == name]
        kinds = [{row["operation"]: row for row in run["by_operation"]} for run in runs]
        lines.append(
            [
                name,
                _join(map(after_examples, runs)),
                _join(after_seconds(run, runs) for run in runs),
                ", ".join(f"{run['num_examples']:,}" for run in runs),
                ", ".join(f"{run['total_seconds'] / 60:.1f}" for run in runs),
                _join(kind["smallmul"]["exact_match"] for kind in kinds),
                _join(kind["small_loop"]["exact_match"] for kind in kinds),
            ]
        )
    return tables.format_markdown(header, lines)


def draw(results: dict) -> Figure:
    """What each kind of work and each curriculum comes to, example by example."""
    names = list(dict.fromkeys(name for name, _ in results))
    panels = {
        "attention, register_trace": [
            name for name in names if name.partition(", ")[0] in ("lstm", "attention")
        ],
        "strategy mix": [name for name in names if name.startswith("strategy")],
    }
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.new_figure(height=3.6)
        all_axes = figure.subplots(1, 2, sharey=True)
        for axes, (recipe, chosen) in zip(all_axes, panels.items(), strict=True):
            for name, colour in zip([NOTHING, *chosen], COLOURS, strict=False):
                curves = [results[key]["curve"] for key in results if key[0] == name]
                for i, curve in enumerate(curves):
                    label = None if i else recipe if name == NOTHING else name
                    examples, _, rates = zip(*curve, strict=True)
                    axes.plot(examples, rates, color=colour, lw=1, label=label)
            axes.set(xlabel="training examples", xlim=(0, EXAMPLES))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=6)
            plots.share_axis(axes)
        all_axes[0].set_title("What is written, and by which network")
        all_axes[1].set_title("Curricula, where work is written")
        all_axes[0].set_ylabel("exact_match at length 3, nesting 2")
        return figure


def _join(rates) -> str:
    return ", ".join("" if rate is None else tables.format_rate(rate, 3) for rate in rates)


def main() -> None:
    register()
    arguments = variations.parse(__doc__)
    found, missing = variations.collect(arguments, "traces", cells(), measure, COMMAND)
    runs = [{"change": name, "seed": seed, **run} for (name, seed), run in found.items()]
    result = {"flagfile": FLAGFILE, "changes": SHORTER, "missing": missing, "runs": runs}
    output = variations.write(arguments, "traces", result, format_table(found))
    plots.save_figure(draw(found), output / "traces.png")


if __name__ == "__main__":
    main()
