"""The paper's three tasks as one table: each draws an `Example` at a `Difficulty`.

>>> TASKS["addition"].generate(random.Random(0), Difficulty(length=5))
Example(program='print(60494+65125)', target='125619')
"""

import itertools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keras_l2e.language import interpreter, programs
from keras_l2e.language.programs import Example

# How a task's input may be modified; the target never changes (paper, section 4.2).
INPUT_FORMS = ("none", "reverse", "double", "reverse_double")
# Training examples that are prepared for a difficulty, unless another number is asked for.
EXAMPLES_PER_DIFFICULTY = 50_000


class Difficulty(NamedTuple):
    """What makes an example hard: the digits of its numbers and the operations chained."""

    length: int
    nesting: int = 1


@dataclass(frozen=True)
class Task:
    """One task of the paper.

    Attributes:
        generate: draws one `Example(program, target)` from a `random.Random` at a `Difficulty`.
        answer: the true output of any text of the task; raises `interpreter.ProgramError`.
        longest: the longest program and target possible at a difficulty, in characters.
        difficulty_of: the least `Difficulty` whose numbers and operations a text has; None if the
            text is none of the task.
        max_length: difficulties go from length 1 to this.
        max_nesting: difficulties go from nesting 1 to this.
    """

    generate: Callable[[random.Random, Difficulty], Example]
    answer: Callable[[str], str]
    longest: Callable[[Difficulty], tuple[int, int]]
    difficulty_of: Callable[[str], Difficulty | None]
    max_length: int
    max_nesting: int = 1

    def difficulties(self) -> list[Difficulty]:
        """Every difficulty of the task: lengths in order, nesting by nesting."""
        return grid(Difficulty(self.max_length, self.max_nesting))

    def check(self, difficulty: Difficulty) -> None:
        """Raises ValueError, naming the allowed range, for a difficulty the task does not have."""
        for name, value, limit in (
            ("length", difficulty.length, self.max_length),
            ("nesting", difficulty.nesting, self.max_nesting),
        ):
            if not 1 <= value <= limit:
                raise ValueError(f"{name} {value} is out of range; allowed 1..{limit}")


def grid(target: Difficulty) -> list[Difficulty]:
    """All difficulties up to `target`, in the order of the paper's naive curriculum.

    >>> grid(Difficulty(2, 2))[1:3]
    [Difficulty(length=2, nesting=1), Difficulty(length=1, nesting=2)]
    """
    return [
        Difficulty(length, nesting)
        for nesting in range(1, target.nesting + 1)
        for length in range(1, target.length + 1)
    ]


def _draw_program(rng: random.Random, difficulty: Difficulty) -> Example:
    return programs.generate(rng, difficulty.length, difficulty.nesting)


def _longest_program(difficulty: Difficulty) -> tuple[int, int]:
    return programs.longest(difficulty.length, difficulty.nesting)


def _difficulty_of_program(text: str) -> Difficulty | None:
    try:
        interpreter.run(text)
    except interpreter.ProgramError:
        return None
    found = programs.difficulty_of(text)
    return found and Difficulty(*found)


def _draw_addition(rng: random.Random, difficulty: Difficulty) -> Example:
    return _sum(_draw_number(rng, difficulty.length), _draw_number(rng, difficulty.length))


def _draw_number(rng: random.Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def _sum(a: int, b: int) -> Example:
    return Example(f"print({a}+{b})", str(a + b))


def draw_unequal_sum(rng: random.Random, digits: int, shorter: int) -> Example:
    """A sum of two numbers with so many digits, either one first; no task has such sums."""
    numbers = [_draw_number(rng, digits), _draw_number(rng, shorter)]
    return _sum(*(numbers if rng.randrange(2) else numbers[::-1]))


def _longest_addition(difficulty: Difficulty) -> tuple[int, int]:
    return len("print(+)") + 2 * difficulty.length, difficulty.length + 1


_ADDITION = re.compile(r"print\((0|[1-9][0-9]*)\+(0|[1-9][0-9]*)\)")


def difficulty_of_addition(text: str) -> Difficulty | None:
    """The `difficulty_of` of the task addition, whose numbers have equally many digits."""
    found = _ADDITION.fullmatch(text)
    if not found or len(found[1]) != len(found[2]):
        return None
    return Difficulty(len(found[1]))


def _draw_copy(rng: random.Random, difficulty: Difficulty) -> Example:
    digits = f"{rng.randrange(10**difficulty.length):0{difficulty.length}}"
    return Example(digits, digits)


def _longest_copy(difficulty: Difficulty) -> tuple[int, int]:
    return difficulty.length, difficulty.length


def _difficulty_of_copy(text: str) -> Difficulty | None:
    return Difficulty(len(text)) if re.fullmatch("[0-9]+", text) else None


def _copy_answer(text: str) -> str:
    return text


TASKS = {
    "program": Task(
        _draw_program,
        interpreter.run,
        _longest_program,
        _difficulty_of_program,
        max_length=12,
        max_nesting=10,
    ),
    "addition": Task(
        _draw_addition, interpreter.run, _longest_addition, difficulty_of_addition, max_length=64
    ),
    "copy": Task(_draw_copy, _copy_answer, _longest_copy, _difficulty_of_copy, max_length=65),
}


def has_long_carry(program: str) -> bool:
    """Whether a carry runs through at least half of the digits of the sum `print(a+b)`."""
    return 2 * carry_chain(program) >= difficulty_of_addition(program).length


def carry_chain(program: str) -> int:
    """The longest run of neighbouring carries in the sum `print(a+b)`.

    >>> carry_chain("print(567+433)"), carry_chain("print(12+34)")
    (3, 0)
    """
    a, b = program.removeprefix("print(").removesuffix(")").split("+")
    longest = run = carry = 0
    for x, y in itertools.zip_longest(reversed(a), reversed(b), fillvalue="0"):
        carry = int(x) + int(y) + carry > 9
        run = run + 1 if carry else 0
        longest = max(longest, run)
    return longest
