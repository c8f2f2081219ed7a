"""The tasks as one table: each draws an `Example` at a `Difficulty` and says all about itself.

>>> TASKS["addition"].generate(random.Random(0), Difficulty(length=5))
Example(program='print(60494+65125)', target='125619', trace='125619')
"""

import dataclasses
import functools
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_l2e.language import interpreter, programs
from keras_l2e.language.programs import Example, Longest
from keras_l2e.language.traces import Step

# Training examples that are prepared for a difficulty, unless another number is asked for.
EXAMPLES_PER_DIFFICULTY = 50_000
_DIGITS = "0123456789"
# Of white space in a task's programs.
ANYWHERE = r"[ \n]"
WITHOUT_HARDEST = "without product or loop"
# The operations of the task `control`.
CONTROL = ("small_loop", "ifstat")


class Difficulty(NamedTuple):
    """What makes an example hard.

    Attributes:
        length: the digits of its numbers.
        nesting: the operations that are chained.
    """

    length: int
    nesting: int = 1

    @property
    def label(self) -> str:
        """For the eye: the length, and the nesting if there is more than one.

        >>> Difficulty(3).label, Difficulty(3, nesting=2).label
        ('length 3', 'length 3, nesting 2')
        """
        return f"length {self.length}" + (f", nesting {self.nesting}" if self.nesting > 1 else "")


class Untrained(NamedTuple):
    """Texts like a task's own that it never draws, to see how a network fares on them.

    Attributes:
        name: of the set of such texts, as "unequal_digits".
        label: what tells these from the others of the set, as {"shorter": 3}.
        draw: draws one `Example` from a `random.Random`.
    """

    name: str
    label: dict[str, Any]
    draw: Callable[[random.Random], Example]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        generate: draws one `Example` from a `random.Random` at a `Difficulty`; of one of the
            `drawn_kinds` if it is given.
        answer: the true output of any text of the task; raises `interpreter.ProgramError`.
        longest: the longest texts possible at a difficulty, in characters; never shorter than at
            one of less length and nesting.
        difficulty_of: the least `Difficulty` whose numbers and operations a text has; None if the
            text is none of the task.
        max_length: difficulties go from length 1 to this.
        max_nesting: difficulties go from nesting 1 to this.
        steps: the work of any text of the task, see `interpreter.steps`; None if there is nothing
            to compute.
        white_space: a regular expression of all white space in its programs, with what must stand
            beside it; a network of the task can read no other. By default there may be any.
        output_characters: those that an answer may have.
        kind: what examples are told apart by, as "operation"; "" if by nothing.
        kinds_of: the kinds that a text of a difficulty belongs to.
        drawn_kinds: those of them that can be drawn one by one.
        untrained: beside a target difficulty, texts that it never draws.
    """

    generate: Callable[..., Example]
    answer: Callable[[str], str]
    longest: Callable[[Difficulty], Longest]
    difficulty_of: Callable[[str], Difficulty | None]
    max_length: int
    max_nesting: int = 1
    steps: Callable[[str], list[Step]] | None = None
    white_space: str = ANYWHERE
    output_characters: str = _DIGITS
    kind: str = ""
    kinds_of: Callable[[str, Difficulty], list[Any]] = lambda text, difficulty: []
    drawn_kinds: tuple[str, ...] = ()
    untrained: Callable[[Difficulty], Iterable[Untrained]] = lambda target: ()

    def by_kind(self, texts: Iterable[str], difficulty: Difficulty) -> dict[Any, list[int]]:
        """The numbers of the texts of a difficulty that belong to each kind."""
        numbers = defaultdict(list)
        for i, text in enumerate(texts):
            for kind in self.kinds_of(text, difficulty):
                numbers[kind].append(i)
        return dict(numbers)

    def chance(self) -> float:
        """The token accuracy of guessing: one of the output characters or EOS."""
        return 1 / (len(self.output_characters) + 1)

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


def _draw_program(
    rng: random.Random,
    difficulty: Difficulty,
    operation: str = "",
    operations: Sequence[str] = programs.OPERATION_NAMES,
) -> Example:
    return programs.generate(rng, *difficulty, operation, operations)


def _difficulty_of_program(text: str) -> Difficulty | None:
    try:
        interpreter.run(text)
    except interpreter.ProgramError:
        return None
    found = programs.difficulty_of(text)
    return found and Difficulty(*found)


def _difficulty_of_control(text: str) -> Difficulty | None:
    found = _difficulty_of_program(text)
    kinds = programs.count_operations(text, found.nesting) if found else {}
    return found if kinds and set(kinds) <= set(CONTROL) else None


def _operations(text: str, difficulty: Difficulty) -> list[str]:
    """The operations of a program; one without products and loops, the hardest, says so as well.

    >>> _operations("print((52-7))", Difficulty(2, nesting=2))
    ['pair', 'equality', 'without product or loop']
    """
    found = list(programs.count_operations(text, difficulty.nesting))
    return found if {"smallmul", "small_loop"} & set(found) else [*found, WITHOUT_HARDEST]


def _draw_addition(rng: random.Random, difficulty: Difficulty) -> Example:
    return _sum(_draw_number(rng, difficulty.length), _draw_number(rng, difficulty.length))


def _draw_number(rng: random.Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def _sum(a: int, b: int) -> Example:
    total = str(a + b)
    return Example(f"print({a}+{b})", total, total)


def _unequal_digits(target: Difficulty) -> Iterable[Untrained]:
    """Sums of two numbers, one of the target's digits and one with fewer, either one first."""
    for shorter in range(1, target.length):
        draw = functools.partial(_draw_unequal_sum, digits=target.length, shorter=shorter)
        yield Untrained("unequal_digits", {"shorter": shorter}, draw)


