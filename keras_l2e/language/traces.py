"""The trace of a program: the value of every operation in the order in which Python computes them.

    >>> write([159271, 227530, 386801])
    '159271;227530;386801'
    >>> reverse("124115;-189922")
    '511421;229981-;-189922'

Values stand between semicolons, the last one being what is printed (after "Show Your Work", arXiv
2112.00114). A product by a factor of two digits is worked out as at school.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

SEPARATOR = ";"

# These are no values of a trace. Where they are written, other characters stand behind them.
COMPARISON, COUNTER = "comparison", "counter"
MULTIPLE = "multiple"
NO_VALUES = (COMPARISON, COUNTER, MULTIPLE)
# Of these the digits are written up to the longest operand's: whether the leading ones cancel out
# is seen only when all are known.
_WITH_LEADING = ("sum", "difference", "round", COMPARISON)
RELATIONS = {-1: "<", 0: "=", 1: ">"}


class Step(NamedTuple):
    """A value of a trace, and what it is.

    Attributes:
        value: the value.
        kind: a sum, difference, units, tens, product, choice (of a conditional), round (a variable
            after a round of a loop), or printed (what is printed without being computed last).
            Where asked for also comparison, the difference of what a conditional compares,
            counter, the rounds that a loop has left when one begins, and multiple, a product by 20,
            30 ... without its zero.
        turn: the round of a loop in which it is computed, from 1 on; 0 outside of loops.
        operands: what a sum, difference, comparison, round or product was computed from.
        name: the variable that a round or another `v+=B` gives this value.
    """

    value: int
    kind: str
    turn: int = 0
    operands: tuple[int, ...] = ()
    name: str = ""


def products(left: int, right: int) -> tuple[int, ...]:
    """What is computed for a product: by units, by tens and the product, or the product alone.

    The factor nearer to 0 is the one taken apart, if it has two digits of which none is 0.

    >>> products(17, 22753), products(22753, 20)
    ((159271, 227530, 386801), (455060,))
    """
    number, factor = _apart(left, right)
    if not 10 < abs(factor) < 100 or factor % 10 == 0:
        return (left * right,)
    units = abs(factor) % 10 * (1 if factor > 0 else -1)
    return number * units, number * (factor - units), left * right


def multiple(left: int, right: int) -> int | None:
    """What a product by 20, 30 ... is before its zero; None for other factors.

    >>> multiple(22753, 20), multiple(22753, 10), multiple(22753, 7)
    (45506, None, None)
    """
    number, factor = _apart(left, right)
    return number * factor // 10 if 10 < abs(factor) < 100 and factor % 10 == 0 else None


def _apart(left: int, right: int) -> tuple[int, int]:
    """A product's factors, last the one nearer to 0, which is taken apart."""
    return (right, left) if abs(left) < abs(right) else (left, right)


def write(values: Iterable[int]) -> str:
    """The values as they are printed, semicolons between them."""
    return SEPARATOR.join(map(str, values))


def reverse(trace: str) -> str:
    """A trace with the least significant digit of each value first, its sign last; then the answer.

    Carries run from the least significant digit, so each digit can be written when it is known.
    """
    values = trace.split(SEPARATOR)
    return SEPARATOR.join([*(value[::-1] for value in values), values[-1]])


def forward(written: str) -> str:
    """The trace of which `reverse` made this text.

    >>> forward("64;46")
    '46'
    """
    return SEPARATOR.join(value[::-1] for value in written.split(SEPARATOR)[:-1])


def complement(value: int, num_digits: int = 1) -> str:
    """A value, least significant digit first; a negative one as ten's complement, its sign behind.

    So a difference is written without knowing which number is the larger, as a machine computes it.

    >>> complement(386801), complement(-12342), complement(-5), complement(-5, num_digits=3)
    ('108683', '85678-', '5-', '599-')

    Args:
        value: any.
        num_digits: with leading digits up to so many.
    """
    num_digits = max(num_digits, len(str(abs(value))))
    return f"{value % 10**num_digits:0{num_digits}}"[::-1] + "-" * (value < 0)


def register_trace(steps: Iterable[Step]) -> str:
    """All that a machine would hold in its registers, in complements, each with its mark behind it.

    A semicolon stands behind a value, and before it the variable that holds it, if any; its
    relation to 0 behind a comparison; a colon behind the counter of a loop; a star
    behind a multiple that a zero makes the product.

    >>> register_trace([Step(-59665, "comparison"), Step(29985, "choice")])
    '53304<58992;'
    """
    return "".join(map(_write_register, steps))


def _write_register(step: Step) -> str:
    longest = step.operands if step.kind in _WITH_LEADING else ()
    written = complement(step.value, max((len(str(abs(value))) for value in longest), default=1))
    if step.kind == COUNTER:
        return written + ":"
    if step.kind == MULTIPLE:
        return written + "*"
    if step.kind == COMPARISON:  # The relation tells the sign.
        return written.rstrip("-") + RELATIONS[(step.value > 0) - (step.value < 0)]
    return step.name + written + SEPARATOR


def from_registers(written: str) -> str:
    """The trace of which `register_trace` made this text; what is no complement stays as it is.

    >>> from_registers("53304<58992;85678-;-12342")
    '29985;-12342'
    """
    return SEPARATOR.join(map(_signed, values_alone(written).split(SEPARATOR)[:-1]))


def values_alone(written: str) -> str:
    """A text of `register_trace` without multiples, comparisons, counters and names.

    >>> values_alone("2:32<51;e21-;")
    '51;21-;'
    """
    return re.sub("[0-9]*-?[*:<=>]|[a-z]", "", written)


def _signed(written: str) -> str:
    # Of as many digits as Python makes a number of at most.
    found = re.fullmatch("([0-9]{1,4300})(-?)", written)
    if not found:
        return written
    digits, sign = found.groups()
    return str(int(digits[::-1]) - (10 ** len(digits) if sign else 0))
