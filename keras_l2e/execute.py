"""Lets a trained network execute a program, beside what the program really prints.

    python -m keras_l2e.execute --model=W 'print(12+34)'

The program is an argument, a file's path, or standard input.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line, export
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.interpreter import ProgramError
from keras_l2e.tasks import TASKS

if __name__ == "__main__":
    flags.DEFINE_string(
        "model", None, "A training run's folder or an exported SavedModel.", required=True
    )


def execute(model_dir: Path, program: str) -> str:
    """What the network at `model_dir` makes of a program, as lines to show.

    Raises:
        WorkError: the network cannot read the program, or the SavedModel is broken.
    """
    description = json.loads((model_dir / export.DESCRIPTION).read_text())
    reason = _why_unreadable(program, description["longest_program"])
    if reason:
        raise WorkError(reason)
    try:
        truth = TASKS[description["task"]].answer(program)
    except ProgramError as error:
        truth, reason = None, str(error)

    import tensorflow as tf

    try:
        steps = tf.saved_model.load(str(model_dir)).decode_steps(tf.constant([program]))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise WorkError(f"{model_dir} is not a whole SavedModel: {error}") from None
    characters = [character.decode() for character in steps["characters"][0].numpy()]
    probabilities = steps["probabilities"][0].numpy()
    output = "".join(character for character in characters if character != "EOS")
    lines = [f"program    {line}" for line in program.split("\n")]
    lines[1:] = [line.replace("program", "       ", 1) for line in lines[1:]]
    lines.append(f"predicted  {output}")
    if truth is None:
        lines.append(f"true       unknown: {reason}")
    else:
        lines.append(f"true       {truth}")
        lines.append("right" if output == truth else "wrong")
    lines.append("character  probability")
    lines += [
        f"{character:<9}  {probability:.4f}"
        for character, probability in zip(characters, probabilities, strict=True)
        if character
    ]
    return "\n".join(lines)


def _why_unreadable(program: str, longest_program: int) -> str | None:
    from keras_l2e.vocabulary import CHARACTERS

    if not program:
        return "the program is empty"
    for position, character in enumerate(program):
        if character not in CHARACTERS:
            return f"unknown character {character!r} at position {position} of the program"
    if len(program) > longest_program:
        return (
            f"the program has {len(program)} characters; this network was trained on at most "
            f"{longest_program}"
        )
    return None


def _find_model(path: Path) -> Path:
    for candidate in (path / "saved_model", path):
        if (candidate / export.DESCRIPTION).is_file():
            return candidate
    raise UsageError(f"no model in {path}: neither a finished training run nor an exported one")


def _read_program(arguments: list[str]) -> str:
    if len(arguments) > 1:
        raise UsageError(f"one program at a time; the second is {arguments[1]!r}")
    if not arguments:
        return sys.stdin.read().rstrip("\n")
    try:
        if Path(arguments[0]).is_file():
            return Path(arguments[0]).read_text("utf-8").rstrip("\n")
    except OSError:  # A program may be too long for a file's name.
        pass
    except UnicodeDecodeError:
        raise UsageError(f"{arguments[0]} is not a text file") from None
    return arguments[0]


def main(config: SimpleNamespace) -> None:
    model_dir = _find_model(Path(config.model))
    program = _read_program(config.arguments)
    from keras_l2e import runtime

    runtime.quiet_tensorflow()
    print(execute(model_dir, program))


if __name__ == "__main__":
    command_line.run(main, positional=True)
