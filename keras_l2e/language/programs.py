"""The program class of "Learning to Execute": six operations, chained `nesting` times.

    >>> import random
    >>> program, target, trace = generate(random.Random(3), length=2, nesting=2)
    >>> print(program)
    j=81
    for x in range(2):j+=(3*76)
    print(j)
    >>> target, trace
    ('537', '228;309;228;537')

Every operation takes the previous result at a uniformly random operand position and literals at the
others, so a program is a chain in which each result is used exactly once. The class is that of the
paper's section 3 and of the code its authors released.
"""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from keras_l2e.language import traces
from keras_l2e.language.traces import products

SPLITS = ("train", "validation", "test")
VARIABLES = "abcdefghij"


class Example(NamedTuple):
    """What is drawn of a task.

    Attributes:
        program: the text that is read.
        target: the text that it prints, without the closing newline.
        trace: its work, the value of every operation; see `traces`. "" if there is nothing to
            compute.
    """

    program: str
    target: str
    trace: str = ""


class Longest(NamedTuple):
    """The most characters of each text of an example."""

    program: int
    target: int
    trace: int


class Operand(NamedTuple):
    """An expression.

    Attributes:
        text: as it stands in the program.
        value: what it comes to.
        work: the values that are computed whenever it is evaluated.
    """

    text: str
    value: int
    work: tuple[int, ...] = ()


class Drawing(Protocol):
    """What is drawn from: a `random.Random`, or what stands in for it."""

    def randrange(self, bound: int, /) -> int:
        """A number from 0 to `bound` - 1."""


class Draft:
    """A program while it is drawn: its statements so far and the result of the last operation.

    `work` are the values that the statements compute.
    """

    def __init__(self, rng: Drawing, length: int, previous: Operand | None = None):
        self.draw = rng.randrange
        self.largest_literal = 10**length
        self.largest_small = 4 * length
        self.unused_variables = list(VARIABLES)
        self.statements: list[str] = []
        self.work: list[int] = []
        self.previous = previous

    def literal(self) -> Operand:
        """A literal, uniform on 1..10**length, both included."""
        value = 1 + self.draw(self.largest_literal)
        return Operand(str(value), value)

    def operands(self, count: int) -> list[Operand]:
        """`count` operands: literals, but for the previous result, if any, at a random position."""
        if self.previous is None:
            return [self.literal() for _ in range(count)]
        position = self.draw(count) if count > 1 else 0
        return [self.previous if i == position else self.literal() for i in range(count)]

    def small(self) -> int:
        """A small factor or number of rounds, uniform on 1..4*length, both included."""
        return 1 + self.draw(self.largest_small)

    def variable(self) -> str:
        """A variable's name that the program has not used yet."""
        return self.unused_variables.pop(self.draw(len(self.unused_variables)))

    def flip(self) -> bool:
        """A fair coin."""
        return self.draw(2) == 0


def pair(draft: Draft) -> Operand:
    """`(A+B)` or `(A-B)`."""
    a, b = draft.operands(2)
    sign, value = ("+", a.value + b.value) if draft.flip() else ("-", a.value - b.value)
    return Operand(f"({a.text}{sign}{b.text})", value, (*a.work, *b.work, value))


def smallmul(draft: Draft) -> Operand:
    """`(A*b)` or `(b*A)` with a small b."""
    (a,) = draft.operands(1)
    b = draft.small()
    text = f"({a.text}*{b})" if draft.flip() else f"({b}*{a.text})"
    return Operand(text, a.value * b, (*a.work, *products(a.value, b)))


def equality(draft: Draft) -> Operand:
    """`A` itself."""
    return draft.operands(1)[0]


def vars_(draft: Draft) -> Operand:
    """`v=A;`, then `(v+B)` or `(v-B)`."""
    a, b = draft.operands(2)
    v = draft.variable()
    draft.statements.append(f"{v}={a.text};")
    draft.work += a.work
    sign, value = ("+", a.value + b.value) if draft.flip() else ("-", a.value - b.value)
    return Operand(f"({v}{sign}{b.text})", value, (*b.work, value))


def small_loop(draft: Draft) -> Operand:
    """`v=A`, `for x in range(n):v+=B` or `v-=B` with a small n, then `v`."""
    a, b = draft.operands(2)
    v = draft.variable()
    n = draft.small()
    sign, step = ("+", b.value) if draft.flip() else ("-", -b.value)
    draft.statements.append(f"{v}={a.text}")
    draft.statements.append(f"for x in range({n}):{v}{sign}={b.text}")
    draft.work += a.work
    for turn in range(1, n + 1):
        draft.work += (*b.work, a.value + turn * step)
    return Operand(v, a.value + n * step)


def ifstat(draft: Draft) -> Operand:
    """`(C if A>B else D)` or `(C if A<B else D)`."""
    c, a, b, d = draft.operands(4)
    if draft.flip():
        comparison, truth = ">", a.value > b.value
    else:
        comparison, truth = "<", a.value < b.value
    chosen = c if truth else d
    text = f"({c.text} if {a.text}{comparison}{b.text} else {d.text})"
    return Operand(text, chosen.value, (*a.work, *b.work, *chosen.work, chosen.value))


OPERATIONS = {
    "pair": pair,
    "smallmul": smallmul,
    "equality": equality,
    "vars": vars_,
    "small_loop": small_loop,
    "ifstat": ifstat,
}
OPERATION_NAMES = tuple(OPERATIONS)


