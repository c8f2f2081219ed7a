"""The networks that come with the package, each with a folder of its own here.

    >>> suited("print(123+456)")
    'addition_9'

It has flags.cfg, evaluation.json and model.keras of a finished training run, and a README.md, the
network's model card.
"""

import re
import reprlib
from collections.abc import Iterable
from pathlib import Path

from keras_l2e import config as configs
from keras_l2e import tables
from keras_l2e.errors import UsageError
from keras_l2e.language import forms, interpreter, rewriting
from keras_l2e.language.tasks import ANYWHERE, TASKS, Difficulty, Task

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The networks' names, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{configs.NAME}"))


def find(name: str) -> Path:
    """The folder of the network with this name.

    Raises:
        UsageError: there is none; names those that there are.
    """
    if name not in names():
        raise UsageError(f"no network {name!r}; with the package come {', '.join(names())}")
    return FOLDER / name


def find_run(place: str) -> Path:
    """The folder of a finished run, or of the network of this name where none lies there.

    Raises:
        UsageError: it is neither.
    """
    folder = Path(place).expanduser()
    if not folder.exists() or (place in names() and not (folder / configs.NAME).is_file()):
        folder = find(place)
    configs.read_finished(folder)
    return folder


def chosen(workdir: str, name: str) -> Path:
    """The folder of the run that `--workdir` or `--pretrained` means.

    Raises:
        UsageError: not exactly one of the two was given, or there is no such network.
    """
    if bool(workdir) == bool(name):
        raise UsageError("exactly one of --workdir and --pretrained is needed")
    return Path(workdir).expanduser() if workdir else find(name)


def suited(program: str) -> str:
    """The name of the network for a program: of those trained on such texts, the easiest task's.

    Raises:
        UsageError: none was trained on anything like it; says what does not fit, what they were
            trained on, and how the program may be written for one of them.
    """
    program, configs_of = forms.clean(program), {name: configs.read(find(name)) for name in names()}
    if found := _fitting(program, configs_of):
        return found
    rewritten = rewriting.rewrite(program)
    nearest = next((text for text in rewritten if _fitting(text, configs_of)), None)
    tasks = [TASKS[name] for name in dict.fromkeys(c.task for c in configs_of.values())]
    trained = ", ".join(
        "{} (task {}, length {}, nesting {})".format(name, config.task, *config.target)
        for name, config in configs_of.items()
    )
    raise UsageError(
        f"program {reprlib.repr(program)}: {_misfit(program, tasks)}; "
        + (f"{_fitting(nearest, configs_of)} knows {nearest!r}; " if nearest else "")
        + f"with the package come {trained}; --model names another network"
    )


def _fitting(program: str, configs_of: dict) -> str | None:
    """Of the networks with these configs, the one of the easiest target that was trained on it.

    Of several, one that shows its work.
    """
    fitting = []
    for name, config in configs_of.items():
        task = TASKS[config.task]
        known = not forms.why_unknown(program, task.white_space)
        if known and task.difficulty_of(program) in config.levels:
            fitting.append((config.target, not forms.shows_work(config.target_form), name))
    return min(fitting)[-1] if fitting else None


def _misfit(program: str, tasks: Iterable[Task]) -> str:
    """What makes a text unlike all that networks of these tasks were trained on.

    >>> _misfit("print(535+61)", TASKS.values())
    'sums are of two numbers of as many digits, these have 3 and 2'
    """
    if reason := forms.why_unknown(program, white_space=ANYWHERE):
        return reason
    found = [
        task.difficulty_of(program)
        for task in tasks
        if not forms.why_unknown(program, task.white_space)
    ]
    if harder := [difficulty.label for difficulty in found if difficulty]:
        return f"no network was trained on {' or '.join(harder)}"
    if "print" not in program:
        return "there is no print in it"
    try:
        interpreter.run(program)
    except interpreter.ProgramError as error:
        return str(error)
    if not found:
        return "no network was trained on white space at such a place"
    if numbers := re.fullmatch(r"print\(([0-9]+)\+([0-9]+)\)", program):
        digits = map(len, numbers.groups())
        return "sums are of two numbers of as many digits, these have {} and {}".format(*digits)
    return "no network was trained on programs written so"


def measured(name: str, program: str) -> str:
    """What the network's evaluation says of programs as difficult as this one; empty if nothing.

    >>> measured("addition_9", "print(123456789+987654321)")
    'exact_match 0.9989 at length 9'
    """
    task = TASKS[configs.read(FOLDER / name).task]
    return rates(FOLDER / name).get(task.difficulty_of(program), "")


def rates(folder: Path) -> dict[Difficulty, str]:
    """What the evaluation in a run's folder says of each difficulty; nothing if there is none.

    Raises:
        WorkError: its file is broken.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        return {}
    found = {}
    for row in tables.read_evaluation(path)["rows"]:
        difficulty = Difficulty(row["length"], row["nesting"])
        rate = tables.format_rate(row["exact_match"], 4)
        found[difficulty] = f"exact_match {rate} at {difficulty.label}"
    return found
