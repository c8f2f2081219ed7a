"""The networks that come with the package, each with a folder of its own here.

    >>> suited("print(123+456)")
    'addition_9'

It has flags.cfg, evaluation.json and model.keras of a finished training run, and a README.md, the
network's model card.
"""

import reprlib
from pathlib import Path

from keras_l2e import config as configs
from keras_l2e import tables
from keras_l2e.errors import UsageError
from keras_l2e.language.tasks import TASKS

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
    """The folder of a finished run: one that exists, or else that of the network of this name.

    Raises:
        UsageError: it is neither.
    """
    folder = Path(place).expanduser()
    if not folder.exists():
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
        UsageError: none was trained on anything like it; says what they were trained on.
    """
    fitting, trained = {}, []
    for name in names():
        config = configs.read(FOLDER / name)
        difficulty = TASKS[config.task].difficulty_of(program)
        if difficulty in config.levels:
            fitting.setdefault(config.target, name)
        length, nesting = config.target
        trained.append(f"{name} (task {config.task}, length {length}, nesting {nesting})")
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
    config = configs.read(FOLDER / name)
    difficulty = TASKS[config.task].difficulty_of(program)
    for row in tables.read_evaluation(FOLDER / name / "evaluation.json")["rows"]:
        if (row["length"], row["nesting"]) == difficulty:
            return f"exact_match {tables.format_rate(row['exact_match'], 4)} at {difficulty.label}"
    return ""
