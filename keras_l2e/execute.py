"""Lets a trained network execute a program, beside what the program really prints.

    python -m keras_l2e.execute 'print(12+34)'
    python -m keras_l2e.execute --model=W 'print(12+34)'

The program is an argument, a file's path, or standard input. Without --model a network answers that
comes with the package. With --steps it shows what the network held for possible at each step.
"""

import json
import os
import reprlib
import sys
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line, export, pretrained
from keras_l2e import config as run_flags
from keras_l2e import devices as runtime
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language.interpreter import ProgramError
from keras_l2e.language.tasks import TASKS

if __name__ == "__main__":
    command_line.define_path(
        "model",
        None,
        "Folder of a training run or of an exported SavedModel, or the name of a network that "
        "comes with the package; by default the one of these that was trained on such programs.",
        optional=True,
    )
    flags.DEFINE_bool("steps", False, "Show at each step the characters that were most probable.")


def execute(model_dir: Path, program: str, show_steps: bool = False) -> str:
    """What the network at `model_dir` makes of a program, as lines to show.

    Args:
        model_dir: a SavedModel of `export`, or the folder of a finished run.
        program: its text.
        show_steps: whether each step's top candidates are shown, or only what was written.

    Raises:
        UsageError: the network cannot read the program.
        WorkError: the network is broken.
    """
    import tensorflow as tf

    is_run = (model_dir / run_flags.NAME).is_file()
    model, task, longest_program = (_load_trained if is_run else _load_exported)(model_dir)
    reason = _why_unreadable(program, longest_program)
    if reason:
        raise UsageError(f"program {reprlib.repr(program)}: {reason}")
    steps = model.decode_steps(tf.constant([program]))
    characters = [character.decode() for character in steps["characters"][0].numpy()]
    probabilities = steps["probabilities"][0].numpy()
    output = "".join(character for character in characters if character != "EOS")
    first, *others = program.split("\n")
    lines = [f"program    {first}", *(f"           {line}" for line in others)]
    lines.append(f"predicted  {_visible(output)}")
    try:
        truth = TASKS[task].answer(program)
        lines += [f"true       {_visible(truth)}", "right" if output == truth else "wrong"]
    except ProgramError as error:
        lines.append(f"true       unknown: {error}")
    if show_steps:
        return "\n".join([*lines, *_step_table(steps)])
    lines.append("character  probability")
    lines += [
        f"{_visible(character):<9}  {probability:.4f}"
        for character, probability in zip(characters, probabilities, strict=True)
        if character
    ]
    return "\n".join(lines)


def _load_exported(model_dir: Path):
    """The functions of a SavedModel, its task, and the characters of its longest program."""
    import tensorflow as tf

    export.check(model_dir)
    try:
        description = json.loads((model_dir / export.DESCRIPTION).read_text("utf-8"))
        task, longest_program = description["task"], description["longest_program"]
        return tf.saved_model.load(str(model_dir)), task, longest_program
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise WorkError(f"{model_dir} is not a whole SavedModel: {error}") from None


def _load_trained(workdir: Path):
    """As `_load_exported`, from the network itself."""
    from keras_l2e.networks import models

    config = run_flags.read_finished(workdir)
    module = export.make_module(config, models.load(workdir / "model.keras"))
    return module, config.task, export.describe(config)["longest_program"]


def _step_table(steps: dict) -> list[str]:
    """A line for each character written: the most probable ones at that step, best first."""
    lines = ["step  characters and their probabilities, the first one is written"]
    candidates = steps["candidates"][0].numpy()
    probabilities = steps["candidate_probabilities"][0].numpy()
    for step, (characters, values) in enumerate(zip(candidates, probabilities, strict=True), 1):
        if characters[0]:
            pairs = zip(characters, values, strict=True)
            shown = (f"{_name(text.decode()):<5} {value:.4f}" for text, value in pairs)
            lines.append(f"{step:>4}  {'   '.join(shown)}")
    return lines


def _name(character: str) -> str:
    """A character for the eye; ids that are none, PAD and BOS, have no text."""
    return {" ": "space", "": "none"}.get(character, _visible(character))


def _visible(text: str) -> str:
    return text.replace("\n", "\\n")


def _why_unreadable(program: str, longest_program: int) -> str | None:
    from keras_l2e.language.vocabulary import CHARACTERS

    if not program:
        return "it is empty"
    for position, character in enumerate(program):
        if character not in CHARACTERS:
            return f"unknown character {character!r} at position {position}"
    if len(program) > longest_program:
        return f"{len(program)} characters; this network was trained on at most {longest_program}"
    return None


def _find_model(place: str) -> Path:
    path = Path(place).expanduser()
    for candidate in (path / "saved_model", path):
        if (candidate / export.DESCRIPTION).is_file():
            return candidate
    if (path / "model.keras").is_file():
        return path
    if place in pretrained.names():
        return pretrained.find(place)
    raise UsageError(
        f"no model in {path}: neither a finished training run, nor an exported one, nor one that "
        f"comes with the package ({', '.join(pretrained.names())})"
    )


def _read_program(arguments: list[str]) -> str:
    if len(arguments) > 1:
        raise UsageError(f"one program at a time; the second is {arguments[1]!r}")
    try:
        if not arguments:
            sys.stdin.reconfigure(encoding="utf-8")
            return sys.stdin.read().rstrip("\n")
        # Not Path.is_file: a program may be too long for a file's name.
        if os.path.isfile(arguments[0]):
            return Path(arguments[0]).read_text("utf-8").rstrip("\n")
    except UnicodeDecodeError:
        source = arguments[0] if arguments else "standard input"
        raise UsageError(f"{source} is not UTF-8 text") from None
    return arguments[0]


def main(config: SimpleNamespace) -> None:
    model_dir = config.model and _find_model(config.model)
    program = _read_program(config.arguments)
    if model_dir is None:
        name = pretrained.suited(program)
        model_dir = pretrained.find(name)
        print(f"network    {name} (--model names another)")
        if measured := pretrained.measured(name, program):
            print(f"           {measured}")
    runtime.load_tensorflow()
    print(execute(model_dir, program, config.steps))


if __name__ == "__main__":
    command_line.run(main, positional=True)
