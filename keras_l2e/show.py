"""Shows examples of a task, and how a network reads and writes them, character by character.

    python -m keras_l2e.show --task=copy --input_form=double --length=5

Above each id stands its character; BOS starts what is written, EOS ends every text.
"""

import random
from dataclasses import dataclass

from keras_l2e import command_line
from keras_l2e.errors import UsageError
from keras_l2e.language import forms, vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.settings import Settings, choice, integer


@dataclass(frozen=True)
class Arguments(Settings):
    """See `settings`."""

    task: str = choice("program", TASKS, "Whose examples are shown.")
    length: int = integer(4, "Digits of the numbers.")
    nesting: int = integer(1, "Operations of the programs.")
    input_form: str = choice("none", forms.INPUT_FORMS, "How the network reads them.")
    target_form: str = choice("answer", forms.TARGET_FORMS, "What the network writes of them.")
    count: int = integer(3, "Examples shown.")
    seed: int = integer(1, "Seed of the examples.", lower=0)


SPECIAL = {vocabulary.BOS: "BOS", vocabulary.EOS: "EOS"}
POSITIONS_A_LINE = 20
NAME_WIDTH = len("encoder_token_ids")


def show(arguments: Arguments) -> str:
    """Examples of a task as lines to show.

    Raises:
        ValueError: the task has no such difficulty, or nothing of what is to be written.
    """
    task, difficulty = TASKS[arguments.task], Difficulty(arguments.length, arguments.nesting)
    task.check(difficulty)
    forms.check(arguments.task, arguments.target_form)
    rng = random.Random(f"show/{arguments.task}/{difficulty}/{arguments.seed}")
    parts = []
    for _ in range(arguments.count):
        example = task.generate(rng, difficulty)
        read = encoder_ids(example.program, arguments.input_form)
        text = forms.TARGET_FORMS[arguments.target_form].write(example)
        written = vocabulary.encode(text)
        program = example.program.replace("\n", "\n         ")
        lines = [f"program  {program}", f"target   {example.target}"]
        if text != example.target:
            lines.append(f"written  {text}")
        lines += _positions("encoder_token_ids", read)
        lines += _positions("decoder_token_ids", [vocabulary.BOS, *written])
        lines += _positions("labels", [*written, vocabulary.EOS])
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def encoder_ids(program: str, input_form: str) -> list[int]:
    """The ids that the encoder reads; `networks.text.encode_programs` for one text.

    >>> encoder_ids("12", "none"), encoder_ids("12", "reverse")
    ([9, 10, 42], [10, 9, 42])
    >>> encoder_ids("12", "reverse_double")
    [10, 9, 42, 10, 9, 42]
    """
    texts = forms.read(program, input_form)
    return [i for text in texts for i in [*vocabulary.encode(text), vocabulary.EOS]]


def _positions(name: str, ids: list[int]) -> list[str]:
    """Characters and, below them, ids, so many a line."""
    lines = []
    for start in range(0, len(ids), POSITIONS_A_LINE):
        part = ids[start : start + POSITIONS_A_LINE]
        names = [SPECIAL.get(i) or repr(vocabulary.decode([i]))[1:-1] for i in part]
        lines.append(" " * NAME_WIDTH + "".join(f"{text:>4}" for text in names))
        lines.append(f"{'' if start else name:<{NAME_WIDTH}}" + "".join(f"{i:4}" for i in part))
    return lines


def main(arguments: Arguments) -> None:
    try:
        print(show(arguments))
    except ValueError as error:
        raise UsageError(f"--task={arguments.task}: {error}") from None


if __name__ == "__main__":
    command_line.run(main, Arguments)
