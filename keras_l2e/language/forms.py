"""What the network reads of an example, and what it writes.

    >>> example = Example("print(12+34)", "46", "46")
    >>> read("print(12+34)", "reverse")
    [')43+21(tnirp']
    >>> TARGET_FORMS["reversed_trace"].write(example)
    '64;46'

An input form changes the program's text alone. A target form says what is written of an example,
and finds the answer in a text that a network wrote; what is judged is the answer.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from keras_l2e.language import interpreter, traces
from keras_l2e.language.programs import Example, Longest
from keras_l2e.language.tasks import ANYWHERE, TASKS
from keras_l2e.language.vocabulary import CHARACTERS

# How a task's input may be modified; the target never changes (paper, section 4.2).
INPUT_FORMS = ("none", "reverse", "double", "reverse_double")


def clean(text: str) -> str:
    """A program's text without what files, terminals and editors add to it.

    No byte order mark, line ends of any system as newlines, no blank line, no white space behind a
    line. `networks.text.clean` does the same for batches, in TensorFlow.

    >>> clean("print(12+34) \\r\\n")
    'print(12+34)'
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(filter(None, (line.rstrip(" \t\f") for line in lines)))


def why_unknown(program: str, white_space: str) -> str | None:
    """Why no network of a task reads a cleaned text, whatever its length; None if one may.

    >>> why_unknown("print(12 + 34)", white_space="")
    'white space at position 8, where no program of the task has any'

    Args:
        program: a text.
        white_space: of the `Task`.
    """
    if not program:
        return "it is empty"
    for position, character in enumerate(program):
        if character not in CHARACTERS:
            return f"unknown character {character!r} at position {position}"
    others = re.sub(white_space, lambda found: "_" * len(found[0]), program)
    if stray := re.search(ANYWHERE, others):
        return f"white space at position {stray.start()}, where no program of the task has any"
    return None


def read(program: str, input_form: str) -> list[str]:
    """The texts that the network reads, one after the other, EOS behind each of them.

    >>> read("12", "none"), read("12", "reverse_double")
    (['12'], ['21', '21'])
    """
    text = program[::-1] if input_form.startswith("reverse") else program
    return [text] * (2 if input_form.endswith("double") else 1)


class TargetForm(NamedTuple):
    """What a network writes.

    Attributes:
        write: the text to be written of an example.
        longest: of the longest texts of examples, the longest that may have to be written for one,
            in characters.
        separator: a character; the answer, as the program prints it, stands behind the last one.
            "" if all that is written is the answer.
        work: of a written text, the part that is to equal the example's trace; None if no work is
            written.
    """

    write: Callable[[Example], str]
    longest: Callable[[Longest], int]
    separator: str = ""
    work: Callable[[str], str] | None = None

    def answer(self, written: str, ended: bool = True) -> str:
        """The answer in a written text.

        Args:
            written: the text, without EOS.
            ended: whether EOS was written. What is cut off behind a separator might happen to be
                right, and is no answer.

        >>> TARGET_FORMS["trace"].answer("159271;227530;386801")
        '386801'
        """
        if not self.separator:
            return written
        return written.rpartition(self.separator)[2] if ended else ""


def _register_trace(example: Example) -> str:
    steps = interpreter.steps(example.program, registers=True)
    return traces.register_trace(steps) + example.target


TARGET_FORMS = {
    "answer": TargetForm(
        write=lambda example: example.target,
        longest=lambda longest: longest.target,
    ),
    "trace": TargetForm(
        write=lambda example: example.trace,
        longest=lambda longest: longest.trace,
        separator=traces.SEPARATOR,
        work=lambda written: written,
    ),
    "reversed_trace": TargetForm(
        write=lambda example: traces.reverse(example.trace),
        longest=lambda longest: longest.trace + len(traces.SEPARATOR) + longest.target,
        separator=traces.SEPARATOR,
        work=traces.forward,
    ),
    "register_trace": TargetForm(
        write=_register_trace,
        # Behind each comparison and counter comes a value that is as long or longer.
        longest=lambda longest: 2 * longest.trace + len(traces.SEPARATOR) + longest.target,
        separator=traces.SEPARATOR,
        work=traces.from_registers,
    ),
}


class Interface(NamedTuple):
    """What must be known of a trained network to give it texts and to read what it writes.

    Attributes:
        task, input_form, target_form: names in `tasks.TASKS`, INPUT_FORMS and TARGET_FORMS.
        target_length, target_nesting: the hardest difficulty that it was trained on.
        longest_program, longest_written: the longest texts of the trained difficulties, in
            characters.
        white_space: see `tasks.Task`.
    """

    task: str
    input_form: str
    target_form: str
    target_length: int
    target_nesting: int
    longest_program: int
    longest_written: int
    white_space: str = ANYWHERE


def check(task: str, target_form: str) -> None:
    """Raises ValueError if a task has nothing of what is to be written."""
    if shows_work(target_form) and not TASKS[task].steps:
        allowed = (name for name, form in TARGET_FORMS.items() if not form.work)
        raise ValueError(
            f"target form {target_form}: the task {task} has nothing to compute; allowed is "
            f"{', '.join(allowed)}"
        )


def shows_work(target_form: str) -> bool:
    """Whether a network of this form writes its work."""
    return TARGET_FORMS[target_form].work is not None


def write_all(examples: Iterable[Iterable[bytes]], target_form: str) -> list[bytes]:
    """The texts to be written of many examples.

    Args:
        examples: an `Example` of columns of UTF-8 `bytes`, as they are stored.
        target_form: a name in TARGET_FORMS.
    """
    write = TARGET_FORMS[target_form].write
    rows = zip(*examples, strict=True)
    return [write(Example(*(text.decode() for text in row))).encode() for row in rows]
