"""Lets a trained network execute a program, beside what the program really prints.

    python -m keras_l2e.execute 'print(12+34)'
    python -m keras_l2e.execute --model=W 'print(12+34)'

The program is an argument, a file's path, or standard input. Without --model a network answers that
comes with the package. With --steps it shows what the network held for possible at each step.
"""

import itertools
import math
import os
import re
import reprlib
import sys
from dataclasses import dataclass, field

from keras_l2e import api, command_line, pretrained, tables
from keras_l2e.errors import UsageError
from keras_l2e.language import forms, traces
from keras_l2e.language.interpreter import ProgramError
from keras_l2e.language.tasks import TASKS, Task
from keras_l2e.settings import Settings, boolean, path

# What can be no program, but the name of a file: it has an ending, or the name of a folder.
FILE_NAME = re.compile(r".*\.[A-Za-z]\w*|[^()]*[A-Za-z_~][^()]*/[^()]*|/[^()]+")
# Far more than any network can read, of a file that may have no end.
MOST_BYTES = 2**20


@dataclass(frozen=True)
class Arguments(Settings):
    """See `settings`."""

    model: str = path(
        "",
        "Folder of a run or of a SavedModel, place on a hub (hf://user/name, "
        "kaggle://user/model/keras/variation), or name of a network of the package; by default the "
        "one of these that was trained on such programs.",
    )
    steps: bool = boolean(False, "Show at each step the characters that were most probable.")
    arguments: list[str] = field(default_factory=list)


def main(arguments: Arguments) -> None:
    folder = api.find(arguments.model) if arguments.model else None
    program = read_program(arguments.arguments)
    if folder is None:
        name = pretrained.suited(program)
        folder = pretrained.find(name)
        print(f"network    {name} (--model names another)")
        if measured := pretrained.measured(name, program):
            print(f"           {measured}")
    network = api.TrainedNetwork(folder)
    if reason := network.why_unreadable(program):
        raise UsageError(f"program {reprlib.repr(program)}: {reason}")
    print(show(network, program, arguments.steps))


def show(network: api.TrainedNetwork, program: str, show_candidates: bool) -> str:
    """What a network makes of a program, as lines to show."""
    steps = network.steps(program)
    written = "".join(step.character for step in steps if step.character != "EOS")
    ended = bool(steps) and steps[-1].character == "EOS"
    answer = network.form.answer(written, ended)
    lines = ["program    " + program.replace("\n", "\n           ")]
    if network.form.work:
        lines += show_work(network.form.work(written), program, TASKS[network.interface.task])
    lines.append(f"predicted  {tables.visible(answer)}")
    try:
        truth = TASKS[network.interface.task].answer(program)
        lines += [f"true       {tables.visible(truth)}", "right" if answer == truth else "wrong"]
    except ProgramError as error:
        lines.append(f"true       unknown: {error}")
    if show_candidates:
        lines.append("step  characters and their probabilities, the first one is written")
        for number, step in enumerate(steps, start=1):
            shown = (f"{_name(text):<5} {value:.4f}" for text, value in step.candidates)
            lines.append(f"{number:>4}  {'   '.join(shown)}")
    elif network.form.work:
        # Of an answer whose end was not written it is 0, as in a SavedModel.
        probability = math.prod(step.probability for step in steps) if ended else 0.0
        lines.append(f"probability {probability:.4f}, of all {len(steps)} characters written")
    else:
        lines.append("character  probability")
        lines += [f"{tables.visible(s.character):<9}  {s.probability:.4f}" for s in steps]
    return "\n".join(lines)


def show_work(work: str, program: str, task: Task) -> list[str]:
    """The values that a network wrote beside those that Python computes, as lines to show."""
    values = tables.visible(work).split(traces.SEPARATOR)
    try:
        steps = task.steps(program)
    except ProgramError:
        return [f"work       {value}" for value in values]
    width = max(len("nothing"), *map(len, values))
    lines, all_right = [], True
    for value, step in itertools.zip_longest(values, steps):
        computed, kind = "nothing", ""
        if step:
            turn = f" {step.turn}" if step.turn else ""
            computed, kind = str(step.value), f" ({step.kind}{turn})"
        mark = "  <- the first wrong value" if all_right and value != computed else ""
        all_right &= not mark
        lines.append(f"work       {value or 'nothing':<{width}}  Python {computed}{kind}{mark}")
    return lines


def _name(character: str) -> str:
    """A character for the eye; ids that are none, PAD and BOS, have no text."""
    return {" ": "space", "": "none"}.get(character, tables.visible(character))


def read_program(arguments: list[str]) -> str:
    """The program that is an argument, in the file that it names, or on standard input.

    A file may be a pipe, as the shell makes for <(...).

    Raises:
        UsageError: two programs, a folder, no such file, or no text.
    """
    if len(arguments) > 1:
        raise UsageError(f"one program at a time; the second is {arguments[1]!r}")
    if not arguments and sys.stdin is None:
        raise UsageError("no program: neither an argument nor standard input")
    name = arguments[0] if arguments else "standard input"
    # Not Path, which fails where a program is too long for a file's name.
    if arguments and os.path.isdir(name):
        raise UsageError(f"{name} is a folder; a program or its file is needed")
    if arguments and not os.path.exists(name):
        if FILE_NAME.fullmatch(name):
            raise UsageError(f"{name}: no such file")
        return forms.clean(name)
    try:
        with open(name, "rb") if arguments else sys.stdin.buffer as file:
            return forms.clean(file.read(MOST_BYTES).decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text") from None


if __name__ == "__main__":
    command_line.run(main, Arguments)
