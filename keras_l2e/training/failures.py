"""Where the work of wrong answers goes wrong first.

    >>> steps = [Step(124115, "round", 1), Step(189922, "round", 2)]
    >>> first_wrong("124115;199922", steps)
    Failure(step='round', fault='digit', turn=2, digit=5)

What follows a wrong step follows from it, so the first one says what has not been learnt.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from keras_l2e.language.traces import SEPARATOR, Step


class Failure(NamedTuple):
    """The first wrong step of a work.

    Attributes:
        step: the `traces.Step.kind` that was due, "end" behind the last one, "answer" where all the
            work is right.
        fault: "left out", a later step's value stands there; "ended", nothing does; "went on", a
            value too many; "sign"; "digit".
        turn: the round of a loop; 0 outside of loops.
        digit: the first wrong digit, 1 being the least significant; 0 for other faults.
    """

    step: str
    fault: str
    turn: int = 0
    digit: int = 0


def first_wrong(work: str, steps: Sequence[Step]) -> Failure:
    """Finds it.

    Args:
        work: the trace as a network wrote it, most significant digits first.
        steps: the true one.
    """
    later = [str(step.value) for step in steps]
    for value, step in itertools.zip_longest(work.split(SEPARATOR) if work else [], steps):
        if step is None:
            return Failure("end", "went on")
        due, *later = later
        if value is None:
            return Failure(step.kind, "ended", step.turn)
        if value == due:
            continue
        if value in later:
            return Failure(step.kind, "left out", step.turn)
        if value.lstrip("-") == due.lstrip("-"):
            return Failure(step.kind, "sign", step.turn)
        pairs = itertools.zip_longest(reversed(value.lstrip("-")), reversed(due.lstrip("-")))
        digit = next(i for i, (a, b) in enumerate(pairs, start=1) if a != b)
        return Failure(step.kind, "digit", step.turn, digit)
    return Failure("answer", "digit")


def table(failures: Iterable[Failure]) -> list[dict]:
    """How often each step failed in which way, most often first.

    Returns:
        `step`, `fault`, `num_examples`, and how many of these at each `turns` and `digits`.
    """
    groups = defaultdict(list)
    for failure in failures:
        groups[failure.step, failure.fault].append(failure)
    rows = [
        {
            "step": step,
            "fault": fault,
            "num_examples": len(found),
            "turns": _count(failure.turn for failure in found),
            "digits": _count(failure.digit for failure in found),
        }
        for (step, fault), found in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row["num_examples"], row["step"], row["fault"]))


def _count(numbers: Iterable[int]) -> dict[str, int]:
    """How often each number but 0 occurs; names are texts, as in JSON."""
    counts = Counter(number for number in numbers if number)
    return {str(number): counts[number] for number in sorted(counts)}
