"""Shows examples of a task, and how a network reads and writes them, character by character.

    python -m keras_l2e.show --task=copy --input_form=double --length=5

Above each id stands its character; BOS starts what is written, EOS ends every text.
"""

import random
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line
from keras_l2e.errors import UsageError
from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import INPUT_FORMS, TASKS, Difficulty

if __name__ == "__main__":
    flags.DEFINE_enum("task", "program", sorted(TASKS), "Whose examples are shown.")
    flags.DEFINE_integer("length", 4, "Digits of the numbers.", lower_bound=1)
    flags.DEFINE_integer("nesting", 1, "Operations of the programs.", lower_bound=1)
    flags.DEFINE_enum("input_form", "none", sorted(INPUT_FORMS), "How the network reads them.")
    flags.DEFINE_integer("count", 3, "Examples shown.", lower_bound=1)
    flags.DEFINE_integer("seed", 1, "Seed of the examples.", lower_bound=0)

SPECIAL = {vocabulary.BOS: "BOS", vocabulary.EOS: "EOS"}
POSITIONS_A_LINE = 20
NAME_WIDTH = len("encoder_token_ids")


def show(
    task: str, difficulty: Difficulty, input_form: str = "none", count: int = 3, seed: int = 1
) -> str:
    """Examples of a task as lines to show.

    Raises:
        ValueError: the task has no such difficulty.
    """
    TASKS[task].check(difficulty)
    rng = random.Random(f"show/{task}/{difficulty}/{seed}")
    parts = []
    for _ in range(count):
        program, target = TASKS[task].generate(rng, difficulty)
        read, written = encoder_ids(program, input_form), vocabulary.encode(target)
        first, *others = program.split("\n")
        lines = [f"program  {first}", *(f"         {line}" for line in others)]
        lines.append(f"target   {target}")
        lines += _positions("encoder_token_ids", read)
        lines += _positions("decoder_token_ids", [vocabulary.BOS, *written])
        lines += _positions("labels", [*written, vocabulary.EOS])
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def encoder_ids(program: str, input_form: str) -> list[int]:
    """The ids that the encoder reads; `input_pipeline.encode_programs` for one text.

    >>> encoder_ids("12", "none"), encoder_ids("12", "reverse")
    ([9, 10, 42], [10, 9, 42])
    >>> encoder_ids("12", "reverse_double")
    [10, 9, 42, 10, 9, 42]
    """
    text = program[::-1] if input_form.startswith("reverse") else program
    ids = [*vocabulary.encode(text), vocabulary.EOS]
    return ids * 2 if input_form.endswith("double") else ids


def _positions(name: str, ids: list[int]) -> list[str]:
    """Characters and, below them, ids, so many a line."""
    lines = []
    for start in range(0, len(ids), POSITIONS_A_LINE):
        part = ids[start : start + POSITIONS_A_LINE]
        names = [SPECIAL.get(i) or repr(vocabulary.decode([i]))[1:-1] for i in part]
        lines.append(" " * NAME_WIDTH + "".join(f"{text:>4}" for text in names))
        lines.append(f"{'' if start else name:<{NAME_WIDTH}}" + "".join(f"{i:4}" for i in part))
    return lines


def main(config: SimpleNamespace) -> None:
    difficulty = Difficulty(config.length, config.nesting)
    try:
        print(show(config.task, difficulty, config.input_form, config.count, config.seed))
    except ValueError as error:
        raise UsageError(f"--task={config.task}: {error}") from None


if __name__ == "__main__":
    command_line.run(main)