def _draw_unequal_sum(rng: random.Random, digits: int, shorter: int) -> Example:
    numbers = [_draw_number(rng, digits), _draw_number(rng, shorter)]
    return _sum(*(numbers if rng.randrange(2) else numbers[::-1]))


_ADDITION = re.compile(r"print\((0|[1-9][0-9]*)\+(0|[1-9][0-9]*)\)")


def difficulty_of_addition(text: str) -> Difficulty | None:
    """The `difficulty_of` of the task addition, whose numbers have equally many digits."""
    found = _ADDITION.fullmatch(text)
    if not found or len(found[1]) != len(found[2]):
        return None
    return Difficulty(len(found[1]))


def _memory(answer: Callable[[str], str]) -> Task:
    """A task that reads digits, and writes them in some order or several times."""

    def difficulty_of(text: str) -> Difficulty | None:
        return Difficulty(len(text)) if re.fullmatch("[0-9]+", text) else None

    def checked(text: str) -> str:
        if difficulty_of(text) is None:
            raise interpreter.ProgramError("line 1: only digits can be read")
        return answer(text)

    def draw(rng: random.Random, difficulty: Difficulty) -> Example:
        digits = f"{rng.randrange(10**difficulty.length):0{difficulty.length}}"
        return Example(digits, answer(digits))

    return Task(
        draw,
        checked,
        longest=lambda difficulty: Longest(
            difficulty.length, len(answer("0" * difficulty.length)), 0
        ),
        difficulty_of=difficulty_of,
        max_length=65,
        white_space="",
    )


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


_PROGRAM = Task(
    generate=_draw_program,
    answer=interpreter.run,
    longest=lambda difficulty: programs.longest(*difficulty),
    difficulty_of=_difficulty_of_program,
    max_length=12,
    max_nesting=10,
    steps=interpreter.steps,
    white_space=r"\n| if | else |for x in ",
    output_characters="-" + _DIGITS,
    kind="operation",
    kinds_of=_operations,
    drawn_kinds=programs.OPERATION_NAMES,
)
TASKS = {
    "program": _PROGRAM,
    # Of the suite that arXiv 1807.03819 is measured on.
    "control": dataclasses.replace(
        _PROGRAM,
        generate=functools.partial(_draw_program, operations=CONTROL),
        difficulty_of=_difficulty_of_control,
        drawn_kinds=CONTROL,
    ),
    "addition": Task(
        generate=_draw_addition,
        answer=interpreter.run,
        longest=lambda difficulty: Longest(
            len("print(+)") + 2 * difficulty.length, difficulty.length + 1, difficulty.length + 1
        ),
        difficulty_of=difficulty_of_addition,
        max_length=64,
        steps=interpreter.steps,
        white_space="",
        kind="carry_chain",
        kinds_of=lambda text, difficulty: [carry_chain(text)],
        untrained=_unequal_digits,
    ),
    "copy": _memory(lambda digits: digits),
    "reverse": _memory(lambda digits: digits[::-1]),
    "double": _memory(lambda digits: 2 * digits),
}
