"""The networks that come with the package, each with a folder of its own here.

    >>> suited("print(123+456)")
    'addition_9'

It has flags.cfg, evaluation.json and model.keras of a finished training run, and a README.md, the
network's model card.
"""

import reprlib
from pathlib import Path

from keras_l2e import config as run_flags
from keras_l2e.errors import UsageError
from keras_l2e.language.tasks import TASKS

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The networks' names, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{run_flags.NAME}"))


def find(name: str) -> Path:
    """The folder of the network with this name.

    Raises:
        UsageError: there is none; names those that there are.
    """
    if name not in names():
        raise UsageError(f"no network {name!r}; with the package come {', '.join(names())}")
    return FOLDER / name


def find_run(place: str) -> Path:
    """The folder of a finished run: one that exists, or else that of the network of this name.

    Raises:
        UsageError: it is neither.
    """
    folder = Path(place).expanduser()
    if not folder.exists():
        folder = find(place)
    run_flags.read_finished(folder)
    return folder


def chosen(workdir: str | None, name: str | None) -> Path:
    """The folder of the run that `--workdir` or `--pretrained` means.

    Raises:
        UsageError: not exactly one of the two was given, or there is no such network.
    """
    if (workdir is None) == (name is None):
        raise UsageError("exactly one of --workdir and --pretrained is needed")
    return Path(workdir).expanduser() if workdir is not None else find(name)


def suited(program: str) -> str:
    """The name of the network for a program: of those trained on such texts, the easiest task's.

    Raises:
        UsageError: none was trained on anything like it; says what they were trained on.
    """
    fitting, trained = {}, []
    for name in names():
        config = run_flags.read(FOLDER / name)
        target = (config.target_length, config.target_nesting)
        difficulty = TASKS[config.task].difficulty_of(program)
        if difficulty and difficulty[0] <= target[0] and difficulty[1] <= target[1]:
            fitting.setdefault(target, name)
        trained.append(f"{name} (task {config.task}, length {target[0]}, nesting {target[1]})")
    if not fitting:
        raise UsageError(
            f"program {reprlib.repr(program)}: no network that comes with the package was trained "
            f"on such a text; there are {', '.join(trained)}; --model names another"
        )
    return fitting[min(fitting)]


def measured(name: str, program: str) -> str:
    """What the network's evaluation says of programs as difficult as this one; empty if nothing.

    >>> measured("addition_9", "print(123456789+987654321)")
    'exact_match 0.9989 at length 9'
    """
    from keras_l2e import tables as report

    config = run_flags.read(FOLDER / name)
    difficulty = TASKS[config.task].difficulty_of(program)
    for row in report.read_evaluation(FOLDER / name / "evaluation.json")["rows"]:
        if (row["length"], row["nesting"]) == difficulty:
            nesting = f", nesting {difficulty.nesting}" if config.task == "program" else ""
            rate = report.format_rate(row["exact_match"], 4)
            return f"exact_match {rate} at length {difficulty.length}{nesting}"
    return ""