def generate(
    rng: Drawing,
    length: int,
    nesting: int,
    operation: str = "",
    operations: Sequence[str] = OPERATION_NAMES,
) -> Example:
    """Draws a program of `nesting` operations on literals from 1 to 10**length.

    Args:
        rng: the source of every draw.
        length: literals are uniform on 1..10**length, small numbers on 1..4*length.
        nesting: number of operations, at most 10, the number of variable names.
        operation: one that the program is sure to have, at a uniformly random place; "" for any.
            If it is drawn uniformly itself, programs are distributed as without it.
        operations: those that are drawn, all equally likely; by default all six.

    Returns:
        The program as Python 3 text, what it prints, and its trace.
    """
    draft = Draft(rng, length)
    place = rng.randrange(nesting) if operation else None
    for i in range(nesting):
        if i == place:
            apply = OPERATIONS[operation]
        else:
            apply = OPERATIONS[operations[rng.randrange(len(operations))]]
        last = draft.previous = apply(draft)
    text, value, work = last
    draft.statements.append(f"print({text})")
    computed = [*draft.work, *work]
    if not computed or computed[-1] != value:  # A literal, say.
        computed.append(value)
    return Example("\n".join(draft.statements), str(value), traces.write(computed))


def count_operations(program: str, nesting: int) -> Counter[str]:
    """How often each operation occurs in a generated program, read from its text.

    `equality` leaves nothing in the text, so it is what remains of `nesting`.
    """
    counts = _visible_operations(program)
    counts["equality"] = nesting - counts.total()
    return +counts


def _visible_operations(program: str) -> Counter[str]:
    """How often each of the other operations occurs; `pair` below 0: parentheses lack."""
    counts = Counter(
        smallmul=program.count("*"),
        vars=program.count(";"),
        small_loop=program.count("for "),
        ifstat=program.count(" if "),
    )
    # Every pair of parentheses belongs to print, to a loop's range, or to one of four operations.
    parentheses = program.count("(") - 1 - counts["small_loop"]
    counts["pair"] = parentheses - counts["smallmul"] - counts["vars"] - counts["ifstat"]
    return counts


def difficulty_of(program: str) -> tuple[int, int] | None:
    """The least (length, nesting) whose numbers and operations a program's text has.

    None if its operations do not stand in parentheses of their own, as the class has them, or if a
    product has no literal factor.

    >>> difficulty_of("print(((8827+100)-12))")
    (4, 2)
    >>> difficulty_of("print((8827*9))"), difficulty_of("print((8827*77))")
    ((4, 1), (20, 1))
    """
    operations = _visible_operations(program)
    in_parentheses = operations["pair"] + operations["smallmul"] + operations["vars"]
    operators = len(re.findall(r"[-+](?!=)|\*", program))
    if operations["pair"] < 0 or operators != in_parentheses:
        return None
    # Literals of length n go from 1 to 10^n, so its last one has a digit more.
    numbers = [int(literal) for literal in re.findall("[0-9]+", program)]
    length = max(len(str(max(number, 1) - 1)) for number in [*numbers, 1])
    # Small factors and numbers of rounds go from 1 to 4n.
    small = [int(rounds) for rounds in re.findall(r"range\(([0-9]+)\)", program)]
    for factors in re.findall(r"([0-9]*)\*([0-9]*)", program):
        literals = [int(factor) for factor in factors if factor]
        if not literals:
            return None
        small.append(min(literals))
    return max(length, *(-(-number // 4) for number in [*small, 1])), max(1, operations.total())


_VARIABLE = re.compile(r"\b[a-j]\b")


def rename_variables(program: str) -> str:
    """The text with its variables (whole words a..j) renamed to a, b... in order of appearance."""
    names: dict[str, str] = {}
    return _VARIABLE.sub(
        # The remainder is taken for a text that has all ten: the default is worked out either way.
        lambda match: names.setdefault(match[0], VARIABLES[len(names) % len(VARIABLES)]),
        program,
    )


def digest(program: str) -> int:
    """A stable 64-bit digest of the text after `rename_variables`; equal for renamed copies."""
    renamed = rename_variables(program).encode("utf-8", "surrogatepass")
    # `person` is a salt, chosen so that even the ten one-digit texts of copy fall into all splits.
    hashed = hashlib.blake2b(renamed, digest_size=8, person=b"keras_l2e")
    return int.from_bytes(hashed.digest(), "big")


def split_of(program: str) -> str:
    """The split a text of any task belongs to: its digest modulo 3 picks train, validation or test.

    The paper splits by a hash modulo 3 too; here variables are renamed first, so that copies of a
    program under other names always stand in the same split.
    """
    return split_of_digest(digest(program))


def split_of_digest(found: int) -> str:
    """As `split_of`, for those who have a program's `digest` already."""
    return SPLITS[found % 3]


class _Highest:
    """Stands in for a `random.Random`: every draw is the highest possible."""

    def randrange(self, bound: int) -> int:
        return bound - 1


@functools.cache
def longest(length: int, nesting: int) -> Longest:
    """The longest possible texts at a difficulty, in characters.

    Worked out from the operations themselves, never from a sample. The program's bound is reached;
    the target's is a bound, exact for the largest absolute value plus a sign, and the trace's one
    for as many such values as can be computed.
    """
    # The largest literals, and one operation again and again: that with the longest text.
    program_length = max(
        len(generate(_Highest(), length, nesting, operations=[name]).program) for name in OPERATIONS
    )
    # The largest value is that of loops, each of which adds the last result to a literal.
    value = 10**length
    for _ in range(nesting):
        value = 10**length + 4 * length * value
    target_length = len(str(value)) + 1
    # Most values are computed by a loop whose every round evaluates a chain of products.
    of_a_product = max(len(products(small, 10**9)) for small in range(1, 4 * length + 1))
    num_values = 4 * length * ((nesting - 1) * of_a_product + 1)
    return Longest(program_length, target_length, num_values * (target_length + 1))
